"""What a training step says of the values of each layer: mean, deviation, and how many rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from netspec.codegen.builder import Builder
from netspec.codegen.lower import Lowered
from netspec.codegen.watch import Dependent
from netspec.ir.graph import Value
from netspec.ir.layer import Layer, Role
from netspec.ir.net import Net, Node
from netspec.ir.phrases import affine

_FLAT = sqrt(0.95)
"""|tanh| beyond which its slope is below 5 % of that at 0; of a sigmoid, |2·y - 1|."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A blob of the net as a layer makes it, before another overwrites it in place."""

    node: Node
    top: int
    number: int

    def measure(self, what: str) -> str:
        """What the step calls a measure of it; no blob has such a name."""
        return f"#{self.number}.{what}"

    @property
    def rests(self) -> str | None:
        """What its values are that let no gradient through: `dead`, `saturated`; None if none do.

        Dead is a unit, a channel as a rule, that is 0 for the whole batch.
        """
        return _rests(self.node.layer)


class Moments:
    """Of the inputs that are numbers, and of what the hidden layers make: `mean`, `deviation` and
    `resting`, and of their gradients the first two."""

    def __init__(self, net: Net, dependent: Dependent) -> None:
        """`dependent` is `autodiff.dependent`, which stands beside this floor."""
        self._dependent = dependent
        spots = [
            (node, i)
            for node in net.nodes
            if node.layer.role in (Role.INPUT, Role.HIDDEN, Role.SOURCE)
            for i, type in enumerate(node.top_types)
            if type.dtype == "float32"
        ]
        self.watched = tuple(Watched(node, top, number) for number, (node, top) in enumerate(spots))
        self._values: list[Value] = []
        self._pulled: list[Watched] = []

    def values(self, lowered: Lowered, wrt: Sequence[Value]) -> list[Value]:
        """What has a gradient beside `wrt`."""
        self._values = [
            lowered.inputs[spot.node.tops[spot.top]]
            if spot.node.layer.role is Role.INPUT
            else lowered.made[spot.node.name][spot.top]
            for spot in self.watched
        ]
        active = self._dependent(lowered.op.ops, wrt)
        pairs = list(zip(self.watched, self._values, strict=True))
        self._pulled = [spot for spot, value in pairs if value in active]
        return [value for _, value in pairs if value in active]

    def numbers(
        self,
        op: Builder,
        pulled: Sequence[Value | None],
        parameters: Mapping[str, Value | None],  # noqa: ARG002 for others
    ) -> dict[str, Value]:
        """A scalar for each measure, given the gradients of `values`."""
        found: dict[str, Value] = {}
        tensors = [
            *(("", spot, x) for spot, x in zip(self.watched, self._values, strict=True)),
            *(("gradient_", spot, x) for spot, x in zip(self._pulled, pulled, strict=True)),
        ]
        for prefix, spot, x in tensors:
            if x is None:
                continue
            mean, deviation = _moments(op, x)
            found[spot.measure(f"{prefix}mean")] = mean
            found[spot.measure(f"{prefix}deviation")] = deviation
            if spot.rests and not prefix:
                found[spot.measure("resting")] = _resting(op, x, spot.node.layer)
        return found


def _rests(layer: Layer) -> str | None:
    if layer.keyword in ("tanh", "sigmoid"):
        return "saturated"
    leaky = getattr(layer, "negative_slope", 0)
    return "dead" if layer.keyword in ("relu", "relu6") and not leaky else None


def _resting(op: Builder, x: Value, layer: Layer) -> Value:
    """The share of units that are dead, or of values that are saturated."""
    if _rests(layer) == "dead":
        others = [axis for axis in range(len(x.type.shape)) if axis != 1]
        at_rest = op.LessOrEqual(op.ReduceMax(x, op.ints(*others), keepdims=0), op.scalar(0))
    else:
        y = affine(op, x, 2, -1) if layer.keyword == "sigmoid" else x
        at_rest = op.Greater(op.Abs(y), op.scalar(_FLAT))
    share: Value = op.ReduceMean(op.Cast(at_rest, to="float32"), keepdims=0)
    return share


def _moments(op: Builder, x: Value) -> tuple[Value, Value]:
    """Mean and standard deviation over all values."""
    mean = op.ReduceMean(x, keepdims=0)
    off = op.Sub(x, mean)
    return mean, op.Sqrt(op.ReduceMean(op.Mul(off, off), keepdims=0))
