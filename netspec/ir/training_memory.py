"""What training a net holds at once, estimated from its blobs."""

from __future__ import annotations

from dataclasses import dataclass

from netspec.ir.backward import ways_back
from netspec.ir.forward_memory import FLOAT, moves, nbytes
from netspec.ir.layer import Role
from netspec.ir.net import Net, Node
from netspec.ir.sections import Solver
from netspec.ir.types import TensorType

SLOTS = {
    "SGD": 1,
    "Nesterov": 1,
    "AdaGrad": 1,
    "RMSProp": 1,
    "AdaDelta": 2,
    "Adam": 2,
    "AdamW": 2,
}
"""Values of solver state per trained parameter, by the solver's type, with Caffe's arithmetic."""


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """What a training step holds at once, at its worst moment, in bytes.

    The data set, which lies on the device too, is not counted.
    """

    batch: int
    weights: int
    gradients: int
    """Of the weights that are trained; with `iter_size` their sum over the batches, too, and as
    counted those of each shard of a batch."""
    solver: int
    """What the solver keeps from step to step, such as the momentum and the means of weights."""
    statistics: int
    """The running ones, those of the batch and, with `iter_size`, those of all its batches; with
    `ema_decay` the means of the running ones."""
    activations: int
    """Values kept for the way back, and what else is alive at that moment."""
    workspace: int
    """What kernels take for themselves, and what lies unused; 0 where the net alone is known."""
    exact: bool
    """Whether it was counted on the operators of the step; else estimated from the net's blobs."""
    shards: int = 1
    """In how many parts a batch is computed; an estimate takes it for one."""

    @property
    def total(self) -> int:
        parts = (self.weights, self.gradients, self.solver, self.statistics)
        return sum(parts) + self.activations + self.workspace


def training_memory(
    net: Net, solver: Solver | None, *, optimizer: str | None = None, value_bytes: int = FLOAT
) -> TrainingMemory | None:
    """Estimated from the net; None for a net without a loss.

    Weights, gradients and solver state of what is trained, statistics twice (running and of the
    batch), the activations that the way back needs and the gradients of the blobs that are alive
    at its worst moment. `optimizer` stands for the solver's type. With numbers of two bytes the
    weights have a float32 copy that the solver updates, and its state is float32; with the solver's
    precision FP16 activations alone are of two bytes, as copies of weights are gone after a layer.
    """
    if not any(node.weighed for node in net.nodes):
        return None
    trained = sum(p.numel for p in net.parameters if not p.frozen)
    parameters = sum(p.numel for p in net.parameters)
    statistics = sum(node_statistics(node) for node in net.nodes)
    master = FLOAT * trained if value_bytes < FLOAT else 0
    several = solver is not None and solver.iter_size > 1
    pytorch = solver is not None and solver.arithmetic == "PYTORCH"
    averaged = solver is not None and solver.ema_decay > 0
    kept_bytes = min(value_bytes, 2) if solver and solver.precision == "FP16" else value_bytes
    type = optimizer or (solver.type if solver else "SGD")
    return TrainingMemory(
        batch=net.batch,
        weights=value_bytes * parameters + master,
        gradients=value_bytes * trained + (FLOAT * trained if several else 0),
        solver=FLOAT * (SLOTS[type] + (type == "RMSProp" and pytorch) + averaged) * trained,
        statistics=(2 + several + averaged) * FLOAT * statistics,
        activations=_peak_backward(net, kept_bytes),
        workspace=0,
        exact=False,
    )


def node_statistics(node: Node) -> int:
    """Values that a layer keeps from batch to batch."""
    return sum(TensorType(s.shape).numel for s in node.statistics)


def kept_values(net: Net) -> set[tuple[str, str]]:
    """The blobs that gradients are computed from, as (layer that made it, blob)."""
    ways = ways_back(net)
    makers: dict[str, str] = {}
    kept: set[tuple[str, str]] = set()
    for node in net.nodes:
        way = ways[node.name]
        bottoms, tops = _reads(node) if way.weights or way.bottoms else (False, False)
        kept.update((makers[b], b) for b in node.bottoms if bottoms and b in makers)
        makers.update(dict.fromkeys(node.tops, node.name))
        kept.update((node.name, top) for top in node.tops if tops)
    return kept


def _reads(node: Node) -> tuple[bool, bool]:
    """Whether a layer's gradient is likely to read its bottoms and its tops.

    A layer that multiplies by weights or normalises reads its bottoms; what may overwrite its
    bottom does with its top; what joins, moves or averages values reads neither.
    """
    layer = node.layer
    if layer.role is Role.LOSS or node.parameters or node.statistics:
        return True, False
    if layer.in_place:
        return False, True
    if len(node.bottoms) > 1 or len(node.tops) > 1:
        return False, False
    (top,) = node.top_types
    if layer.window(node.bottom_types) is not None:
        return False, top.numel > top.batch * top.channels
    read = not moves(node)
    return read, read


def _peak_backward(net: Net, value_bytes: int) -> int:
    """Values kept, and the gradients alive, while the way back goes through each layer."""
    kept_blobs = kept_values(net)
    kept = [
        sum(
            nbytes(type, value_bytes)
            for name, type in zip(node.tops, node.top_types, strict=True)
            if (node.name, name) in kept_blobs
        )
        for node in net.nodes
    ]
    activations = sum(kept) + (nbytes(net.label) if net.label else 0)
    gradients: dict[str, int] = {}
    total = 0
    peak = activations
    fed, ways = net.inputs, ways_back(net)
    for node, saved in zip(reversed(net.nodes), reversed(kept), strict=True):
        if node.layer.role is Role.INPUT:
            continue
        for i, (name, type) in enumerate(zip(node.bottoms, node.bottom_types, strict=True)):
            wanted = ways[node.name].bottoms and type.dtype == "float32" and node.propagates(i)
            if wanted and name not in gradients and name not in fed:
                gradients[name] = nbytes(type, value_bytes)
                total += gradients[name]
        peak = max(peak, activations + total)
        activations -= saved
        for top in node.tops:
            if top not in node.bottoms:
                total -= gradients.pop(top, 0)
    return peak
