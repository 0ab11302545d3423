"""Caffe's schema: what each message, field, enum and layer type is, read from `tables/`.

A table has one line per field, name and type first; `*` marks a repeated one:

    message PoolingParameter
      pool        PoolMethod = MAX
      kernel_size uint32
    enum PoolMethod MAX AVE STOCHASTIC

An enum's words count from 0, unless told otherwise; a second line of it goes on. What follows
`fork NAME` is not BVLC's: it adds to the messages and enums of the same name, and the numbers of
its words are unknown, since forks use the same ones for different words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from netspec.diagnostics import suggest

_TABLES = ("net", "layers", "data", "solver", "legacy", "forks")
_SCALARS = frozenset({"int32", "uint32", "int64", "float", "double", "bool", "string"})


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field of a message."""

    name: str
    type: str
    """A scalar type of protobuf, or the name of an enum or a message."""
    repeated: bool = False
    required: bool = False
    default: int | float | bool | str | None = None
    """The value of a field that is left out; for an enum, its word. None if Caffe states none."""
    deprecated: str | None = None
    """What took its place."""
    fork: str | None = None
    """The fork that has it, None for BVLC."""


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message and its fields, in Caffe's order."""

    name: str
    fields: Mapping[str, FieldType]
    required: tuple[str, ...] = ()
    """The names of the fields that must be given."""


@dataclass(frozen=True, slots=True)
class EnumType:
    """An enum: its words and their numbers."""

    name: str
    words: Mapping[str, int | None]
    """The number of a fork's word is None."""
    forks: Mapping[str, str]
    """The fork of each word that is not BVLC's."""

    def word(self, number: int) -> str | None:
        """The word of this number."""
        return next((word for word, known in self.words.items() if known == number), None)


@dataclass(frozen=True, slots=True)
class LayerType:
    """A layer type: what `type: "…"` names."""

    name: str
    v1: str | None
    """The word that named it in `layers`."""
    blocks: tuple[str, ...]
    """The parameter messages that it reads, its own first."""
    in_place: bool
    """False if it refuses a top in the place of its bottom."""
    fork: str | None = None
    """The fork that has it, None for BVLC."""


@dataclass(frozen=True, slots=True)
class Schema:
    """All messages and enums by name."""

    messages: Mapping[str, MessageType]
    enums: Mapping[str, EnumType]


@cache
def schema() -> Schema:
    """The schema of BVLC's Caffe at its last commit, and what forks add to it."""
    messages: dict[str, dict[str, FieldType]] = {}
    enums: dict[str, _Words] = {}
    for table in _TABLES:
        fields: dict[str, FieldType] = {}
        fork = None
        for word, rest in _lines(table):
            if word == "fork":
                fork = rest
            elif word == "message":
                fields = messages.setdefault(rest, {})
            elif word == "enum":
                _add_words(enums, rest.split(), fork)
            else:
                assert word not in fields, f"{word} stands twice in a message"
                fields[word] = _field(word, rest.split(), fork)
    return Schema(
        {name: _message(name, fields) for name, fields in messages.items()},
        {name: EnumType(name, *words) for name, words in enums.items()},
    )


@cache
def layer_types() -> Mapping[str, LayerType]:
    """Caffe's layer types by name: BVLC's 61, and those of widespread forks."""
    types: dict[str, LayerType] = {}
    fork = None
    for word, rest in _lines("types"):
        if word == "fork":
            fork = rest
            continue
        v1, *blocks = rest.split()
        apart = blocks[-1:] == ["apart"]
        read = tuple(blocks[: len(blocks) - apart])
        assert word not in types, f"{word} stands twice"
        types[word] = LayerType(word, None if v1 == "-" else v1, read, not apart, fork)
    return types


@cache
def v1_types() -> Mapping[str, str]:
    """The word of each type in V1 `layers` → its name, in the order of their numbers from 1 on."""
    own = {kind.v1: name for name, kind in layer_types().items() if kind.v1 and not kind.fork}
    words = schema().enums["V1LayerType"].words
    numbered = sorted((number, word) for word, number in words.items() if number and word in own)
    return {word: own[word] for _, word in numbered}


@cache
def layer_type_of_v1(word: str) -> LayerType | None:
    """The layer type that a V1 word named, such as `SOFTMAX_LOSS`."""
    return next((kind for kind in layer_types().values() if kind.v1 == word), None)


def suggest_layer_type(name: str) -> str:
    """``; did you mean `Convolution`?`` if a known layer type is close, else nothing."""
    folded = {known.lower(): known for known in layer_types()}
    exact = folded.get(name.lower().replace("_", ""))
    return f"; did you mean `{exact}`?" if exact else suggest(name, layer_types())


class _Words(NamedTuple):
    """An enum as it is read: its words with their numbers, and the forks of some."""

    numbers: dict[str, int | None]
    forks: dict[str, str]


def _lines(table: str) -> Iterator[tuple[str, str]]:
    """The first word of each line, and the rest."""
    text = files("netspec.caffe").joinpath("tables", f"{table}.txt").read_text("utf-8")
    for line in text.splitlines():
        if line and line[0] != "#":
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


def _message(name: str, fields: dict[str, FieldType]) -> MessageType:
    required = tuple(field.name for field in fields.values() if field.required)
    return MessageType(name, fields, required)


def _field(name: str, words: list[str], fork: str | None) -> FieldType:
    """`["int32*"]` or `["uint32", "=", "1", "deprecated", "axis"]` as a field."""
    kind, *more = words
    default = deprecated = None
    if "deprecated" in more:
        deprecated = more[more.index("deprecated") + 1]
    type_name = kind.removesuffix("*")
    if "=" in more:
        default = _default(type_name, more[more.index("=") + 1])
    repeated, required = kind.endswith("*"), "required" in more
    return FieldType(name, type_name, repeated, required, default, deprecated, fork)


def _default(kind: str, text: str) -> int | float | bool | str:
    if kind == "bool":
        return text == "true"
    if kind in ("float", "double"):
        return float(text)
    return int(text) if kind in _SCALARS and kind != "string" else text.strip('"')


def _add_words(enums: dict[str, _Words], words: list[str], fork: str | None) -> None:
    """`["HingeNorm", "L1=1", "L2"]`: the enum's words, added to those that it has."""
    name, *entries = words
    own = fork is None or name not in enums
    numbers, forks = enums.setdefault(name, _Words({}, {}))
    last = next(reversed(numbers.values()), -1)
    for entry in entries:
        word, _, number = entry.partition("=")
        assert word not in numbers, f"{name}.{word} stands twice"
        last = None if not own or last is None else int(number) if number else last + 1
        numbers[word] = last
        if fork:
            forks[word] = fork
