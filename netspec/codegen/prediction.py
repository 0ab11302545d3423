"""A batch as a graph whose outputs are blobs of the deployed net: gather, transform, forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from netspec.codegen.builder import Builder
from netspec.codegen.formulate import formulate
from netspec.codegen.lower import lower
from netspec.codegen.simplify import simplify
from netspec.codegen.target import Target
from netspec.codegen.transform import Transforming
from netspec.codegen.views import averaged, repeated, viewed
from netspec.codegen.whitening import Measured, whitened
from netspec.ir.graph import Graph, Value, consumers
from netspec.ir.measured import read_beside
from netspec.ir.net import Net
from netspec.ir.phrases import cast_to
from netspec.ir.transform import MEAN, Transform
from netspec.ir.types import TensorType
from netspec.ir.views import PLAIN, Views


@dataclass(frozen=True)
class Prediction:
    """A pure graph over one batch, and what the model calls its inputs and outputs.

    Inputs are `indices`, `array:…`, `weight:…` and `running:…`, as far as anything reads them;
    outputs `blob:…`.
    """

    graph: Graph
    names: Mapping[Value, str]
    outputs: Mapping[str, Value]
    """The blobs that were asked for, batch axis first."""


def prediction_graph(
    net: Net,
    outputs: Sequence[str],
    data: Mapping[str, TensorType],
    transform: Transform,
    target: Target,
    views: Views = PLAIN,
) -> Prediction:
    """Blobs of one batch of a deployed net, as `target` computes them.

    `data` are the types of the data set's whole arrays, by blob; the graph gathers the samples
    named by `indices` and treats them as `transform` says, without drawing lots: crops are of the
    middle, and nothing is flipped. What that reads beside them, such as a mean image, are arrays,
    too.

    Of several `views` the batch of `net` is those of fewer samples, and each output their mean.
    """
    op = Builder()
    assert net.batch % len(views) == 0, (net.batch, len(views))
    indices = op.input("indices", TensorType((net.batch // len(views),), "int64"))
    arrays = {name: op.input(name, data[name]) for name in net.inputs}
    measured = {name: op.input(name, data[name]) for name in read_beside(net, transform)}
    lowered = lower(net, op, _fed(op, net, arrays, indices, transform, measured, views))
    arrays.update(measured)
    blobs = {name: lowered.blobs[name] for name in outputs}
    if len(views) > 1:
        blobs = {name: averaged(op, blob, len(views)) for name, blob in blobs.items()}
    made = {name: op.Identity(blob) for name, blob in blobs.items()}
    logical = simplify(op.graph(list(made.values()), name=net.name))
    formulated = formulate(logical, target)
    read = {*consumers(formulated.graph.ops), indices}
    graph = replace(formulated.graph, inputs=tuple(v for v in formulated.graph.inputs if v in read))
    left = {name: formulated.outputs[value] for name, value in made.items()}
    kinds = {
        "array": arrays, "weight": lowered.parameters, "running": lowered.statistics, "blob": left,
    }  # fmt: skip
    names = {v: f"{kind}:{name}" for kind, found in kinds.items() for name, v in found.items()}
    return Prediction(graph, {**names, indices: "indices"}, left)


def _fed(
    op: Builder,
    net: Net,
    arrays: Mapping[str, Value],
    indices: Value,
    transform: Transform,
    measured: Measured,
    views: Views,
) -> dict[str, Value]:
    """What each input gets: the samples of the batch, images transformed."""
    transforming = Transforming(op, transform, False, measured, drawn=False)
    channels = {name: value for name, value in measured.items() if name != MEAN}
    fed: dict[str, Value] = {}
    for name, type in net.inputs.items():
        with op.scope(name):
            x = op.Gather(arrays[name], indices, axis=0)
            if name not in net.transformed:
                x = x if x.type.dtype == type.dtype else op.Cast(x, to=type.dtype)
                x = repeated(op, x, len(views))
            elif views.plain:
                x = transforming(name, x)
            else:
                if transform.whiten:
                    x = whitened(op, cast_to(op, x, "float32"), measured)
                x = viewed(op, x, views, type.spatial, transform, transforming.mean)
                x = Transforming(op, _left(transform), False, channels, drawn=False)(name, x)
        assert x.type == type, f"{name}: the data give {x.type}, the net wants {type}"
        fed[name] = x
    return fed


def _left(transform: Transform) -> Transform:
    """What a transform has left to do with views: nothing but the arithmetic."""
    done: dict[str, object] = {
        "pad": 0, "crop_size": 0, "mirror": False, "mean_file": "", "resize": None,
    }  # fmt: skip
    if transform.whiten:
        done |= {"whiten": None, "scale": 1.0}  # the scale is in the matrix
    return transform.model_copy(update=done)
