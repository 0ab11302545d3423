"""What is said of a field that its message does not have: what was meant, or where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from netspec.caffe.schema import MessageType, layer_types, schema
from netspec.diagnostics import suggest
from netspec.grammar.ast import Field, Message, String

_BLOCK: Final = "_param"
"""The ending of most fields of a layer: it makes no two of them alike."""


class Around(NamedTuple):
    """A message that is being read."""

    what: str
    """What faults call it."""
    kind: MessageType
    message: Message


def close_to(key: str, known: Sequence[str]) -> str:
    """``; did you mean `pooling_param`?`` if a known field is close, else nothing."""
    if not key.endswith(_BLOCK):
        return suggest(key, known)
    stems = [name.removesuffix(_BLOCK) for name in known if name.endswith(_BLOCK)]
    return suggest(key.removesuffix(_BLOCK), stems).replace("`?", f"{_BLOCK}`?")


def home_of(key: str, around: Sequence[Around]) -> str | None:
    """Where a field belongs that stands in the last of `around`, a chain of messages."""
    *outer, (_, kind, message) = around
    for what, other, _ in reversed(outer):
        if key in other.fields:
            return f"`{key}` is a field of {what}: is a `}}` missing above?"
    if kind.name == "LayerParameter":
        for block in _blocks(message):
            if key in schema().messages[kind.fields[block].type].fields:
                return f"`{key}` is a field of `{block}`"
    return None


def _blocks(layer: Message) -> tuple[str, ...]:
    """The parameter messages that a layer of this type reads."""
    for item in layer.fields("type"):
        if isinstance(item, Field) and isinstance(item.value, String):
            known = layer_types().get(item.value.value)
            return known.blocks if known else ()
    return ()
