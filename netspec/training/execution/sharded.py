"""A batch computed in shards: equal parts at the same time, each with its share of the threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.sharding import may_be_sharded, shards_of
from netspec.codegen.target import Target
from netspec.ir.net import Net
from netspec.runtime.device import Device
from netspec.runtime.state import Scalars
from netspec.training.execution.bound import BoundBatch, Samples
from netspec.training.execution.worker import Worker


class Sharded:
    """What `BoundBatch` is for a batch as a whole; losses and metrics are the means of its shards'.

    See `codegen.sharding`. On a device of one thread they are computed one after the other, and to
    the same numbers.
    """

    def __init__(self, shards: Sequence[BoundBatch], samples: Samples, device: Device) -> None:
        """Each of the shards has gradients of its own, and all find their samples in `samples`."""
        self._shards = shards
        self._samples = samples
        self.results = Scalars(device, ("finite",))
        """Whether all that an update reads is finite."""
        alone = device.usable_threads == 1
        self._workers = [] if alone else [Worker(f"shard {i}") for i in range(1, len(shards))]

    def run(self, indices: NDArray[np.int64], iteration: int) -> None:
        """One batch of the samples `indices`, with the random tensors of `iteration`."""
        places = np.split(self._samples.rows(indices, iteration), len(self._shards))
        tasks = [
            partial(shard.run_at, part, iteration)
            for shard, part in zip(self._shards, places, strict=True)
        ]
        given = tasks[len(tasks) - len(self._workers) :]
        try:
            for worker, task in zip(self._workers, given, strict=True):
                worker.ask(task)
            for task in tasks[: len(tasks) - len(given)]:
                task()
            for worker, task in zip(self._workers, given, strict=True):
                worker.wait_for(task)
        except BaseException:  # Ctrl-C, too: what it unwinds is memory that a shard writes to
            for worker in self._workers:
                worker.settle()
            raise
        sound = all(shard.results.number("finite") for shard in self._shards)
        self.results.write({"finite": float(sound)})

    def numbers(self) -> dict[str, float]:
        """What the last run gave: loss, losses and metrics, and `finite`, which is 1 if all are."""
        each = [shard.numbers() for shard in self._shards]
        means = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
        return {**means, "finite": self.results.number("finite")}

    def sort(self, numbers: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """The losses and the metrics among the numbers, by top."""
        return self._shards[0].sort(numbers)

    def close(self) -> None:
        """End the threads; what is run later runs in the one that asks."""
        for worker in self._workers:
            worker.end()
        self._workers = []


def shards_for(net: Net, target: Target, wanted: int | None = None) -> int:
    """In how many shards a batch is computed: as `wanted`, as far as may be; else as it pays."""
    if wanted is None:
        return shards_of(net, target)
    may = wanted > 1 and target.kind == "cpu" and may_be_sharded(net, wanted)
    return wanted if may else 1


def share_of(device: Device, shards: int) -> Device:
    """The device with one shard's part of its threads, at least one; of one shard all of it."""
    if shards == 1:
        return device
    return replace(device, threads=max(1, device.usable_threads // shards))
