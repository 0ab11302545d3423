"""The gradients of an iteration of several batches: each computed in turn, and added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.accumulate import accumulate_graph
from netspec.codegen.update import StatisticGroup, WeightGroup
from netspec.runtime.device import Device
from netspec.runtime.state import Memory, Scalars
from netspec.training.execution.bound import BoundBatch
from netspec.training.execution.recorded import Warn, loaded, silent
from netspec.training.execution.sharded import Sharded
from netspec.training.signals import CutShort, never


class Accumulated:
    """What `BoundBatch` is for one batch, for the `iter_size` batches of an iteration."""

    def __init__(
        self,
        batch: BoundBatch | Sharded,
        iter_size: int,
        groups: Sequence[WeightGroup],
        statistics: Sequence[StatisticGroup],
        state: Mapping[str, int],
        device: Device,
        written: Sequence[Memory],
        warn: Warn = silent,
        shards: int = 1,
    ) -> None:
        """`state` are the addresses of the groups, by port; `written` is what is added up in.

        The gradients of each batch are the sum of those of its `shards`.
        """
        self._batch = batch
        self._iter_size = iter_size
        self._sums: dict[str, float] = {}
        self.results = Scalars(device, ("finite",))
        """Whether all that an update reads is finite."""
        addresses = {
            **state,
            **{f"next:{name}": pointer for name, pointer in state.items()},
            "finite": batch.results.pointers["finite"],
            "sound": self.results.pointers["finite"],
            "next:sound": self.results.pointers["finite"],
        }
        self._begin, self._add = (
            loaded(
                accumulate_graph(groups, statistics, iter_size, first=first, shards=shards),
                device,
                addresses,
                written,
                in_place=True,
                warn=warn,
            )
            for first in (True, False)
        )

    def run(
        self, indices: NDArray[np.int64], iteration: int, stopped: Callable[[], bool] = never
    ) -> None:
        """Every batch of an iteration; each has random tensors of its own.

        CutShort if it is `stopped` between two of them.
        """
        self._sums = {}
        for i, part in enumerate(np.split(indices, self._iter_size)):
            if i and stopped():
                raise CutShort
            self._batch.run(part, iteration * self._iter_size + i)
            (self._add if i else self._begin).run()
            for name, number in self._batch.numbers().items():
                self._sums[name] = self._sums.get(name, 0.0) + number

    def numbers(self) -> dict[str, float]:
        """The means of what the batches gave; `finite` is 1 if it was for all."""
        means = {name: total / self._iter_size for name, total in self._sums.items()}
        return {**means, "finite": float(means["finite"] == 1)}

    def sort(self, numbers: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """The losses and the metrics among the numbers, by top."""
        return self._batch.sort(numbers)
