"""What a net costs: parameters, arithmetic, activations, memory; counted, not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from netspec.ir.backward import BIAS, WayBack, backward_macs, ways_back
from netspec.ir.forward_memory import FLOAT, caffe_bytes, forward_peak, nbytes
from netspec.ir.layer import Role
from netspec.ir.net import Net, Node, Parameter, Place
from netspec.ir.receptive import Receptive, receptive_fields
from netspec.ir.training_memory import kept_values, node_statistics
from netspec.ir.types import Shape
from netspec.ir.window import Window


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer costs; arithmetic for one input, bytes for the whole batch."""

    name: str
    type: str
    """The word of the language, or what a layer stands for; `block` for layers folded into one."""
    bottoms: tuple[str, ...]
    tops: tuple[tuple[str, Shape], ...]
    """Names and shapes, without the batch axis."""
    window: Window | None
    group: int
    """Groups of channels that know nothing of each other."""
    weights: int
    """Learnable values without the biases; those of a shared weight stand with its first layer."""
    biases: int
    frozen: int
    """Learnable values whose lr_mult is 0."""
    statistics: int
    """Values kept from batch to batch but not learned, such as running means."""
    units: int
    """Values of the tops of a layer whose values have connections: one with a window or MACs."""
    connections: int
    """Pairs of a unit and a value that it reads, biases left out: units · fan-in."""
    macs: int
    backward_macs: int
    """Multiply-accumulates of the gradients of bottoms and weights, for one input."""
    activations: int
    """Values of the tops for one input; none if it works in place."""
    activation_bytes: int
    """Bytes of the tops at the batch; none if it works in place."""
    kept_bytes: int
    """Bytes of the tops that the way back reads, at the batch."""
    receptive: Receptive | None
    place: Place | None
    """Where it was written; of a folded block, the expansion."""

    @property
    def parameters(self) -> int:
        """Learnable values; those of a shared weight stand with its first layer."""
        return self.weights + self.biases

    @property
    def flops(self) -> int:
        """2 · macs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def in_place(self) -> bool:
        """Whether its tops take no memory of their own."""
        return not self.activation_bytes


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
    units: int
    connections: int
    macs: int
    """Multiply-accumulates of convolution, deconvolution and fc, for one input."""
    backward_macs: int
    activations: int
    """Values of all tops for one input, in-place tops once: the lectures' plain sum."""
    activation_bytes: int
    forward_bytes: int
    """Weights, statistics, and the blobs that are alive at once, at the batch.

    A blob lives from the layer that makes it to the last that reads it, outputs and labels to the
    end and from the beginning, see `forward_peak`.
    """
    caffe_bytes: int
    """What Caffe's log calls "Memory required for data"."""

    @property
    def flops(self) -> int:
        """2 · macs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def trained(self) -> int:
        return self.parameters - self.frozen


def cost(
    net: Net, places: Sequence[Place] = (), *, value_bytes: int = FLOAT, block: int = 0
) -> Cost:
    """Count a net; `places` say where its layers were written, `value_bytes` how large numbers are.

    Labels keep their own size. `block` is the CPU's, see `forward_peak`.
    """
    layers = tuple(_layer_costs(net, places, value_bytes))
    parameters = sum(p.numel for p in net.parameters)
    statistics = sum(layer.statistics for layer in layers)
    learned = value_bytes * (parameters + statistics)
    return Cost(
        batch=net.batch,
        layers=layers,
        parameters=parameters,
        frozen=sum(p.numel for p in net.parameters if p.frozen),
        statistics=statistics,
        units=sum(layer.units for layer in layers),
        connections=sum(layer.connections for layer in layers),
        macs=sum(layer.macs for layer in layers),
        backward_macs=sum(layer.backward_macs for layer in layers),
        activations=sum(layer.activations for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        forward_bytes=learned + forward_peak(net, value_bytes, block),
        caffe_bytes=caffe_bytes(net),
    )


def _layer_costs(net: Net, places: Sequence[Place], value_bytes: int) -> list[LayerCost]:
    seen: set[str] = set()
    fields, ways, kept = receptive_fields(net), ways_back(net), kept_values(net)
    layers = []
    for i, node in enumerate(net.nodes):
        own = {p.name: p for p in node.parameters if p.name not in seen}
        seen.update(own)
        layer = _layer_cost(node, net.batch, own, ways[node.name], value_bytes)
        layers.append(
            replace(
                layer,
                kept_bytes=sum(
                    nbytes(type, value_bytes)
                    for name, type in zip(node.tops, node.top_types, strict=True)
                    if (node.name, name) in kept
                ),
                receptive=fields[node.name],
                place=places[i] if places else None,
            )
        )
    return layers


def _layer_cost(
    node: Node, batch: int, own: dict[str, Parameter], way: WayBack, value_bytes: int
) -> LayerCost:
    hidden = node.layer.role is Role.HIDDEN
    macs = 0 if node.layer.role is Role.INPUT else node.layer.macs(node.bottom_types) // batch
    window = node.layer.window(node.bottom_types) if hidden else None
    values = sum(prod(t.sample) for t in node.top_types)
    biases = _biases(node, own)
    counted = () if node.in_place else node.top_types
    return LayerCost(
        name=node.name,
        type=node.layer.word,
        bottoms=node.bottoms,
        tops=tuple((name, t.sample) for name, t in zip(node.tops, node.top_types, strict=True)),
        window=window,
        group=getattr(node.layer, "group", 1),
        weights=sum(p.numel for p in own.values()) - biases,
        biases=biases,
        frozen=sum(p.numel for p in own.values() if p.frozen),
        statistics=node_statistics(node),
        units=values if window is not None or macs else 0,
        connections=macs or (values * prod(window.kernel) if window is not None else 0),
        macs=macs,
        backward_macs=backward_macs(node, way, macs) if macs else 0,
        activations=sum(prod(t.sample) for t in counted),
        activation_bytes=sum(nbytes(t, value_bytes) for t in counted),
        kept_bytes=0,
        receptive=None,
        place=None,
    )


def _biases(node: Node, own: dict[str, Parameter]) -> int:
    """Learnable values that a layer adds, and multiplies with nothing."""
    named = node.layer.weights(node.bottom_types) if node.parameters else ()
    return sum(
        parameter.numel
        for weight, parameter in zip(named, node.parameters, strict=True)
        if weight.name == BIAS and parameter.name in own
    )
