"""The test graph, loaded: means over every sample of the test data, or over some batches of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.step import evaluation_graph
from netspec.codegen.target import Target
from netspec.ir.net import Net
from netspec.runtime.device import Device
from netspec.runtime.state import FlatBuffer, Layout
from netspec.training.execution.bound import BoundBatch, transform_of
from netspec.training.execution.samples import Arrays, samples_of
from netspec.training.execution.targets import target_for


@dataclass(frozen=True)
class Evaluation:
    """Means over samples of the test set."""

    loss: float
    losses: dict[str, float]
    metrics: dict[str, float]
    samples: int
    """How many, one that came twice counted twice."""


class Evaluator:
    """The test net on its data, with weights that lie at fixed addresses.

    What the net's own batch leaves over at the end is a batch of its own, so that no sample is
    padded, dropped or counted twice.
    """

    def __init__(
        self,
        net: Net,
        arrays: Arrays,
        addresses: Mapping[str, int],
        device: Device,
        net_for_batch: Callable[[int], Net] | None = None,
        held: FlatBuffer | None = None,
        target: Target | None = None,
    ) -> None:
        """`addresses` are those of weights and running statistics, by port.

        `net_for_batch` builds the net for the samples left over; `held` is the memory behind the
        addresses, if nobody else keeps it; `target` is the device's fastest unless given.
        """
        self._held = held
        self._net, self._net_for_batch = net, net_for_batch
        self._addresses, self._device = addresses, device
        self._target = target or target_for(device)
        self._end = 0
        """How many samples the test that is running takes."""
        self._samples = samples_of(net, arrays, device, self._indices)
        self._batches: dict[int, BoundBatch] = {}

    @classmethod
    def of_weights(
        cls,
        net: Net,
        arrays: Arrays,
        weights: Mapping[str, NDArray[Any]],
        device: Device,
        net_for_batch: Callable[[int], Net],
    ) -> Evaluator:
        """For weights and statistics by name, which are copied; DataError if they do not fit."""
        shapes = {p.name: p.shape for p in net.parameters}
        running = {name: s.shape for name, s in net.statistics.items()}
        layout = Layout.of({"weight": shapes, "running": running})
        held = FlatBuffer(layout, device)
        held.load({name: array for name, array in weights.items() if name in layout.places})
        addresses = {
            f"{kind}:{name}": held.pointer(name)
            for kind, names in (("weight", shapes), ("running", running))
            for name in names
        }
        return cls(net, arrays, addresses, device, net_for_batch, held)

    def run(self, batches: int | None = None) -> Evaluation:
        """Loss, losses and metrics of the whole test set, each sample once; or of so many batches.

        Those begin with the first sample, go on over the samples again, and count alike, as those
        of Caffe's `test_iter` do; Caffe goes on where its last test ended.
        """
        self._end = self._samples.count if batches is None else batches * self._net.batch
        totals: dict[str, float] = {}
        seen = number = 0
        with closing(self._samples):
            while (indices := self._indices(number)) is not None:
                batch = self._batch(len(indices))
                batch.run(indices, number)
                for name, mean in batch.numbers().items():
                    totals[name] = totals.get(name, 0.0) + mean * len(indices)
                seen += len(indices)
                number += 1
        means = {name: total / seen for name, total in totals.items()}
        losses, metrics = batch.sort(means)
        return Evaluation(means["loss"], losses, metrics, seen)

    def _batch(self, size: int) -> BoundBatch:
        """The test graph for `size` samples, loaded on first use."""
        if size not in self._batches:
            net = self._net
            if size != net.batch:
                assert self._net_for_batch is not None, f"no test net for a batch of {size}"
                net = self._net_for_batch(size)
            step = evaluation_graph(net, self._samples.types, transform_of(net), self._target)
            self._batches[size] = BoundBatch(step, self._addresses, self._samples, self._device, 0)
        return self._batches[size]

    def _indices(self, number: int) -> NDArray[np.int64] | None:
        """The samples of a batch of the test; None behind the last one."""
        start = number * self._net.batch
        if start >= self._end:
            return None
        stop = min(start + self._net.batch, self._end)
        return np.arange(start, stop, dtype=np.int64) % self._samples.count
