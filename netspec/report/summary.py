"""What `check` knows of a spec: what its layers cost, and what it needs in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netspec.codegen.target import assumed_target
from netspec.compiler import Elaborated
from netspec.diagnostics import NetspecError
from netspec.ir.analysis import Cost, cost
from netspec.ir.forward_memory import FLOAT
from netspec.ir.layer import Phase
from netspec.ir.stored import stored_inputs
from netspec.ir.training_memory import TrainingMemory, training_memory

SMALL, SMALL_BATCH = 300, 4096
"""Layers and samples up to which a step is built only to be counted, which takes some 0.3 s."""

BYTES: Mapping[str, int] = {"float32": FLOAT, "float16": 2}
"""The element types that memory can be counted for, and their sizes."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A net of one phase, and what training it takes."""

    name: str
    phase: Phase
    cost: Cost
    training: TrainingMemory | None
    """At the batch of phase TRAIN; None for a net without a loss."""
    memory: int | None = None
    """What there is, in bytes, if it was said."""

    @property
    def largest_batch(self) -> int | None:
        """The largest batch that can be trained in `memory`, 0 if none; None if that was not said.

        Activations and workspace grow with the batch, from what they are at the one counted.
        """
        if self.memory is None or self.training is None:
            return None
        grows = self.training.activations + self.training.workspace
        left = self.memory - (self.training.total - grows)
        return max(0, left * self.training.batch // max(grows, 1))

    @property
    def totals(self) -> dict[str, int | None]:
        """What `--assert` and JSON know, by name: numbers for one input, bytes at the batch."""
        counted, training = self.cost, self.training
        return {
            "layers": len(counted.layers),
            "parameters": counted.parameters,
            "weights": sum(layer.weights for layer in counted.layers),
            "biases": sum(layer.biases for layer in counted.layers),
            "trained": counted.trained,
            "frozen": counted.frozen,
            "statistics": counted.statistics,
            "units": counted.units,
            "connections": counted.connections,
            "macs": counted.macs,
            "flops": counted.flops,
            "backward_macs": counted.backward_macs,
            "activations": counted.activations,
            "activation_bytes": counted.activation_bytes,
            "forward_memory": counted.forward_bytes,
            "training_memory": None if training is None else training.total,
            "largest_batch": self.largest_batch,
            "caffe_memory": counted.caffe_bytes,
        }


def summarise(
    nets: Elaborated,
    phase: Phase,
    *,
    dtype: str = "float32",
    optimizer: str | None = None,
    memory: int | None = None,
    target: str = "cpu",
    exact: bool | None = None,
) -> Summary:
    """Count the net of a phase, and what the net of phase TRAIN takes to train.

    `exact` says whether the training step is built to count its operators' memory on `target`;
    unless given, it is for small nets and batches in float32.
    """
    built, train = nets[phase], nets.train.net
    value_bytes = BYTES[dtype]
    training = training_memory(train, train.solver, optimizer=optimizer, value_bytes=value_bytes)
    if exact is None:
        exact = value_bytes == FLOAT and is_small(nets)
    if exact and training is not None:
        training = _counted(nets, training, target)
    block = assumed_target(target).block
    counted = cost(built.net, built.places, value_bytes=value_bytes, block=block)
    return Summary(built.net.name, phase, counted, training, memory)


def is_small(nets: Elaborated) -> bool:
    """Whether a net's memory is counted on its operators unasked.

    A large batch makes many of them, since gradients of filters take few images at a time.
    """
    train = nets.train.net
    return len(train.nodes) <= SMALL and train.batch <= SMALL_BATCH


def _counted(nets: Elaborated, estimate: TrainingMemory, target: str) -> TrainingMemory:
    """The estimate as the operators of the step give it, if the net can be trained as it is."""
    from netspec.autodiff import grad
    from netspec.codegen.footprint import counted

    net = nets.train.net
    try:
        return counted(estimate, net, stored_inputs(net), assumed_target(target), grad)
    except NetspecError:
        return estimate  # such as a variance over one cell: `train` says so, at its batch size
