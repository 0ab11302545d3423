"""The training step, loaded: state bound once by address, then indices and rate in, losses out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.autodiff import grad
from netspec.codegen.layout import Planner, plan
from netspec.codegen.recompute import segments
from netspec.codegen.solvers import update_rule
from netspec.codegen.step import BatchStep, gradient_graph
from netspec.codegen.target import Target
from netspec.codegen.update import StatisticGroup, WeightGroup
from netspec.diagnostics import DataError, UsageError
from netspec.ir.initial import initial_statistics, initial_weights
from netspec.ir.net import Net
from netspec.ir.types import Shape, size
from netspec.runtime.device import Device, choose_device
from netspec.runtime.state import FlatBuffer, Layout, Memory, Place
from netspec.training.accumulation import Accumulated
from netspec.training.bound import BoundBatch, BoundUpdate, array_types, placed, transform_of
from netspec.training.checkpoint import State
from netspec.training.evaluator import Evaluation, Evaluator
from netspec.training.machine import Machine
from netspec.training.targets import target_for

if TYPE_CHECKING:
    from netspec.training.experiment import Experiment

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Tensors: TypeAlias = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class StepResult:
    """What one training batch gave, before the update that it led to."""

    loss: float
    losses: dict[str, float]
    metrics: dict[str, float]
    finite: bool
    """False if the loss, a gradient or a statistic was not a finite number: nothing was updated."""


class Executor:
    """A net's training: weights, solver memory and statistics on a device, and the step on them.

    Everything but indices, scalars and random tensors stays where it is from step to step. Random
    tensors come from the host on every device.
    """

    def __init__(
        self,
        train: Net,
        test: Net | None,
        train_arrays: Arrays,
        test_arrays: Arrays | None,
        *,
        device: str | Device,
        seed: int,
        test_for_batch: Callable[[int], Net] | None = None,
        target: Target | None = None,
        planner: Planner = plan,
        recompute: Sequence[str] = (),
    ) -> None:
        """`test_for_batch` builds the test net for the samples that its own batch leaves over.

        `target` is the device's fastest unless given; `planner` chooses how the operators of the
        training graph are computed; `recompute` names the blocks whose values are computed again
        instead of kept.
        Raises UsageError, or NetspecError if the device's memory does not suffice.
        """
        assert train.solver is not None
        self.device = choose_device(device)
        types, transform = array_types(train_arrays), transform_of(train)
        again = segments(recompute, train)
        self.target = target or target_for(self.device)
        step = gradient_graph(train, types, transform, self.target, grad, planner, again)
        self.unreached = step.unreached
        """Trainable parameters on which no loss depends."""
        rule = update_rule(train.solver)
        several = train.solver.iter_size > 1
        nets = [train] if test is None else [train, test]
        self._held = held = _Held(nets, step, rule.slots, self.device, several=several)
        held.fill(seed)
        arrays = placed(train, train_arrays, self.device)
        batch = BoundBatch(step, held.addresses(), arrays, self.device, seed)
        self._batch: BoundBatch | Accumulated = batch
        if several:
            self._batch = Accumulated(
                batch,
                train.solver.iter_size,
                held.weight_groups,
                held.statistic_groups,
                held.accumulated_addresses(),
                self.device,
                held.accumulated(),
            )
        self._update = BoundUpdate(
            held.weight_groups,
            held.statistic_groups,
            rule,
            held.updated_addresses(),
            self._batch.results,
            self.device,
            held.written(),
        )
        self._evaluator: Evaluator | None = None
        if test is not None and test_arrays is not None:
            self._evaluator = Evaluator(
                test,
                test_arrays,
                self._held.addresses(),
                self.device,
                test_for_batch,
                target=self.target,
            )

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        machine: Machine,
        planner: Planner = plan,
        recompute: Sequence[str] = (),
    ) -> Executor:
        """An experiment's, with the solver's seed."""
        test = experiment.test
        return cls(
            experiment.nets.train.net,
            experiment.nets.test.net if test else None,
            experiment.train.fed,
            test.fed if test else None,
            device=machine.device,
            seed=experiment.solver.random_seed,
            test_for_batch=experiment.test_for_batch,
            target=machine.target,
            planner=planner,
            recompute=recompute,
        )

    def step(self, iteration: int, indices: NDArray[np.int64], rate: float) -> StepResult:
        """Gradients of the samples `indices`, then one update at the learning rate `rate`.

        `iteration` counts from 0; random tensors and Adam's corrections hang on it. With the
        solver's `iter_size` the samples are so many batches, and the results their means.
        """
        self.gradients(iteration, indices)
        self.update(iteration, rate)
        numbers = self._batch.numbers()
        losses, metrics = self._batch.sort(numbers)
        return StepResult(numbers["loss"], losses, metrics, bool(numbers["finite"]))

    def gradients(self, iteration: int, indices: NDArray[np.int64]) -> None:
        """The first half of a step: forward and backward."""
        self._batch.run(indices, iteration)

    def update(self, iteration: int, rate: float) -> None:
        """The second half of a step: the solver's update by the gradients as they are."""
        self._update.run(rate, iteration)

    def evaluate(self, batches: int | None = None) -> Evaluation:
        """The test set through the test net, each sample once, or so many batches of it."""
        assert self._evaluator is not None
        return self._evaluator.run(batches)

    def state(self) -> State:
        """A copy of everything that training changes."""
        held = self._held
        weights = held.weights.dump() | held.fixed.dump()
        return State(
            {name: weights[name] for name in held.shapes},
            {slot: buffer.dump() for slot, buffer in held.slots.items()},
            held.running.dump(),
        )

    def restore(self, state: State) -> None:
        """Take over a state; DataError, and nothing changed, if it is not one of this net."""
        held = self._held
        if state.slots.keys() != held.slots.keys():
            found, wanted = ", ".join(state.slots) or "nothing", ", ".join(held.slots)
            raise DataError(f"the state holds {found} of a solver, but this solver keeps {wanted}")
        fixed = held.fixed.layout.places
        parts = [
            (held.weights, {n: w for n, w in state.weights.items() if n not in fixed}),
            (held.fixed, {n: w for n, w in state.weights.items() if n in fixed}),
            (held.running, state.statistics),
            *((buffer, state.slots[slot]) for slot, buffer in held.slots.items()),
        ]
        packed = [(buffer, buffer.packed(tensors)) for buffer, tensors in parts]
        for buffer, flat in packed:
            buffer.memory.write(flat)


