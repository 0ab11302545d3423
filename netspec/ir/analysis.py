"""What a net costs: parameters, arithmetic, activations, memory; counted, not run."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from netspec.ir.layer import Role
from netspec.ir.net import Net, Node
from netspec.ir.sections import Solver
from netspec.ir.types import Shape

_FLOAT = 4
"""Bytes of a weight, a gradient and a solver slot."""

_SLOTS = {"SGD": 1, "Nesterov": 1, "Adam": 2}
"""Values of solver state per trained parameter."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer costs; arithmetic for one input, bytes for the whole batch."""

    name: str
    type: str
    tops: tuple[tuple[str, Shape], ...]
    """Names and shapes, without the batch axis."""
    parameters: int
    """Learnable values; those of a shared weight stand with its first layer."""
    macs: int
    activations: int
    """Values of the tops for one input; none if it works in place."""
    activation_bytes: int
    """Bytes of the tops at the batch; none if it works in place."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a net costs."""

    batch: int
    layers: tuple[LayerCost, ...]
    parameters: int
    """Learnable values, shared ones once, whatever their lr_mult."""
    frozen: int
    """Those of them whose lr_mult is 0."""
    statistics: int
    """Values kept from batch to batch but not learned, such as running means."""
    macs: int
    """Multiply-accumulates of convolution, deconvolution and fc, for one input."""
    activations: int
    activation_bytes: int
    forward_bytes: int
    """Weights, statistics, and the blobs that are alive at once, at the batch.

    A blob lives from the layer that makes it to the last that reads it, outputs and labels to the
    end and from the beginning; kernels' working memory is not counted.
    """

    @property
    def flops(self) -> int:
        """2 · macs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def trained(self) -> int:
        return self.parameters - self.frozen


def cost(net: Net) -> Cost:
    """Count a net."""
    seen: set[str] = set()
    layers = []
    for node in net.nodes:
        own = [p for p in node.parameters if p.name not in seen]
        seen.update(p.name for p in own)
        layers.append(_layer_cost(node, net.batch, sum(p.numel for p in own)))
    parameters = sum(p.numel for p in net.parameters)
    statistics = sum(prod(s.shape) for s in net.statistics.values())
    return Cost(
        batch=net.batch,
        layers=tuple(layers),
        parameters=parameters,
        frozen=sum(p.numel for p in net.parameters if p.frozen),
        statistics=statistics,
        macs=sum(layer.macs for layer in layers),
        activations=sum(layer.activations for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        forward_bytes=_FLOAT * (parameters + statistics) + _peak_forward(net),
    )


def _layer_cost(node: Node, batch: int, parameters: int) -> LayerCost:
    tops = tuple(
        (name, _sample(t.shape)) for name, t in zip(node.tops, node.top_types, strict=True)
    )
    counted = () if node.in_place else node.top_types
    macs = node.layer.macs(node.bottom_types) if node.layer.role is not Role.INPUT else 0
    return LayerCost(
        name=node.name,
        type=node.layer.keyword,
        tops=tops,
        parameters=parameters,
        macs=macs // batch,
        activations=sum(prod(_sample(t.shape)) for t in counted),
        activation_bytes=sum(t.nbytes for t in counted),
    )


def _sample(shape: Shape) -> Shape:
    """Without the batch axis; a loss has none."""
    return shape[1:]


def _last_reads(net: Net) -> dict[str, int]:
    """The index of the last node that reads each blob; what nothing reads lives to the end."""
    reads = dict.fromkeys(net.outputs, len(net.nodes))
    for i, node in enumerate(net.nodes):
        for bottom in node.bottoms:
            reads[bottom] = max(i, reads.get(bottom, 0))
    return reads


def _peak_forward(net: Net) -> int:
    """Bytes of the blobs alive at once, the worst moment of a forward pass."""
    dies = _last_reads(net)
    alive: dict[str, int] = {"label": net.label.nbytes} if net.label else {}
    total = sum(alive.values())
    peak = total
    for i, node in enumerate(net.nodes):
        for name, type in zip(node.tops, node.top_types, strict=True):
            if name not in alive:
                alive[name] = type.nbytes
                total += type.nbytes
        peak = max(peak, total)
        for name in {*node.bottoms, *node.tops}:
            if dies.get(name, len(net.nodes)) == i:
                total -= alive.pop(name, 0)
    return peak


def training_bytes(net: Net, solver: Solver | None) -> int | None:
    """Bytes that training holds at once; None for a net without a loss.

    Weights, gradients and solver state of what is trained, statistics twice (running and of the
    batch), the activations that the backward pass still needs and the gradients of blobs that are
    alive at its worst moment. In-place tops are kept apart, since the graph computes them apart.
    The data set, which lies on the device too, and the kernels' own working memory are not counted.
    """
    if not any(node.loss_weight for node in net.nodes):
        return None
    trained = sum(p.numel for p in net.parameters if not p.frozen)
    parameters = sum(p.numel for p in net.parameters)
    statistics = sum(prod(s.shape) for s in net.statistics.values())
    slots = _SLOTS[solver.type] if solver else 1
    held = _FLOAT * (parameters + (1 + slots) * trained + 2 * statistics)
    return held + _peak_backward(net)


def _peak_backward(net: Net) -> int:
    kept = [sum(t.nbytes for t in node.top_types) for node in net.nodes]
    activations = sum(kept) + (net.label.nbytes if net.label else 0)
    gradients: dict[str, int] = {}
    total = 0
    peak = activations
    fed = net.inputs
    for node, saved in zip(reversed(net.nodes), reversed(kept), strict=True):
        if node.layer.role is Role.INPUT:
            continue
        for name, type in zip(node.bottoms, node.bottom_types, strict=True):
            if type.dtype == "float32" and name not in gradients and name not in fed:
                gradients[name] = type.nbytes
                total += type.nbytes
        peak = max(peak, activations + total)
        activations -= saved
        for top in node.tops:
            if top not in node.bottoms:
                total -= gradients.pop(top, 0)
    return peak
