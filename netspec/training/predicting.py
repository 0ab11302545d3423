"""The deployed test net over whole data sets: what it says of every sample, by blob."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.emit import emit
from netspec.codegen.prediction import prediction_graph
from netspec.codegen.target import Target
from netspec.data.dataset import Dataset
from netspec.diagnostics import NetspecError
from netspec.ir.deploy import deploy
from netspec.ir.heads import ClassHead, TargetHead, class_head, target_heads
from netspec.ir.net import Net
from netspec.ir.types import Shape, size
from netspec.runtime.device import Device, choose_device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding, Feed, FlatBuffer, Layout, Memory
from netspec.training.bound import Samples, array_types, transform_of
from netspec.training.samples import Arrays, samples_of
from netspec.training.scored import Regressed, Scored
from netspec.training.targets import target_for

if TYPE_CHECKING:
    from netspec.training.experiment import Experiment

Weights = Mapping[str, NDArray[Any]]

MOST_BYTES = 4 << 30
"""What the outputs for a whole data set may take."""


class Predictor:
    """A net's deployed form, loaded for a data set: weights in, blobs of every sample out.

    What the net's own batch leaves over at the end is a batch of its own. Nothing is drawn by lot.
    """

    def __init__(
        self,
        net: Net,
        outputs: Sequence[str],
        arrays: Arrays,
        device: Device,
        net_for_batch: Callable[[int], Net],
        target: Target | None = None,
    ) -> None:
        """`net` is that of phase TEST; `target` is the device's fastest unless given.

        NetspecError for an output that the deployed net has not, or if all samples' outputs take
        more than MOST_BYTES.
        """
        self._for_batch: Callable[[int], Net] = lambda batch: deploy(
            net if batch == net.batch else net_for_batch(batch), outputs
        )[0]
        self._net = self._for_batch(net.batch)
        self._outputs = tuple(outputs)
        self._device, self._target = device, target or target_for(device)
        self._placed = samples_of(self._net, arrays, device, self._indices)
        self._samples = self._placed.count
        self._check_size()
        shapes = {p.name: p.shape for p in self._net.parameters}
        running = {name: s.shape for name, s in self._net.statistics.items()}
        self._held = FlatBuffer(Layout.of({"weight": shapes, "running": running}), device)
        self._addresses = {
            f"{kind}:{name}": self._held.pointer(name)
            for kind, names in (("weight", shapes), ("running", running))
            for name in names
        }
        self._batches: dict[int, _Batch] = {}

    def run(self, weights: Weights) -> dict[str, NDArray[np.float32]]:
        """The outputs of all samples, by blob, with these weights and statistics."""
        places = self._held.layout.places
        self._held.load({name: array for name, array in weights.items() if name in places})
        whole: dict[str, NDArray[np.float32]] = {}
        number = 0
        with closing(self._placed):
            while (indices := self._indices(number)) is not None:
                for name, part in self._batch(len(indices)).run(indices, number).items():
                    whole.setdefault(name, np.empty((self._samples, *part.shape[1:]), part.dtype))
                    whole[name][indices] = part
                number += 1
        return whole

    def _indices(self, number: int) -> NDArray[np.int64] | None:
        """The samples of a batch; None behind the last one."""
        start = number * self._net.batch
        if start >= self._samples:
            return None
        return np.arange(start, min(start + self._net.batch, self._samples), dtype=np.int64)

    def _batch(self, count: int) -> _Batch:
        """The graph for so many samples, loaded on first use."""
        if count not in self._batches:
            net = self._net if count == self._net.batch else self._for_batch(count)
            self._batches[count] = _Batch(
                net, self._outputs, self._placed, self._addresses, self._device, self._target
            )
        return self._batches[count]

    def _check_size(self) -> None:
        made = {
            top: type.sample
            for node in self._net.nodes
            for top, type in zip(node.tops, node.top_types, strict=True)
        }
        taken = 4 * self._samples * sum(prod(made[name]) for name in self._outputs)
        if taken > MOST_BYTES:
            shapes = " and ".join(size(made[name]) or "a number" for name in self._outputs)
            raise NetspecError(
                f"{shapes} for each of {self._samples:,} samples takes {taken:,} bytes, more than "
                f"{MOST_BYTES:,}"
            )


class _Batch:
    """The graph for a number of samples, with all it reads and writes bound by address."""

    def __init__(
        self,
        net: Net,
        outputs: Sequence[str],
        samples: Samples,
        weights: Mapping[str, int],
        device: Device,
        target: Target,
    ) -> None:
        made = prediction_graph(
            net, outputs, array_types(samples.memory), transform_of(net), target
        )
        self._samples = samples  # what is bound must outlive the binding
        self._indices = Feed(device, (net.batch,), np.int64)
        self._outputs = {
            name: Memory.zeros(device, value.type.shape, value.type.dtype)
            for name, value in made.outputs.items()
        }
        addresses = {
            **weights,
            **{f"array:{name}": memory.pointer for name, memory in samples.memory.items()},
            **{f"blob:{name}": memory.pointer for name, memory in self._outputs.items()},
            "indices": self._indices.pointer,
        }
        session = make_session(emit(made.graph, names=made.names), device)
        self._binding = Binding(session, device, addresses)

    def run(self, indices: NDArray[np.int64], number: int) -> dict[str, NDArray[Any]]:
        """The outputs of the samples `indices`; the next run overwrites them."""
        self._indices.host[...] = self._samples.rows(indices, number)
        self._indices.send()
        self._binding.run()
        return {name: memory.read() for name, memory in self._outputs.items()}


@dataclass(frozen=True)
class Predictions:
    """What a net said of its test data."""

    scored: Scored | None
    """The scores of classes, if the net has any and the data their labels."""
    regressed: tuple[Regressed, ...]
    """The heads that predict numbers which the data give."""


class Judge:
    """The test net of an experiment over its whole test data, as often as its weights change."""

    def __init__(
        self,
        net: Net,
        dataset: Dataset,
        device: Device,
        net_for_batch: Callable[[int], Net],
        target: Target | None = None,
    ) -> None:
        self._dataset = dataset
        self._classes: ClassHead | None = class_head(net)
        self._targets: tuple[TargetHead, ...] = target_heads(net)
        heads = [head for head in (self._classes, *self._targets) if head is not None]
        outputs = list(dict.fromkeys(head.output for head in heads))
        self._predictor = (
            Predictor(net, outputs, dataset.fed, device, net_for_batch, target) if outputs else None
        )

    def predictions(self, weights: Weights) -> Predictions:
        """What the net says with these weights and statistics."""
        if self._predictor is None:
            return Predictions(None, ())
        found = self._predictor.run(weights)
        scored = None
        if self._classes is not None:
            scores = np.moveaxis(found[self._classes.output], self._classes.axis, -1)
            labels = self._dataset.arrays[self._classes.label]
            scored = Scored.of(scores, labels, self._dataset.classes, self._classes.ignore_label)
        return Predictions(scored, tuple(self._regressed(head, found) for head in self._targets))

    def _regressed(self, head: TargetHead, found: Weights) -> Regressed:
        predictions = found[head.output]
        shape: Shape = (len(predictions), -1)
        target = self._dataset.arrays[head.target].astype(np.float32)
        return Regressed(head.output, predictions.reshape(shape), target.reshape(shape))


def judge(experiment: Experiment, *, device: str | Device = "auto") -> Judge:
    """For the test data of an experiment, which must have some."""
    assert experiment.test is not None
    net = experiment.nets.test.net
    return Judge(net, experiment.test, choose_device(device), experiment.test_for_batch)
