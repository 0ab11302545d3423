"""Layers folded into the blocks they stand in: one row per block, with its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netspec.ir.analysis import Cost, LayerCost
from netspec.ir.net import Place

BLOCK = "block"
"""What the type of folded layers is called."""


def folded(cost: Cost, depth: int) -> Cost:
    """The cost by blocks: layers that agree in the first `depth` parts of their names are one.

    conv2/basic1/conv1, conv2/basic1/relu1, conv2/basic2/conv1   →   conv2 at depth 1,
    conv2/basic1, conv2/basic2 at depth 2. A block stands where its first layer does.
    """
    blocks: dict[str, list[LayerCost]] = {}
    for layer in cost.layers:
        blocks.setdefault("/".join(layer.name.split("/")[:depth]), []).append(layer)
    return replace(cost, layers=tuple(_row(name, layers) for name, layers in blocks.items()))


def _row(name: str, layers: Sequence[LayerCost]) -> LayerCost:
    first, last = layers[0], layers[-1]
    if first.name == name and first is last:
        return first
    made = {top for layer in layers for top, _ in layer.tops}
    read = dict.fromkeys(b for layer in layers for b in layer.bottoms if b not in made)
    return LayerCost(
        name=name,
        type=BLOCK,
        bottoms=tuple(read),
        tops=last.tops,
        window=None,
        group=1,
        weights=sum(layer.weights for layer in layers),
        biases=sum(layer.biases for layer in layers),
        frozen=sum(layer.frozen for layer in layers),
        statistics=sum(layer.statistics for layer in layers),
        units=sum(layer.units for layer in layers),
        connections=sum(layer.connections for layer in layers),
        macs=sum(layer.macs for layer in layers),
        backward_macs=sum(layer.backward_macs for layer in layers),
        activations=sum(layer.activations for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        kept_bytes=sum(layer.kept_bytes for layer in layers),
        receptive=last.receptive,
        place=_expansion(first.place),
    )


def _expansion(place: Place | None) -> Place | None:
    """The outermost expansion around a layer, else the layer's own place."""
    if place is None or not place.trail:
        return place
    return Place(place.trail[-1][1])
