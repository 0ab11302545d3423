"""The memory of a training step, counted on its operators as onnxruntime's CPU runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netspec.codegen.arena import arena_bytes
from netspec.codegen.memory import peak
from netspec.codegen.precision import suited
from netspec.codegen.sharding import part_of, shards_of
from netspec.codegen.step import Differentiate, gradient_graph
from netspec.codegen.target import Target
from netspec.ir.forward_memory import FLOAT
from netspec.ir.net import Net
from netspec.ir.training_memory import TrainingMemory
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType


def counted(
    estimate: TrainingMemory,
    net: Net,
    stored: Mapping[str, TensorType],
    target: Target,
    grad: Differentiate,
) -> TrainingMemory:
    """The estimate with activations and workspace as the step's operators need them.

    Those of all its shards, if it is computed in shards, and then with the gradients of each.
    `stored` are the types of one batch of the data set, see `gradient_graph`, which raises a
    UsageError for a net that cannot be trained. The workspace is what the kernel takes at the
    worst moment, and what the arena holds by then in pieces that nothing fits into.
    """
    transform = net.data.transform if net.data else Transform()
    half = net.solver is not None and net.solver.precision == "FP16"
    target = suited(target, net.solver)
    shards = shards_of(net, target)
    part = part_of(net, shards)
    step = gradient_graph(part, stored, transform, target, grad, half=half, shards=shards)
    alive = peak(step.graph).activations
    trained = FLOAT * sum(p.numel for p in net.parameters if not p.frozen)
    return replace(
        estimate,
        gradients=estimate.gradients + (shards - 1) * trained,
        activations=shards * alive,
        workspace=shards * max(arena_bytes(step.graph) - alive, 0),
        exact=True,
        shards=shards,
    )
