"""The training step, loaded: state bound once by address, then indices and rate in, losses out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netspec.autodiff import grad
from netspec.codegen.layout import Planner, plan
from netspec.codegen.precision import suited
from netspec.codegen.recompute import segments
from netspec.codegen.scaling import LossScaling
from netspec.codegen.sharding import part_of
from netspec.codegen.solvers import update_rule
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import Target
from netspec.data.order import Batches
from netspec.data.prefetch import Ahead
from netspec.diagnostics import DataError
from netspec.ir.net import Net
from netspec.runtime.device import Device, choose_device
from netspec.runtime.state import FlatBuffer
from netspec.training.execution.accumulation import Accumulated
from netspec.training.execution.bound import BoundBatch, BoundUpdate, transform_of
from netspec.training.execution.evaluator import Evaluation, Evaluator
from netspec.training.execution.held import Held
from netspec.training.execution.machine import Machine
from netspec.training.execution.recorded import Warn, silent
from netspec.training.execution.samples import Arrays, samples_of
from netspec.training.execution.scaling import LossScale
from netspec.training.execution.sharded import Sharded, shards_for, share_of
from netspec.training.execution.targets import target_for
from netspec.training.runs.checkpoint import State
from netspec.training.signals import never

if TYPE_CHECKING:
    from netspec.training.setup.experiment import Experiment


@dataclass(frozen=True)
class StepResult:
    """What one training batch gave, before the update that it led to."""

    loss: float
    losses: dict[str, float]
    metrics: dict[str, float]
    finite: bool
    """False if the loss, a gradient or a statistic was not a finite number: nothing was updated."""
    sought: bool = False
    """Whether that may be for a scale of the loss that is too large, and will be smaller next."""


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
        ahead: Ahead = lambda _: None,
        warn: Warn = silent,
        shards: int | None = None,
    ) -> None:
        """`test_for_batch` builds the test net for the samples that its own batch leaves over.

        `target` is the device's fastest unless given; `planner` chooses how the operators of the
        training graph are computed; `recompute` names the blocks whose values are computed again
        instead of kept; `ahead` foretells the samples of the batches to come, so that those which
        are not in memory are read before they are asked for; `warn` hears of CUDA graphs that are
        given up; `shards` is in how many parts a batch is computed, as far as that may be, and
        unless given as it pays.
        Raises UsageError, or NetspecError if the device's memory does not suffice.
        """
        assert train.solver is not None
        self.device = choose_device(device)
        self._samples = samples = samples_of(train, train_arrays, self.device, ahead)
        types, transform = samples.types, transform_of(train)
        again = segments(recompute, train)
        self.target = suited(target or target_for(self.device), train.solver)
        self.shards = shards_for(train, self.target, shards)
        """In how many parts a batch is computed."""
        part = part_of(train, self.shards)
        scaling = LossScaling.of(train.solver)
        step = gradient_graph(
            part, types, transform, self.target, grad, planner, again,
            half=scaling is not None, shards=self.shards,
        )  # fmt: skip
        self.unreached = step.unreached
        """Trainable parameters on which no loss depends."""
        rule = update_rule(train.solver)
        several = train.solver.iter_size > 1
        nets = [train] if test is None else [train, test]
        averaged = bool(train.solver.ema_decay)
        self._held = held = Held(
            nets, step, rule.slots, self.device,
            several=several, averaged=averaged, shards=self.shards,
        )  # fmt: skip
        held.fill(seed)
        self.scale = LossScale(scaling, self.device) if scaling else None
        """That of the loss, in half precision."""
        pointer = self.scale.pointer if self.scale else 0
        share = share_of(self.device, self.shards)
        batches = [
            BoundBatch(
                step, held.addresses(i), samples, share, seed, pointer,
                [gradients.memory, held.batch.memory], warn, i, held.read(),
            )
            for i, gradients in enumerate(held.gradients)
        ]  # fmt: skip
        self._whole = batches[0] if self.shards == 1 else Sharded(batches, samples, self.device)
        self._batch: BoundBatch | Sharded | Accumulated = self._whole
        if several:
            self._batch = Accumulated(
                self._whole,
                train.solver.iter_size,
                held.weight_groups,
                held.statistic_groups,
                held.accumulated_addresses(),
                self.device,
                held.accumulated(),
                warn,
                self.shards,
            )
        if self.scale:
            self.scale.bind(held, self._batch.results.pointers["finite"], warn)
        self._update = BoundUpdate(
            held.weight_groups,
            held.statistic_groups,
            rule,
            held.updated_addresses(),
            self._batch.results,
            self.device,
            held.written(),
            warn,
            1 if several else self.shards,
        )
        self._evaluator: Evaluator | None = None
        if test is not None and test_arrays is not None:
            self._evaluator = Evaluator(
                test,
                test_arrays,
                self._held.tested_addresses(),
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
        warn: Warn = silent,
        shards: int | None = None,
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
            ahead=_foretold(experiment.batches, experiment.solver.iter_size),
            warn=warn,
            shards=shards,
        )

    @property
    def waited(self) -> float | None:
        """Seconds that steps waited for samples; None if all are in memory."""
        return self._samples.waited

    @property
    def held(self) -> Held:
        """What lies on the device."""
        return self._held

    def close(self) -> None:
        """End the threads that read samples, and those that compute shards."""
        self._samples.close()
        if isinstance(self._whole, Sharded):
            self._whole.close()

    def step(
        self,
        iteration: int,
        indices: NDArray[np.int64],
        rate: float,
        stopped: Callable[[], bool] = never,
    ) -> StepResult:
        """Gradients of the samples `indices`, then one update at the learning rate `rate`.

        `iteration` counts from 0; random tensors and Adam's corrections hang on it. With the
        solver's `iter_size` the samples are so many batches, and the results their means; CutShort,
        and nothing changed, if it is `stopped` between two of them.
        """
        self.gradients(iteration, indices, stopped)
        self.update(iteration, rate)
        return self.results()

    def results(self) -> StepResult:
        """What the last gradients came with."""
        numbers = self._batch.numbers()
        losses, metrics = self._batch.sort(numbers)
        finite = bool(numbers["finite"])
        sought = not finite and self.scale is not None and self.scale.sought
        return StepResult(numbers["loss"], losses, metrics, finite, sought)

    def gradients(
        self, iteration: int, indices: NDArray[np.int64], stopped: Callable[[], bool] = never
    ) -> None:
        """The first half of a step: forward and backward."""
        if isinstance(self._batch, Accumulated):
            self._batch.run(indices, iteration, stopped)
        else:
            self._batch.run(indices, iteration)

    def update(self, iteration: int, rate: float) -> None:
        """The second half of a step: the solver's update by the gradients as they are."""
        if self.scale:
            self.scale.divide()
        self._update.run(rate, iteration)
        if self.scale:
            self.scale.update()

    def evaluate(self, batches: int | None = None) -> Evaluation:
        """The test set through the test net, each sample once, or so many batches of it."""
        assert self._evaluator is not None
        return self._evaluator.run(batches)

    @property
    def addresses(self) -> dict[str, int]:
        """Where the tensors of a batch's graph lie, by port."""
        return self._held.addresses()

    def state(self) -> State:
        """A copy of everything that training changes."""
        held = self._held
        weights = held.weights.dump() | held.fixed.dump()
        return State(
            {name: weights[name] for name in held.shapes},
            {slot: buffer.dump() for slot, buffer in held.slots.items()},
            held.running.dump(),
            {n: mean for buffer in held.averages.values() for n, mean in buffer.dump().items()},
            self.scale.state() if self.scale else {},
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
            *self._means(state),
        ]
        packed = [(buffer, buffer.packed(tensors)) for buffer, tensors in parts]
        for buffer, flat in packed:
            buffer.memory.write(flat)
        if self.scale:
            self.scale.restore(state.scaling)

    def _means(self, state: State) -> Iterator[tuple[FlatBuffer, Mapping[str, NDArray[Any]]]]:
        """The running means of a state; one that has none begins them at its weights."""
        if state.averages and not self._held.averages:
            raise DataError("the state holds running means, and this solver has no ema_decay")
        means = state.averages or {**state.weights, **state.statistics}
        for buffer in self._held.averages.values():
            yield buffer, {n: means[n] for n in buffer.layout.places if n in means}


def _foretold(batches: Batches, iter_size: int) -> Ahead:
    """The samples of every batch of an iteration, counted through."""

    def samples(number: int) -> NDArray[np.int64]:
        iteration, part = divmod(number, iter_size)
        return np.split(batches.indices(iteration), iter_size)[part]

    return samples
