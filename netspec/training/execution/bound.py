"""The graphs of a training step, loaded, with all they read and write bound once by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.averaging import Averaging
from netspec.codegen.solvers import UpdateRule
from netspec.codegen.step import BatchStep
from netspec.codegen.update import (
    StatisticGroup,
    WeightGroup,
    update_graph,
)
from netspec.ir.measured import read_beside
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.state import Feed, Memory, Scalars
from netspec.training.execution.mixture import drawn_mixture
from netspec.training.execution.randoms import Randoms
from netspec.training.execution.recorded import Warn, loaded, silent


class Samples(Protocol):
    """Where the graph of a batch finds its samples."""

    @property
    def memory(self) -> Mapping[str, Memory]:
        """The arrays on the device, by blob."""
        ...

    def rows(self, samples: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        """The places in the arrays of a batch's samples, once they are there.

        `number` is that of the batch, as it is foretold.
        """
        ...


class BoundBatch:
    """A batch's graph: indices and random tensors in, losses and metrics out."""

    def __init__(
        self,
        step: BatchStep,
        state: Mapping[str, int],
        samples: Samples,
        device: Device,
        seed: int,
        scale: int = 0,
        written: Sequence[Memory] = (),
        warn: Warn = silent,
        shard: int = 0,
        kept: Sequence[Memory] = (),
    ) -> None:
        """`state` are the addresses of weights, statistics and gradients, by port; `scale` is that
        of the loss's, which a graph in half precision reads. `written` is the memory of gradients
        and statistics that a run changes, and `warn` hears of CUDA graphs that are given up.
        The random numbers are those of the shard of that number, of a batch in equal shards. What
        it reads is `kept` as long as it is there.
        """
        self._seed = seed
        self._kept = (*written, *kept)  # what is bound must outlive the binding, as must samples
        self._samples = samples
        self._losses = {top: f"loss:{top}" for top in step.losses}
        self._metrics = {top: f"metric:{top}" for top in step.metrics}
        self._indices = Feed(device, step.indices.type.shape, np.int64)
        shapes = {name: value.type.shape for name, value in step.randoms.items()}
        self._randoms = Randoms(shapes, device, seed, shard)
        self._mix = step.mix
        self._mixture = {
            name: Feed(device, v.type.shape, v.type.dtype)
            for name, v in (step.mix.fed if step.mix else {}).items()
        }
        tops = (*self._losses.values(), *self._metrics.values())
        self.results = Scalars(device, ("loss", *tops, "finite"))
        """Loss, losses, metrics, and whether what an update reads is finite."""
        addresses = {
            **state,
            **{f"array:{name}": memory.pointer for name, memory in samples.memory.items()},
            **{f"random:{name}": pointer for name, pointer in self._randoms.pointers.items()},
            **{f"mix:{name}": feed.pointer for name, feed in self._mixture.items()},
            **self.results.pointers,
            "scale": scale,
            "indices": self._indices.pointer,
        }
        written = [*written, self.results.memory]
        self._binding = loaded(step, device, addresses, written, warn=warn)

    def run(self, indices: NDArray[np.int64], iteration: int) -> None:
        """One batch of the samples `indices`, with the random tensors of `iteration`."""
        self.run_at(self._samples.rows(indices, iteration), iteration)

    def run_at(self, places: NDArray[np.int64], iteration: int) -> None:
        """The same for samples that are there already, at these places in the arrays."""
        host = self._indices.host
        assert places.shape == host.shape, (places.shape, host.shape)
        host[...] = places
        self._indices.send()
        self._randoms.send(iteration)
        if self._mix is not None:
            for name, drawn in drawn_mixture(self._mix, self._seed, iteration).items():
                self._mixture[name].host[...] = drawn
                self._mixture[name].send()
        self._binding.run()

    def numbers(self) -> dict[str, float]:
        """What the last run gave: loss, losses, metrics, and `finite` in training."""
        return self.results.numbers()

    def sort(self, numbers: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """The losses and the metrics among the results, by top."""
        return (
            {top: numbers[port] for top, port in self._losses.items()},
            {top: numbers[port] for top, port in self._metrics.items()},
        )


class BoundUpdate:
    """The update's graph: a rate in, the state changed in place, or left alone.

    On the CPU the host has `finite` at hand and leaves the update undone; on CUDA it would have to
    wait for it, so there the graph guards itself.
    """

    def __init__(
        self,
        groups: Sequence[WeightGroup],
        statistics: Sequence[StatisticGroup],
        rule: UpdateRule,
        state: Mapping[str, int],
        results: Scalars,
        device: Device,
        written: Sequence[Memory],
        warn: Warn = silent,
        shards: int = 1,
    ) -> None:
        """`state` are the addresses of the groups, by port; `results` say if all is `finite`.

        `written` is the memory that an update changes; `warn` is that of `BoundBatch`; `shards`
        tells of how many the gradients are the sum.
        """
        self._rule = rule
        self._results = results
        self._averaging = averaging = Averaging.of(rule.solver)
        self._scalars = Scalars(device, (*rule.scalars, *([averaging.SCALAR] if averaging else [])))
        addresses = {
            **state,
            **{f"next:{name}": pointer for name, pointer in state.items()},
            **self._scalars.pointers,
            "finite": results.pointers["finite"],
        }
        self._guarded = device.cuda
        step = update_graph(groups, statistics, rule, guarded=self._guarded, shards=shards)
        self._update = loaded(step, device, addresses, written, in_place=True, warn=warn)

    def run(self, rate: float, iteration: int) -> None:
        """One update, unless the gradients are not finite."""
        if not self._guarded and not self._results.number("finite"):
            return
        numbers = self._rule.feeds(rate, iteration)
        if self._averaging:
            numbers[self._averaging.SCALAR] = self._averaging.fresh(iteration)
        self._scalars.write(numbers)
        self._update.run()


def placed(net: Net, arrays: Mapping[str, NDArray[Any]], device: Device) -> dict[str, Memory]:
    """The arrays that feed the net, and what its transform reads beside them, on the device."""
    names = [*net.inputs, *read_beside(net, transform_of(net))]
    return {name: Memory(device, arrays[name]) for name in names}


def array_types(arrays: Mapping[str, Memory | NDArray[Any]]) -> dict[str, TensorType]:
    """The types of whole arrays, by blob."""
    return {name: TensorType(array.shape, str(array.dtype)) for name, array in arrays.items()}


def transform_of(net: Net) -> Transform:
    """The transform of the net's data section."""
    return net.data.transform if net.data else Transform()
