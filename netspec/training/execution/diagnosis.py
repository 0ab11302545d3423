"""Where a step first went wrong: it is run again, with every layer looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netspec.autodiff import dependent, grad
from netspec.codegen.layout import Planner
from netspec.codegen.recompute import segments
from netspec.codegen.sharding import part_of
from netspec.codegen.step import gradient_graph
from netspec.codegen.watch import Mark, Watch
from netspec.diagnostics import NetspecError, printable
from netspec.training.execution.bound import BoundBatch, array_types, transform_of
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import Machine
from netspec.training.execution.samples import Resident
from netspec.training.setup.experiment import Experiment

_BEFORE = 4
"""Layers before the one at fault that are told of."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a mark showed."""

    mark: Mark
    lost: int
    """Values that are not finite."""
    largest: float
    """The largest magnitude of the others."""


@dataclass(frozen=True)
class Diagnosis:
    """Says what went wrong first in an iteration whose update was left out."""

    experiment: Experiment
    machine: Machine
    planner: Planner
    recompute: Sequence[str]
    executor: Executor

    def __call__(self, iteration: int, indices: NDArray[np.int64]) -> str:
        """One line; empty if nothing can be found, as where memory does not hold another step."""
        found = self._data(indices) or self._weights()
        if found:
            return found
        try:
            return self._layers(iteration, indices)
        except NetspecError:
            return ""

    def _data(self, indices: NDArray[np.int64]) -> str:
        """The first sample of the iteration that was not finite before anything happened to it."""
        dataset = self.experiment.train
        for name in self.experiment.nets.train.net.inputs:
            array = dataset.fed[name]
            if array.dtype.kind != "f":
                continue
            for i in indices:
                if not np.isfinite(array[i]).all():
                    what = "NaN" if np.isnan(array[i]).any() else "an infinite value"
                    return f"the training data contain {what}: `{name}` of sample {i}"
        return ""

    def _weights(self) -> str:
        """A weight that is no longer finite: a finite gradient times a large rate may do that."""
        for name, array in self.executor.state().weights.items():
            lost = int(np.count_nonzero(~np.isfinite(array)))
            if lost:
                share = f"{lost:,} of {array.size:,} values of `{name}` are not finite"
                return f"an update overflowed: {share}"
        return ""

    def _layers(self, iteration: int, indices: NDArray[np.int64]) -> str:
        solver = self.experiment.solver
        for i, part in enumerate(np.split(indices, solver.iter_size)):
            for seen in self._look(iteration * solver.iter_size + i, part):
                said = self._said(seen)
                if said:
                    return said
        return ""

    def _look(self, iteration: int, indices: NDArray[np.int64]) -> Iterator[list[Seen]]:
        """One batch again, shard by shard, with the random numbers that it had."""
        whole, shards = self.experiment.nets.train.net, self.executor.shards
        net = part_of(whole, shards)
        arrays = self.experiment.train.taken(indices)
        watch = Watch(dependent)
        again, device = segments(self.recompute, net), self.machine.device
        step = gradient_graph(
            net, array_types(arrays), transform_of(net), self.executor.target, grad, self.planner,
            again, watch, half=self.executor.scale is not None, shards=shards,
        )  # fmt: skip
        seed = self.experiment.solver.random_seed
        held, data = self.executor.addresses, Resident(whole, arrays, device)
        scale = self.executor.scale.pointer if self.executor.scale else 0
        places = np.split(np.arange(len(indices), dtype=np.int64), shards)
        for shard, part in enumerate(places):
            batch = BoundBatch(step, held, data, device, seed, scale, shard=shard)
            batch.run(part, iteration)
            _, metrics = batch.sort(batch.numbers())
            yield [
                Seen(mark, int(metrics[f"lost#{i}"]), metrics[f"largest#{i}"])
                for i, mark in enumerate(watch.marks)
            ]

    def _said(self, seen: Sequence[Seen]) -> str:
        first = next((i for i, look in enumerate(seen) if look.lost), None)
        if first is None:
            return ""
        at = seen[first]
        before = [look for look in seen[:first] if look.mark.gradient == at.mark.gradient]
        names = [f"{printable(look.mark.name)} {look.largest:.3g}" for look in before[-_BEFORE:]]
        what = "values of its gradient" if at.mark.gradient else "values"
        share = f"{at.lost:,} of {at.mark.numel:,} {what} are not finite"
        largest = f"; the largest before: {', '.join(names)}" if names else ""
        return f"{self._place(at.mark.name)} went first: {share}{largest}"

    def _place(self, name: str) -> str:
        """A layer, with its line in the spec."""
        built = self.experiment.nets.train
        for node, place in zip(built.net.nodes, built.places, strict=True):
            if node.name == name:
                return f"layer `{printable(name)}` ({place.span.where})"
        return f"`{printable(name)}`"
