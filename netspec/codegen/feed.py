"""What a batch feeds the net: the samples gathered from whole arrays, and transformed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from netspec.codegen.builder import Builder
from netspec.codegen.simplify import prune
from netspec.codegen.transform import Transforming
from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Value, consumers
from netspec.ir.label_images import label_images, outer_label
from netspec.ir.layer import Phase
from netspec.ir.measured import read_beside
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType, size


@dataclass(frozen=True)
class Feed:
    """The values of the net's inputs, and what they are made of."""

    arrays: Mapping[str, Value]
    """The whole arrays of the data set, by blob."""
    indices: Value
    """Which samples make the batch, int64."""
    values: Mapping[str, Value]
    """What the net is fed, by blob."""
    randoms: Mapping[str, Value]
    """Tensors to fill with uniform numbers from [0, 1), by lot."""


def feed(op: Builder, net: Net, data: Mapping[str, TensorType], transform: Transform) -> Feed:
    """Gather the samples that `indices` names and treat them as `transform` says.

    `data` are the types of the data set's whole arrays, by blob; what the transform
    reads beside them, such as a mean image, are arrays, too.
    """
    indices = op.input("indices", TensorType((net.batch,), "int64"))
    measured = {name: op.input(name, data[name]) for name in read_beside(net, transform)}
    arrays = dict(measured)
    order = (net.data.channel_order if net.data else None) or "RGB"
    training = net.phase is Phase.TRAIN
    transforming = Transforming(op, transform, training, measured, order=order)
    fed: dict[str, Value] = {}
    transformed, labels = net.transformed, label_images(net)
    if training and transform.moves:
        _check_still(net)
    for name, type in net.inputs.items():
        arrays[name] = array = op.input(name, data[name])
        with op.scope(name):
            x = op.Gather(array, indices, axis=0)
            if name in transformed:
                x = transforming(name, x)
            elif name in labels:
                x = transforming.labels(x, outer_label(net, name))
            elif x.type.dtype != type.dtype:
                x = op.Cast(x, to=type.dtype)
        assert x.type == type, f"{name}: the data give {x.type}, the net wants {type}"
        fed[name] = x
    return Feed(arrays, indices, fed, transforming.lots.randoms)


def _check_still(net: Net) -> None:
    """Refuse what lies over the images, as a depth map does, and would not move with them."""
    images = [net.inputs[name].sample for name in net.transformed]
    for name, type in net.inputs.items():
        beside = name not in net.transformed and type.dtype == "float32"
        if beside and len(type.sample) == 3 and type.sample[1:] in {i[1:] for i in images}:
            raise UsageError(
                f"transform: `{name}` of {size(type.sample)} lies over images of "
                f"{size(images[0])}, and does not move with them: only labels and images of the "
                "same shape do"
            )


@dataclass(frozen=True)
class FeedGraph:
    """The first part of a training step alone: the images that the net is fed, by blob."""

    graph: Graph
    names: Mapping[Value, str]
    """What the model calls its inputs and outputs: blobs in, `fed:` and the blob out."""
    randoms: Mapping[str, Value]


def feed_graph(net: Net, data: Mapping[str, TensorType]) -> FeedGraph:
    """What the net's data section makes of its images."""
    op = Builder()
    assert net.data is not None
    made = feed(op, net, data, net.data.transform)
    outputs = {name: op.Identity(made.values[name]) for name in net.transformed}
    graph = prune(op.graph(tuple(outputs.values()), name=net.name))
    read = consumers(graph.ops)
    graph = replace(graph, inputs=tuple(value for value in graph.inputs if value in read))
    names = {
        **{value: name for name, value in made.arrays.items()},
        **{value: f"random:{name}" for name, value in made.randoms.items()},
        **{value: f"fed:{name}" for name, value in outputs.items()},
        made.indices: "indices",
    }
    return FeedGraph(graph, names, made.randoms)
