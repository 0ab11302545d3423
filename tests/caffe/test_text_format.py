"""protobuf's own parser of the text format accepts and refuses the same files.

It gets BVLC's schema from our tables, so that only the reading is compared; what the tables say is
tested elsewhere. It is protobuf's parser in Python, which differs in a few places from the one in
C++ that Caffe uses; there, ours keeps to the latter.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from netspec.caffe.recognise import recognise
from netspec.caffe.schema import FieldType, schema
from netspec.caffe.validate import validate_caffe
from netspec.diagnostics import Diagnostics, Source, SpecErrors
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"
MUTATIONS = 3000

SEED = """
layer {
  name: 'conv1' type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1.5 } param: { lr_mult: 2e0 name: "w" share_mode: PERMISSIVE }
  convolution_param { num_output: 0x20 kernel_size: [3, 5] pad: 1 stride: 2 bias_term: false
    axis: -3 group: 010 engine: CUDNN weight_filler < type: "gaussian" std: .01 sparse: -1 > }
  include { phase: TRAIN min_level: -2 stage: "a" "b" not_stage: 'c' }
  loss_weight: 0.5; propagate_down: [true, f, 1, 0, True]
}
layer {
  type: "Pooling" pooling_param { pool: MAX round_mode: 1 global_pooling: t, pad_h: 0 }
  lrn_param { alpha: 1.5f beta: -inf k: nan norm_region: WITHIN_CHANNEL local_size: 5 }
  clip_param { min: -1. max: 1e+3 } hinge_loss_param { norm: L2 }
  reshape_param { shape { dim: 0 dim: -1 } num_axes: -1 }
}
"""
_VALUES = """
    0 1 2 7 -1 - 3.5 1.0 .5 5. 1e-3 1e3 010 08 0x1F 0X2f -0x3 1f 1.5f 10F true false True False t f
    TRUE inf -inf nan infinity Inf MAX AVE SUM DEFAULT CONVOLUTION TRAIN TEST "MAX" "1" 'x' "a" 'b'
    4294967295 4294967296 2147483648 -2147483648 -2147483649 [1,2] [] [1] [0.5] {} {num:1} <> 3x3
    1/255 (1) "\\303\\251" "\\x41" "\\u0041" 99999999999 1e39 00 007 0.0.1 in.x 1.5e10 1.e5 1E5f not
"""
_KEYS = """
    name type top bottom pad kernel_size stride num_output bias_term pool engine phase lr_mult dim
    shape weight_filler convolution_param pooling_param layer layers param include value stage
    force_backward input_dim base_lr xyzzy ceil_mode clip_param relu repeat let
"""
VALUES, KEYS = _VALUES.split(), _KEYS.split()
SIGNS = ["; ", ", ", ":", "{", "}", "<", ">", "[", "]", "#x\n", "-", '"', "\n", "\t", "\r\n", "'a'"]

_TOKEN = re.compile(
    r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[A-Za-z_]\w*|-?[0-9.][\w.+-]*|\#[^\n]*|\s+|."""
)
_LAYER = re.compile(r"(?m)^layers?\s*\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}")

PYTHONS = {
    "a comma after the last value of a list": re.compile(r",\s*\]"),
    "-0 for an unsigned field": re.compile(r"-\s*0"),
    "`10` for a float that is written 012": re.compile(r"\b0\d"),
    "a blank after a minus": re.compile(r"-\s"),
    "more than one zero for false": re.compile(r"\b0[0-7]"),
    "an enum's number beyond 32 bits, cut to them": re.compile(r"\d{10}"),
    "an unknown escape, kept as it is": re.compile(r"\\[^0-7xuUabfnrtv'\"?\\]"),
}
"""Where protobuf's Python differs from its C++, and a pattern of the text where it may."""


