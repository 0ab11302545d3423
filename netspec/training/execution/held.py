"""What a training holds on its device, in flat buffers: weights, gradients, memory, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.step import BatchStep
from netspec.codegen.update import StatisticGroup, WeightGroup, gradient_ports
from netspec.diagnostics import UsageError
from netspec.ir.initial import initial_statistics, initial_weights
from netspec.ir.net import Net
from netspec.ir.types import Shape, size
from netspec.runtime.device import Device
from netspec.runtime.state import FlatBuffer, Layout, Memory, Place


class Held:
    """What a training holds on the device, in flat buffers."""

    def __init__(
        self,
        nets: Sequence[Net],
        step: BatchStep,
        slots: Sequence[str],
        device: Device,
        *,
        several: bool,
        averaged: bool = False,
        shards: int = 1,
    ) -> None:
        """The first net is TRAIN's; parameters of the others alone stay as they are initialised.

        `several` batches in an iteration are added up, which takes memory of its own, and so do the
        means of weights and statistics over the iterations if they are `averaged`, and the
        gradients of each of a batch's `shards`.
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
        self.weights = FlatBuffer(trained, device)
        self.gradients = [FlatBuffer(trained, device) for _ in range(shards)]
        """Those of a batch are the sum of its shards'."""
        self.totals = [FlatBuffer(trained, device)] if several else self.gradients
        """What the gradients of an iteration are the sum of."""
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
        kept = {"average": trained, "running_average": folded} if averaged else {}
        self.averages = {kind: FlatBuffer(layout, device) for kind, layout in kept.items()}
        """Means of what an update changes, by what its graph calls them."""

    def fill(self, seed: int) -> None:
        """Initial weights and statistics, and their means; solver memory is zero."""
        weights: dict[str, NDArray[np.float32]] = {}
        statistics: dict[str, NDArray[np.float32]] = {}
        for net in reversed(self._nets):
            weights |= initial_weights(net, seed)
            statistics |= initial_statistics(net)
        self.weights.load({n: weights[n] for n in self.weights.layout.places})
        self.fixed.load({n: weights[n] for n in self.fixed.layout.places})
        self.running.load(statistics)
        initial = weights | statistics
        for buffer in self.averages.values():
            buffer.load({n: initial[n] for n in buffer.layout.places})

    def net(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all that a test computes with: weights, fixed ones too, and statistics."""
        held = (self.weights, self.fixed, self.running, *self.averages.values())
        return {name: tensor for buffer in held for name, tensor in buffer.dump().items()}

    def summed_gradients(self) -> dict[str, NDArray[np.float32]]:
        """Those that an update takes: of all shards of all batches of an iteration."""
        sums, *others = (buffer.dump() for buffer in self.totals)
        for other in others:
            for name, gradient in other.items():
                sums[name] += gradient
        return sums

    def read(self) -> list[Memory]:
        """What a batch reads."""
        return [b.memory for b in (self.weights, self.fixed, self.running)]

    def written(self) -> list[Memory]:
        """What an update changes."""
        kept = (*self.slots.values(), *self.averages.values())
        return [b.memory for b in (self.weights, self.running, *kept)]

    def addresses(self, shard: int = 0) -> dict[str, int]:
        """Each tensor's address, by the port of the graph of a batch or of one of its shards."""
        kinds = {
            "weight": [self.weights, self.fixed],
            "gradient": [self.gradients[shard]],
            "running": [self.running],
            "batch": [self.batch],
        }
        return {
            f"{kind}:{name}": buffer.pointer(name)
            for kind, buffers in kinds.items()
            for buffer in buffers
            for name in buffer.layout.places
        }

    def tested_addresses(self) -> dict[str, int]:
        """The same for a test, which reads the means instead if there are any."""
        kinds = zip(("weight", "running"), self.averages.values(), strict=False)
        return self.addresses() | {
            f"{kind}:{name}": buffer.pointer(name)
            for kind, buffer in kinds
            for name in buffer.layout.places
        }

    def updated_addresses(self) -> dict[str, int]:
        """Each group's address, by the port of the update's graph."""
        trained = {"weights": self.weights, **_ports(self.totals), **self.slots}
        folded = {"running": self.running, "batch": self.folded}
        for means, kind in zip((trained, folded), self.averages, strict=False):
            means[kind] = self.averages[kind]
        return self._groups(trained, folded)

    def accumulated_addresses(self) -> dict[str, int]:
        """The same, by the port of the graph that adds up batches."""
        (total,) = self.totals
        trained = {"total": total, **_ports(self.gradients)}
        return self._groups(trained, {"folded": self.folded, "batch": self.batch})

    def accumulated(self) -> list[Memory]:
        """What adding up batches changes."""
        return [*(total.memory for total in self.totals), self.folded.memory]

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


def _ports(gradients: Sequence[FlatBuffer]) -> dict[str, FlatBuffer]:
    return dict(zip(gradient_ports(len(gradients)), gradients, strict=True))


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
