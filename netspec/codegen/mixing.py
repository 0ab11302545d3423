"""Mixup and CutMix as operators: samples mixed with others of their batch, losses with both labels.

x, y   →   x̂ = blend·x + (1 - blend)·x[partners] in a box;  loss = λ·L(y) + (1 - λ)·L(y[partners])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from netspec.codegen.builder import Builder
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.mixed import mixes, targets
from netspec.ir.net import Net, Node
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, TensorType


@dataclass(frozen=True)
class Mix:
    """What the host draws for a batch whose samples are mixed, and how."""

    mixup: float
    """α of mixup, 0 for none."""
    cutmix: float
    """α of CutMix, 0 for none."""
    batch: int
    extent: Shape
    """Height and width of the images, as the net gets them; empty without CutMix."""
    fed: Mapping[str, Value]
    """`partners`, int64; `share`, λ of the losses; `blend`, that of the pixels in the box, if some
    batches have mixup and some CutMix; `box` in images, its first row and column and those behind
    it."""


@dataclass
class Mixed:
    """A net's inputs mixed, and the second value of all that hangs on a label."""

    op: Builder
    mix: Mix
    inputs: dict[str, Value]
    """The mixed images, and the labels as they are."""
    others: dict[str, Value] = field(default_factory=dict)
    """What is computed of the partners' labels, by blob."""

    def reads(self, node: Node) -> bool:
        """Whether a layer hangs on a label, and is computed for both."""
        return any(blob in self.others for blob in node.bottoms)

    def keep(self, blob: str, other: Value | None) -> None:
        """Note a blob's second value; None if it has none."""
        self.others.pop(blob, None)
        if other is not None:
            self.others[blob] = other

    def shared(self, blob: str, value: Value) -> Value:
        """λ·value + (1 - λ)·other, or the value itself if it has no other."""
        if blob not in self.others:
            return value
        with self.op.scope(blob):
            return _between(self.op, self.mix.fed["share"], value, self.others[blob])


def mixed(op: Builder, net: Net, transform: Transform, fed: Mapping[str, Value]) -> Mixed | None:
    """The inputs of a net, mixed as its transform says; None if it says nothing of it."""
    if not mixes(net):
        return None
    if net.batch < 2:
        raise UsageError("transform: mixup and cutmix mix the samples of a batch, and it has one")
    mix = _fed(op, net, transform)
    partners = mix.fed["partners"]
    inputs, others = dict(fed), {}
    for name, x in fed.items():
        with op.scope(name):
            other = op.Gather(x, partners, axis=0)
            if name in targets(net):
                others[name] = other
            else:
                inputs[name] = _blended(op, mix, x, other)
    return Mixed(op, mix, inputs, others)


def _fed(op: Builder, net: Net, transform: Transform) -> Mix:
    """The inputs of the graph that the host draws."""
    types = {"partners": TensorType((net.batch,), "int64"), "share": TensorType(())}
    extent: Shape = ()
    if transform.cutmix:
        types["box"] = TensorType((4,))
        extent = net.inputs[net.transformed[0]].spatial
        if transform.mixup:
            types["blend"] = TensorType(())
    fed = {name: op.input(f"mix:{name}", type) for name, type in types.items()}
    return Mix(transform.mixup, transform.cutmix, net.batch, extent, fed)


def _blended(op: Builder, mix: Mix, x: Value, other: Value) -> Value:
    """Mixup where there is no box; else what is in the box is the other's, or a blend of both."""
    if not mix.cutmix:
        return _between(op, mix.fed["share"], x, other)
    inside = _between(op, mix.fed["blend"], x, other) if mix.mixup else other
    blended: Value = op.Where(_in_box(op, mix.fed["box"], mix.extent), inside, x)
    return blended


def _in_box(op: Builder, box: Value, extent: Shape) -> Value:
    """Which pixels lie in the box, height x width."""
    rows, columns = (np.arange(n, dtype=np.float32) for n in extent)
    top, left, bottom, right = op.Split(box, op.ints(1, 1, 1, 1), outputs=4, axis=0)
    within = []
    for first, end, places in (
        (top, bottom, op.constant(rows.reshape(-1, 1))),
        (left, right, op.constant(columns)),
    ):
        within.append(op.And(op.GreaterOrEqual(places, first), op.Less(places, end)))
    both: Value = op.And(*within)
    return both


def _between(op: Builder, share: Value, x: Value, other: Value) -> Value:
    """share·x + (1 - share)·other."""
    rest = op.Sub(op.scalar(1), share)
    between: Value = op.Add(op.Mul(x, share), op.Mul(other, rest))
    return between
