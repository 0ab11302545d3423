"""The random tensors of a batch: dropout's, noise, and whatever else a graph is fed with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from netspec.data.order import key, philox
from netspec.ir.types import Shape
from netspec.runtime.device import Device
from netspec.runtime.state import Feed
from netspec.training.execution.worker import Task, Worker

_TO_UNIT = np.float32(2.0**-24)
_BLOCK = 2**15
"""Random numbers that are made at a time, few enough to stay in the L2 cache meanwhile."""


class Randoms:
    """Random tensors on a device. While CUDA computes, the host draws those of the next batch."""

    def __init__(
        self, shapes: Mapping[str, Shape], device: Device, seed: int, shard: int = 0
    ) -> None:
        """`shapes` by layer; of a batch in equal shards they are those of the shard `shard`."""
        self._feeds = {name: Feed(device, shape, np.float32) for name, shape in shapes.items()}
        self.pointers = {name: feed.pointer for name, feed in self._feeds.items()}
        """The address of each."""
        hosts = {name: feed.host for name, feed in self._feeds.items()}
        self._draw = partial(_draw, hosts, seed, shard)
        self._worker = Worker("randoms") if hosts and device.cuda else None
        self._ahead: tuple[int, Task] | None = None

    def send(self, iteration: int) -> None:
        """Bring those of an iteration to the device; the next is taken to be the one after it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._worker is not None:
            self._worker.wait_for(ahead[1])
        if ahead is None or ahead[0] != iteration:
            self._draw(iteration)
        for feed in self._feeds.values():
            feed.send()
        if self._worker is not None:
            task = partial(self._draw, iteration + 1)
            self._ahead = iteration + 1, task
            self._worker.ask(task)


def _draw(hosts: Mapping[str, NDArray[np.float32]], seed: int, shard: int, iteration: int) -> None:
    for name, host in hosts.items():
        fill_uniform(host, seed, iteration, name, shard * host.size)


def uniform(seed: int, iteration: int, layer: str, shape: Shape) -> NDArray[np.float32]:
    """Multiples of 2^-24 in [0, 1), each from seed, iteration, layer and its own number."""
    drawn = np.empty(shape, np.float32)
    fill_uniform(drawn, seed, iteration, layer)
    return drawn


def fill_uniform(
    out: NDArray[np.float32], seed: int, iteration: int, layer: str, begin: int = 0
) -> None:
    """Overwrite a contiguous array with what `uniform` gives for its shape, from `begin` on."""
    assert out.flags.c_contiguous
    flat = out.reshape(-1)
    stream = key(seed, "random", iteration, layer)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        words = philox(stream, begin + start, block.size)
        words >>= np.uint32(8)
        block[...] = words
        block *= _TO_UNIT
