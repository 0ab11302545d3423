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
        self._fill = partial(_fill, hosts, seed, shard)
        self._worker = Worker("randoms") if hosts and device.cuda else None
        self._ahead: Task | None = None
        """What the worker was asked to draw, unless that was interrupted."""
        self._held: int | None = None
        """The iteration whose tensors the host holds, or is about to."""
        self._sent: int | None = None

    def send(self, iteration: int) -> None:
        """Bring those of an iteration to the device; while they follow each other, draw ahead."""
        self._await_worker()
        if self._held != iteration:
            self._held = None
            self._fill(iteration)
            self._held = iteration
        for feed in self._feeds.values():
            feed.send()
        follows = self._sent in (None, iteration - 1)
        self._sent = iteration
        if self._worker is not None and follows:
            task = partial(self._fill, iteration + 1)
            self._held = None
            self._worker.ask(task)
            self._ahead, self._held = task, iteration + 1

    def _await_worker(self) -> None:
        """Nobody else writes to the host's tensors any more, whatever was interrupted where."""
        if self._worker is None:
            return
        try:
            if self._ahead is not None:
                self._worker.wait_for(self._ahead)
            else:
                self._worker.settle()
        except BaseException:
            self._held = None
            self._worker.settle()
            raise
        finally:
            self._ahead = None


def _fill(hosts: Mapping[str, NDArray[np.float32]], seed: int, shard: int, iteration: int) -> None:
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
