"""Net to operators: each layer's `lower` in turn, checked against its `infer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netspec.codegen.builder import Builder
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.layer import Phase, Role, ShapeError
from netspec.ir.net import Net, Node
from netspec.ir.phrases import reshape
from netspec.ir.types import Shape, TensorType


@dataclass(frozen=True, slots=True)
class Observation:
    """A batch's value of a statistic, and the share with which it enters the running one."""

    batch: Value
    fraction: float


@dataclass
class Lowered:
    """A net as operators: what is fed, what is learned, what each blob became."""

    op: Builder
    inputs: dict[str, Value]
    """The fed blobs, `label` included."""
    parameters: dict[str, Value]
    """Learned tensors by their net-wide name."""
    statistics: dict[str, Value]
    """Running statistics by their net-wide name, as read by this phase."""
    blobs: dict[str, Value] = field(default_factory=dict)
    """The last value of each blob."""
    randoms: dict[str, Value] = field(default_factory=dict)
    """Tensors uniform in [0, 1) that layers asked for, by `<layer>` or `<layer>.<n>`."""
    observed: dict[str, Observation] = field(default_factory=dict)
    """What the batch says of each statistic, by net-wide name."""
    losses: dict[str, tuple[Value, float]] = field(default_factory=dict)
    """Scalar losses by top, with their weights."""
    stopped: set[Value] = field(default_factory=set)
    """Values through which no gradient goes back."""
    metrics: dict[str, Value] = field(default_factory=dict)
    """Scalar metrics by top."""


@dataclass
class LayerContext:
    """What one layer may ask for while it is lowered (`ir.layer.Context`)."""

    op: Builder
    training: bool
    node: Node
    lowered: Lowered

    def random(self, shape: Shape) -> Value:
        """A fed float32 tensor, uniform in [0, 1)."""
        taken = sum(n.split("#")[0] == self.node.name for n in self.lowered.randoms)
        name = f"{self.node.name}#{taken}" if taken else self.node.name
        value = self.op.input(f"random:{name}", TensorType(shape))
        self.lowered.randoms[name] = value
        return value

    def statistic(self, name: str) -> Value:
        """The running value, an input of the graph."""
        return self.lowered.statistics[f"{self.node.name}.{name}"]

    def observe(self, name: str, batch: Value, fraction: float) -> None:
        """Record a batch's value, for the update graph to fold."""
        self.lowered.observed[f"{self.node.name}.{name}"] = Observation(batch, fraction)


def lower(net: Net, op: Builder | None = None, fed: Mapping[str, Value] | None = None) -> Lowered:
    """The operators of `net`.

    `fed` gives values for input blobs that the graph computes itself (a gathered, normalised
    batch); the others become inputs of the graph.
    """
    op = op or Builder()
    given = fed or {}
    inputs = {
        name: given[name] if name in given else op.input(name, type)
        for name, type in net.inputs.items()
    }
    lowered = Lowered(
        op,
        inputs,
        {p.name: op.input(p.name, TensorType(p.shape)) for p in net.parameters},
        {n: op.input(n, TensorType(s.shape)) for n, s in net.statistics.items()},
    )
    lowered.blobs.update(inputs)
    for node in net.nodes:
        if node.layer.role is not Role.INPUT:
            _lower_node(net, node, lowered)
    return lowered


def _lower_node(net: Net, node: Node, lowered: Lowered) -> None:
    context = LayerContext(lowered.op, net.phase is Phase.TRAIN, node, lowered)
    blobs = [lowered.blobs[b] for b in node.bottoms]
    try:
        with lowered.op.scope(node.name):
            bottoms = [_read(lowered, node, place, blob) for place, blob in enumerate(blobs)]
            tops = node.layer.lower(context, bottoms, _weights(lowered, node))
    except ShapeError as error:  # what one phase alone refuses, such as a variance over one cell
        raise UsageError(f"layer `{node.name}`: {error}") from None
    for name, value, type in zip(node.tops, tops, node.top_types, strict=True):
        assert value.type == type, f"{node.name}: infer says {type}, ONNX says {value.type}"
        lowered.blobs[name] = value
    for name, weight in node.weighed:
        lowered.losses[name] = (lowered.blobs[name], weight)
    if node.layer.role is Role.METRIC:
        lowered.metrics[node.tops[0]] = tops[0]


def _weights(lowered: Lowered, node: Node) -> list[Value]:
    """The layer's weights, in its shapes: one that is shared may be kept in another."""
    wanted = node.layer.weights(node.bottom_types)
    return [
        reshape(lowered.op, lowered.parameters[p.name], *weight.shape)
        for p, weight in zip(node.parameters, wanted, strict=True)
    ]


def _read(lowered: Lowered, node: Node, place: int, blob: Value) -> Value:
    """The blob as the layer takes it: numbers read as labels or labels as numbers, or cut off."""
    op, dtype = lowered.op, node.bottom_types[place].dtype
    value: Value = blob if blob.type.dtype == dtype else op.Cast(blob, to=dtype)
    if node.propagate_down and not node.propagate_down[place]:
        value = op.Identity(value)
        lowered.stopped.add(value)
    return value
