"""Where a batch's samples are: all on the device, or those of one batch, decoded as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.lazy import Lazy, Rows
from netspec.data.prefetch import Ahead, Prefetch
from netspec.ir.measured import read_beside
from netspec.ir.net import Net
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.free import free_memory
from netspec.runtime.state import Memory
from netspec.training.execution.bound import array_types, placed, transform_of

Arrays: TypeAlias = Mapping[str, NDArray[Any] | Lazy]
"""A data set's, by blob."""


class Resident:
    """Whole arrays on the device; the graph gathers the samples by their numbers."""

    waited: float | None = None

    def __init__(self, net: Net, arrays: Mapping[str, NDArray[Any]], device: Device) -> None:
        self.memory = placed(net, arrays, device)
        self.count = _count(net, arrays)

    @property
    def types(self) -> dict[str, TensorType]:
        """What the graph is to gather from."""
        return array_types(self.memory)

    def rows(self, samples: Rows, number: int) -> Rows:  # noqa: ARG002
        """The samples' own numbers."""
        return samples

    def close(self) -> None:
        """There is nothing to end."""


class Streamed:
    """Room on the device for one batch, which the graph takes to be the whole.

    So nothing in the graph differs, and neither does what it gives: the samples are the same.
    """

    def __init__(self, net: Net, arrays: Arrays, device: Device, ahead: Ahead) -> None:
        fed = {name: arrays[name] for name in net.inputs}
        self.memory = {
            name: Memory.zeros(device, (net.batch, *array.shape[1:]), array.dtype)
            for name, array in fed.items()
        }
        self._batch = Prefetch(fed, net.batch, ahead)
        for name in read_beside(net, transform_of(net)):
            self.memory[name] = Memory(device, np.asarray(arrays[name]))
        self.count = _count(net, arrays)
        self.waited: float | None = 0.0
        """Seconds that were spent waiting for samples."""

    @property
    def types(self) -> dict[str, TensorType]:
        """What the graph is to gather from."""
        return array_types(self.memory)

    def rows(self, samples: Rows, number: int) -> Rows:
        """The first places of the batch; DataError if a sample cannot be read."""
        begin = time.perf_counter()
        arrays = self._batch.take(number, samples)
        assert self.waited is not None
        self.waited += time.perf_counter() - begin
        for name, array in arrays.items():
            self.memory[name].write(array)
        return np.arange(len(samples), dtype=np.int64)

    def close(self) -> None:
        """End the threads."""
        self._batch.close()


def samples_of(net: Net, arrays: Arrays, device: Device, ahead: Ahead) -> Resident | Streamed:
    """Everything on the device, if it is in memory and there is room for it.

    `ahead` foretells the samples of a batch by its number.
    """
    loaded = {name: array for name, array in arrays.items() if not isinstance(array, Lazy)}
    if not loaded.keys() >= set(net.inputs):
        return Streamed(net, arrays, device, ahead)
    needed = sum(loaded[name].nbytes for name in net.inputs)
    if not _has_room(device, needed):
        return Streamed(net, arrays, device, ahead)
    return Resident(net, loaded, device)


def _has_room(device: Device, needed: int) -> bool:
    """Whether data take no more than half of what is free: on the CPU they are there already."""
    free = free_memory(device) if device.cuda else None
    return free is None or needed <= free // 2


def _count(net: Net, arrays: Arrays) -> int:
    return len(arrays[next(iter(net.inputs))])