@cache
def theirs() -> dict[str, Any]:
    """protobuf's classes for a net and a solver, of BVLC's schema alone."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for enum in schema().enums.values():
        holder = file.message_type.add(name=f"Of{enum.name}")
        words = holder.enum_type.add(name=enum.name)
        for word, number in enum.words.items():
            if word not in enum.forks:
                words.value.add(name=word, number=number)
    for message in schema().messages.values():
        known = [field for field in message.fields.values() if field.fork is None]
        added = file.message_type.add(name=message.name)
        for number, field in enumerate(known, 1):
            _describe(added.field.add(name=field.name, number=number), field)
    for holder in [m for m in file.message_type if m.enum_type and not m.enum_type[0].value]:
        file.message_type.remove(holder)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("NetParameter", "SolverParameter")
    found = {name: pool.FindMessageTypeByName(f"caffe.{name}") for name in names}
    return {name: message_factory.GetMessageClass(found[name]) for name in names}


def _describe(added: Any, field: FieldType) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    if field.repeated:
        added.label = kinds.LABEL_REPEATED
    else:
        added.label = kinds.LABEL_REQUIRED if field.required else kinds.LABEL_OPTIONAL
    if field.type in schema().messages:
        added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{field.type}"
    elif field.type in schema().enums:
        added.type, added.type_name = kinds.TYPE_ENUM, f".caffe.Of{field.type}.{field.type}"
    else:
        added.type = getattr(kinds, f"TYPE_{field.type.upper()}")


def their_reading(text: str, message: str) -> bytes | None:
    """What protobuf reads, serialised; None if it refuses the text."""
    try:
        read = text_format.Parse(text, theirs()[message]())
    except text_format.ParseError:
        return None
    if not read.IsInitialized():  # which C++ asks for itself
        return None
    serialised: bytes = read.SerializeToString(deterministic=True)
    return serialised


def our_reading(text: str, message: str) -> tuple[str | None, str]:
    """The canonical text, or None and why we refuse it."""
    found = Diagnostics()
    try:
        tree = parse(Source("x.prototxt", text))
    except SpecErrors as errors:
        return None, errors.faults[0].message
    valid = validate_caffe(tree, message, lenient=False, diagnostics=found, bvlc_only=True)
    return (to_text(valid), "") if valid else (None, found.errors[0].message)


def mutated(tokens: list[str], choose: random.Random) -> list[str]:
    """One change: mostly another value of some field, else a token more, less or elsewhere."""
    tokens = list(tokens)
    at = [i for i, token in enumerate(tokens) if not token.isspace() and token[0] != "#"]
    valued = [i for i in at if i > 1 and "".join(tokens[i - 2 : i]).rstrip().endswith(":")]
    i, j = choose.choice(at), choose.choice(at)
    match choose.randrange(10):
        case 0:
            del tokens[i]
        case 1:
            colon = choose.choice([": ", " ", " { } ", ":{} "])
            tokens.insert(i, f" {choose.choice(KEYS)}{colon}{choose.choice(VALUES)} ")
        case 2:
            tokens[i] = choose.choice([*KEYS, *VALUES])
        case 3:
            tokens.insert(i, choose.choice(SIGNS))
        case 4:
            tokens[i], tokens[j] = tokens[j], tokens[i]
        case 5:
            start, end = min(i, j), min(max(i, j), min(i, j) + 12)
            tokens[start:start] = [*tokens[start:end], " "]
        case 6 | 7 | 8 if valued:
            value = choose.choice(valued)
            alike = [v for v in VALUES if _class(v) == _class(tokens[value])]
            tokens[value] = choose.choice(alike or VALUES)
        case _ if valued:
            tokens[choose.choice(valued)] = choose.choice(VALUES)
    return tokens


def _class(token: str) -> str:
    """What a token starts with: a letter, a digit or a quote."""
    return "a" if token[0].isalpha() else '"' if token[0] in "\"'" else "0"


def snippets() -> list[tuple[str, str]]:
    """Layers and solvers to change, with what they are."""
    found = [(layer, "NetParameter") for layer in _LAYER.findall(SEED)] * 20
    for path in sorted(CORPUS.rglob("*.prototxt")):
        text = path.read_text("utf-8-sig")
        if recognise(parse(Source(path.name, text))) == "solver":
            found.append((text, "SolverParameter"))
        else:
            found += [(layer, "NetParameter") for layer in _LAYER.findall(text)[:8]]
    return found


def test_the_seed_is_read_alike() -> None:
    canonical, why = our_reading(SEED, "NetParameter")
    assert canonical, why
    theirs = their_reading(SEED, "NetParameter")
    assert theirs is not None
    assert their_reading(canonical, "NetParameter") == theirs


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not there")
def test_real_files_mean_the_same_in_canonical_form() -> None:
    read = 0
    for path in sorted(CORPUS.rglob("*.prototxt")):
        text = path.read_text("utf-8-sig")
        kind = recognise(parse(Source(path.name, text)))
        message = "SolverParameter" if kind == "solver" else "NetParameter"
        (ours, _), theirs = our_reading(text, message), their_reading(text, message)
        assert (ours is None) == (theirs is None), path
        if ours is not None:
            assert their_reading(ours, message) == theirs, path
            read += 1
    assert read == 171


def test_mutated_files() -> None:
    choose, pool = random.Random(1), snippets()
    apart, accepted = Counter[str](), 0
    for _ in range(MUTATIONS):
        text, message = choose.choice(pool)
        tokens = _TOKEN.findall(text)
        for _ in range(choose.choice([1, 1, 2])):
            tokens = mutated(tokens, choose)
        text = "".join(tokens)
        (ours, why), theirs = our_reading(text, message), their_reading(text, message)
        accepted += theirs is not None
        if ours is not None and theirs is not None:
            assert their_reading(ours, message) == theirs, f"read otherwise\n{text}\n{ours}"
        elif ours is not None or theirs is not None:
            reasons = [name for name, pattern in PYTHONS.items() if pattern.search(text)]
            assert reasons, f"{'refused: ' + why if why else 'accepted'}\n{text}"
            apart[reasons[0]] += 1
    print(f"{MUTATIONS} texts, {accepted} accepted, protobuf's Python differs on {apart}")
    assert accepted > MUTATIONS / 10
    assert apart.total() < MUTATIONS / 50


@pytest.mark.parametrize(
    ("value", "field", "accepted"),
    [
        # what C++ refuses and Python reads
        ("-0", "convolution_param { pad: % }", False),
        ("[1, 2,]", "convolution_param { pad: % }", False),
        ("012", "lrn_param { alpha: % }", False),
        # what C++ reads and Python refuses
        ("- 1", "convolution_param { axis: % }", True),
        ("-\n1.5", "lrn_param { alpha: % }", True),
        ("00", "convolution_param { bias_term: % }", True),
    ],
)
def test_where_the_parsers_differ_ours_is_caffes(value: str, field: str, accepted: bool) -> None:
    text = f"layer {{ {field.replace('%', value)} }}"
    assert (our_reading(text, "NetParameter")[0] is not None) == accepted
