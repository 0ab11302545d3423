"""What the way back computes: which layers are given gradients, and what these multiply."""

from __future__ import annotations

from dataclasses import dataclass

from netspec.ir.layer import Role
from netspec.ir.net import Net, Node


@dataclass(frozen=True, slots=True)
class WayBack:
    """What of a layer gets a gradient."""

    weights: bool
    """Whether one of its weights is trained, and a loss depends on it."""
    bottoms: bool
    """Whether something that is trained lies before it, and a loss behind it."""


def ways_back(net: Net) -> dict[str, WayBack]:
    """By name of the layer; in a net without a loss, every blob that nothing reads stands for one.

    Data and frozen layers get no gradient, nor does what leads to metrics only, or to layers whose
    `propagate_down` lets none through.
    """
    learned = _behind_weights(net)
    losses = [node for node in net.nodes if node.weighed]
    wanted = {top for node in losses for top in node.tops} or set(net.outputs)
    ways: dict[str, WayBack] = {}
    for node in reversed(net.nodes):
        reached = node.layer.role is not Role.METRIC and bool(wanted.intersection(node.tops))
        if reached:
            wanted.update(b for i, b in enumerate(node.bottoms) if node.propagates(i))
        ways[node.name] = WayBack(
            weights=reached and any(not p.frozen for p in node.parameters),
            bottoms=reached and learned[node.name],
        )
    return ways


def _behind_weights(net: Net) -> dict[str, bool]:
    """Whether a bottom of each layer depends on something that is trained."""
    blobs: set[str] = set()
    found: dict[str, bool] = {}
    for node in net.nodes:
        found[node.name] = any(
            b in blobs and node.propagates(i) for i, b in enumerate(node.bottoms)
        )
        if found[node.name] or any(not p.frozen for p in node.parameters):
            blobs.update(node.tops)
    return found


def backward_macs(node: Node, way: WayBack, forward: int) -> int:
    """As many as forward for the gradient of the bottom, and again for that of the weight.

    x̄ = Wᵀ·ȳ and W̄ = ȳ·xᵀ; a layer that only adds its trained bias multiplies nothing.
    """
    shapes = node.layer.weights(node.bottom_types)
    multiplied = any(
        not parameter.frozen
        for parameter, weight in zip(node.parameters, shapes, strict=True)
        if weight.name != BIAS
    )
    return forward * (way.bottoms + (way.weights and multiplied))


BIAS = "bias"
"""What a layer calls the weight that it only adds."""
