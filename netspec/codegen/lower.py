"""Net to operators: each layer's `lower` in turn, checked against its `infer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netspec.codegen.builder import Builder
from netspec.codegen.mixing import Mixed
from netspec.diagnostics import NetspecError, UsageError
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
    made: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """What each layer made, in the order of its tops."""
    randoms: dict[str, Value] = field(default_factory=dict)
    """Tensors uniform in [0, 1) that layers asked for, by `<layer>` or `<layer>.<n>`."""
    observed: dict[str, Observation] = field(default_factory=dict)
    """What the batch says of each statistic, by net-wide name."""
    losses: dict[str, tuple[Value, float]] = field(default_factory=dict)
    """Scalar losses by top, with their weights."""
    metrics: dict[str, Value] = field(default_factory=dict)
    """Scalar metrics by top."""
    mixed: Mixed | None = None
    """The second value of what hangs on a label, where samples are mixed."""

    def shared(self, blob: str) -> Value:
        """What a blob is worth: of two values of a mixed batch, each its share."""
        value = self.blobs[blob]
        return self.mixed.shared(blob, value) if self.mixed else value


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


def lower(
    net: Net,
    op: Builder | None = None,
    fed: Mapping[str, Value] | None = None,
    mixed: Mixed | None = None,
) -> Lowered:
    """The operators of `net`.

    `fed` gives values for input blobs that the graph computes itself (a gathered, normalised
    batch); the others become inputs of the graph. Where `mixed` has a second label, what reads it
    is computed for both. NetspecError if a layer cannot be run.
    """
    _check_obstacles(net)
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
        mixed=mixed,
    )
    lowered.blobs.update(inputs)
    for node in net.nodes:
        if node.layer.role is not Role.INPUT:
            _lower_node(net, node, lowered)
    return lowered


def _check_obstacles(net: Net) -> None:
    """A NetspecError with the first layer that is counted but never run."""
    met = [(node.name, node.layer.obstacle) for node in net.nodes if node.layer.obstacle]
    if met:
        (name, obstacle), *others = met
        more = f"; the same goes for {len(others)} more" if others else ""
        raise NetspecError(f"`{name}` {obstacle}: netspec counts it but does not run it{more}")


def _lower_node(net: Net, node: Node, lowered: Lowered) -> None:
    mixed, others = lowered.mixed, None
    tops = _tops(net, node, lowered, lowered.blobs)
    if mixed is not None and mixed.reads(node):
        others = _tops(net, node, lowered, {**lowered.blobs, **mixed.others})
    lowered.made[node.name] = tuple(tops)
    for i, (name, value, type) in enumerate(zip(node.tops, tops, node.top_types, strict=True)):
        assert value.type == type, f"{node.name}: infer says {type}, ONNX says {value.type}"
        lowered.blobs[name] = value
        if mixed is not None:
            mixed.keep(name, others[i] if others else None)
    for name, weight in node.weighed:
        lowered.losses[name] = (lowered.shared(name), weight)
    if node.layer.role is Role.METRIC:
        lowered.metrics[node.tops[0]] = lowered.shared(node.tops[0])


def _tops(net: Net, node: Node, lowered: Lowered, blobs: Mapping[str, Value]) -> tuple[Value, ...]:
    """What a layer makes of blobs."""
    training = net.phase is Phase.TRAIN and not node.frozen
    context = LayerContext(lowered.op, training, node, lowered)
    op = lowered.op
    read = [blobs[b] for b in node.bottoms]
    try:
        with op.scope(node.name):
            bottoms = [_read(op, b, t) for b, t in zip(read, node.bottom_types, strict=True)]
            if net.phase is Phase.TRAIN:
                bottoms = [
                    x if node.propagates(i) else op.StopGradient(x) for i, x in enumerate(bottoms)
                ]
            weights = [reshape(op, lowered.parameters[p.name], *p.shape) for p in node.parameters]
            return node.layer.lower(context, bottoms, weights)
    except ShapeError as error:  # what one phase alone refuses, such as a variance over one cell
        raise UsageError(f"layer `{node.name}`: {error}") from None


def _read(op: Builder, blob: Value, type: TensorType) -> Value:
    """The blob as the layer takes it: labels where it holds numbers, or numbers of labels."""
    cast: Value = blob if blob.type == type else op.Cast(blob, to=type.dtype)
    return cast