class _Held:
    """What a training holds on the device, in flat buffers."""

    def __init__(
        self,
        nets: Sequence[Net],
        step: BatchStep,
        slots: Sequence[str],
        device: Device,
        *,
        several: bool,
    ) -> None:
        """The first net is TRAIN's; parameters of the others alone stay as they are initialised.

        `several` batches in an iteration are added up, which takes memory of its own.
        """
        self._nets = nets
        train = nets[0]
        self.shapes = _united({p.name: p.shape for p in net.parameters} for net in nets)
        """Every parameter, by name."""
        by_rate: dict[tuple[float, float], dict[str, Shape]] = {}
        for p in train.parameters:
            if not p.frozen:
                by_rate.setdefault((p.lr_mult, p.decay_mult), {})[p.name] = p.shape
        trained = Layout.of(_numbered(by_rate.values()))
        frozen = {n: s for n, s in self.shapes.items() if n not in trained.places}
        self.weights, self.gradients = FlatBuffer(trained, device), FlatBuffer(trained, device)
        self.total = FlatBuffer(trained, device) if several else self.gradients
        """The gradients of all batches of an iteration."""
        self.slots = {slot: FlatBuffer(trained, device) for slot in slots}
        self.fixed = FlatBuffer(Layout.of({"frozen": frozen}), device)
        self._runs = {name: _runs(trained.groups[name], device) for name in trained.groups}
        self.weight_groups = [
            WeightGroup(f"{name}.{i}", run.stop - run.start, *multipliers)
            for name, multipliers in zip(trained.groups, by_rate, strict=True)
            for i, run in enumerate(self._runs[name])
        ]

        statistics = _united({n: s.shape for n, s in net.statistics.items()} for net in nets)
        by_share: dict[float, dict[str, Shape]] = {}
        for name, share in step.fractions.items():
            by_share.setdefault(share, {})[name] = statistics[name]
        folded = Layout.of(_numbered(by_share.values()))
        still = {n: s for n, s in statistics.items() if n not in folded.places}
        self.batch = FlatBuffer(folded, device)
        self.folded = FlatBuffer(folded, device) if several else self.batch
        """The statistics of all batches of an iteration."""
        self.running = FlatBuffer(
            Layout.of({**_numbered(by_share.values()), "still": still}), device
        )
        self.statistic_groups = [
            StatisticGroup(name, folded.groups[name].shape[0], share)
            for name, share in zip(folded.groups, by_share, strict=True)
        ]

    def fill(self, seed: int) -> None:
        """Initial weights and statistics; solver memory is zero."""
        weights: Tensors = {}
        statistics: Tensors = {}
        for net in reversed(self._nets):
            weights |= initial_weights(net, seed)
            statistics |= initial_statistics(net)
        self.weights.load({n: weights[n] for n in self.weights.layout.places})
        self.fixed.load({n: weights[n] for n in self.fixed.layout.places})
        self.running.load(statistics)

    def written(self) -> list[Memory]:
        """What an update changes."""
        return [b.memory for b in (self.weights, self.running, *self.slots.values())]

    def addresses(self) -> dict[str, int]:
        """Each tensor's address, by the port of a batch's graph."""
        kinds = {
            "weight": [self.weights, self.fixed],
            "gradient": [self.gradients],
            "running": [self.running],
            "batch": [self.batch],
        }
        return {
            f"{kind}:{name}": buffer.pointer(name)
            for kind, buffers in kinds.items()
            for buffer in buffers
            for name in buffer.layout.places
        }

    def updated_addresses(self) -> dict[str, int]:
        """Each group's address, by the port of the update's graph."""
        trained = {"weights": self.weights, "gradients": self.total, **self.slots}
        return self._groups(trained, {"running": self.running, "batch": self.folded})

    def accumulated_addresses(self) -> dict[str, int]:
        """The same, by the port of the graph that adds up batches."""
        trained = {"total": self.total, "gradients": self.gradients}
        return self._groups(trained, {"folded": self.folded, "batch": self.batch})

    def accumulated(self) -> list[Memory]:
        """What adding up batches changes."""
        return [self.total.memory, self.folded.memory]

    def _groups(
        self, trained: Mapping[str, FlatBuffer], folded: Mapping[str, FlatBuffer]
    ) -> dict[str, int]:
        runs = {
            f"{kind}:{name}.{i}": buffer.group_pointer(name) + 4 * run.start
            for kind, buffer in trained.items()
            for name in buffer.layout.groups
            for i, run in enumerate(self._runs[name])
        }
        groups = {
            f"{kind}:{group.name}": buffer.group_pointer(group.name)
            for kind, buffer in folded.items()
            for group in self.statistic_groups
        }
        return runs | groups


_RUN = 2**19
"""Cells that an update takes at a time on the CPU: what it makes in between stays in the cache.

A power of two, so that every run is aligned as its group is.
"""


def _runs(group: Place, device: Device) -> list[range]:
    """The cells of a group, cut into runs on the CPU; CUDA takes them in one go."""
    (cells,) = group.shape
    step = max(cells, 1) if device.cuda else _RUN
    return [range(start, min(start + step, cells)) for start in range(0, cells, step)]


def _numbered(groups: Iterable[Mapping[str, Shape]]) -> dict[str, Mapping[str, Shape]]:
    return {str(i): group for i, group in enumerate(groups)}


def _united(nets: Iterable[Mapping[str, Shape]]) -> dict[str, Shape]:
    """The shapes of all nets; UsageError if TRAIN and TEST disagree on one."""
    united: dict[str, Shape] = {}
    for shapes in nets:
        for name, shape in shapes.items():
            if united.setdefault(name, shape) != shape:
                raise UsageError(
                    f"{name} is {size(united[name])} in TRAIN, but {size(shape)} in TEST"
                )
    return united
