"""The inference graph of a deployed net, and the model that is written from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.lower import Lowered, lower
from netspec.codegen.simplify import prune, simplify
from netspec.codegen.transform import Transforming
from netspec.diagnostics import NetspecError
from netspec.ir.graph import Graph, Op, Value
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType

Arrays = Mapping[str, npt.NDArray[Any]]

MAX_BYTES = 2**31 - 2**24
"""Weights that a model holds: protobuf ends at 2 GiB, and the operators want their share."""


@dataclass(frozen=True)
class Inference:
    """A deployed net as operators."""

    graph: Graph
    lowered: Lowered
    inputs: Mapping[str, Value]
    """What is fed, by blob."""
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Embedded:
    """A transform that the model carries out itself, and what it is then fed."""

    transform: Transform
    stored: Mapping[str, TensorType]
    """The types of the images before the transform, by blob."""
    measured: Arrays = field(default_factory=dict)
    """What the transform reads beside the images, by the names of `ir.measured`."""


def inference_graph(
    net: Net, outputs: Sequence[str], embedded: Embedded | None = None
) -> Inference:
    """Net → operators, as lowered: nothing simplified yet but what leads nowhere is gone."""
    op = Builder()
    inputs = {
        name: op.input(name, embedded.stored.get(name, type) if embedded else type)
        for name, type in net.inputs.items()
    }
    lowered = lower(net, op, _transformed(op, inputs, embedded) if embedded else inputs)
    values = [lowered.blobs[name] for name in outputs]
    fed = {*inputs.values(), *lowered.inputs.values()}
    for i, (name, value) in enumerate(zip(outputs, values, strict=True)):
        if value in fed or value in values[:i]:
            with lowered.op.scope(name):
                values[i] = lowered.op.Identity(value)
            lowered.blobs[name] = values[i]
    graph = prune(lowered.op.graph(values, name=net.name))
    needed = {v for op in graph.ops for v in op.inputs} | set(graph.outputs)
    entering = tuple(v for v in graph.inputs if v in fed or v in needed)
    return Inference(replace(graph, inputs=entering), lowered, inputs, tuple(outputs))


def _transformed(op: Builder, inputs: Mapping[str, Value], embedded: Embedded) -> dict[str, Value]:
    """What the net reads, by blob: crops are of the middle, and nothing is flipped."""
    measured = {name: op.constant(array) for name, array in embedded.measured.items()}
    transforming = Transforming(op, embedded.transform, False, measured, drawn=False)
    made = dict(inputs)
    for name in embedded.stored:
        with op.scope(name):
            made[name] = transforming(name, inputs[name])
    return made


def inference_model(
    inference: Inference,
    weights: Arrays,
    *,
    simplified: bool = True,
    fixed_batch: bool,
    metadata: Mapping[str, str] | None = None,
    check: bool = False,
) -> onnx.ModelProto:
    """Operators → model with the weights inside; blobs keep their names.

    `weights` holds parameters and statistics by name; every one of the net's must be there.
    """
    lowered = inference.lowered
    graph = simplify(inference.graph) if simplified else inference.graph
    learned = {**lowered.parameters, **lowered.statistics}
    present = {name: value for name, value in learned.items() if value in graph.inputs}
    names = {value: name for name, value in inference.inputs.items()}
    names.update({lowered.blobs[name]: name for name in inference.outputs})
    for name, value in [*present.items(), *lowered.blobs.items()]:
        names.setdefault(value, name)
    fed = frozenset(inference.inputs.values())
    batched = frozenset() if fixed_batch else fed | {v for v in graph.outputs if v.type.shape}
    return emit(
        graph,
        names=_unique(names),
        initializers={value: weights[name] for name, value in present.items()},
        symbolic_batch=batched,
        metadata=metadata,
        check=check,
    )


def _unique(names: Mapping[Value, str]) -> dict[Value, str]:
    """A blob may be called as a weight is: inputs and outputs keep their names first of all."""
    taken: set[str] = set()
    kept: dict[Value, str] = {}
    for value, name in names.items():
        if name not in taken:
            kept[value] = name
            taken.add(name)
    return kept


def check_batch_free(one: Inference, other: Inference) -> None:
    """Refuse a net whose operators hang on the batch size: `one` and `other` are of two sizes.

    A symbolic batch is then proved: both sizes give the same operators, attributes and constants.
    """
    for a, b in zip_longest(one.graph.ops, other.graph.ops):
        if a is None or b is None:
            raise _batch_fault(a or b)
        if (a.op_type, dict(a.attrs)) != (b.op_type, dict(b.attrs)):
            raise _batch_fault(a)
        for x, y in zip(a.inputs, b.inputs, strict=True):
            first = one.graph.constants.get(x) if x is not None else None
            second = other.graph.constants.get(y) if y is not None else None
            if first is None or second is None:
                if (first is None) != (second is None):
                    raise _batch_fault(a)
            elif not np.array_equal(first, second):
                raise _batch_fault(a)
    for name, x, y in zip(one.outputs, one.graph.outputs, other.graph.outputs, strict=True):
        if x.type.sample != y.type.sample:
            message = f"`{name}` does not begin with the batch, and hangs on its size"
            raise NetspecError(f"{message}: fix it with --batch N")


def _batch_fault(op: Op) -> NetspecError:
    layer = op.name.rpartition("/")[0] or op.name
    return NetspecError(f"layer `{layer}` hangs on the batch size: fix it with --batch N")


def model_metadata(
    net: Net,
    source_hash: str,
    classes: Sequence[str],
    preprocessing: Mapping[str, Any],
    embedded: Mapping[str, Any] | None = None,
    measured: Arrays | None = None,
) -> dict[str, str]:
    """What a program that runs the model wants to know, as `metadata_props`.

    `preprocessing` is left to the program, `embedded` is in the model; of what either reads, such
    as a mean image, there is the SHA-256 of the values, float32 and little-endian. `names` is the
    JSON that consumers of image classifiers already read.
    """
    metadata = {
        "dev.netspec.name": net.name,
        "dev.netspec.source_sha256": source_hash,
        "dev.netspec.preprocessing": json.dumps(preprocessing, sort_keys=True),
    }
    if embedded is not None:
        metadata["dev.netspec.embedded_preprocessing"] = json.dumps(embedded, sort_keys=True)
    for name, array in (measured or {}).items():
        digest = sha256(array.astype("<f4").tobytes()).hexdigest()
        metadata[f"dev.netspec.{name.removeprefix('transform#')}_sha256"] = digest
    if classes:
        metadata["names"] = json.dumps({str(i): name for i, name in enumerate(classes)})
    return metadata
