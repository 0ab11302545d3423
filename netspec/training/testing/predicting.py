"""The deployed test net over whole data sets: what it says of every sample, by blob."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.emit import emit
from netspec.codegen.prediction import Prediction, prediction_graph
from netspec.codegen.target import Target
from netspec.data.dataset import Dataset
from netspec.diagnostics import NetspecError, UsageError
from netspec.ir.deploy import deploy
from netspec.ir.heads import ClassHead, TargetHead, class_head, target_heads
from netspec.ir.net import Net
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.views import PLAIN, Views
from netspec.runtime.device import Device, choose_device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding, Feed, FlatBuffer, Layout, Memory
from netspec.training.execution.bound import Samples, transform_of
from netspec.training.execution.samples import Arrays, samples_of
from netspec.training.execution.targets import target_for
from netspec.training.testing.label_images import tested_labels
from netspec.training.testing.scored import Regressed, Scored

if TYPE_CHECKING:
    from netspec.training.setup.experiment import Experiment

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
        views: Views = PLAIN,
    ) -> None:
        """`net` is that of phase TEST; `target` is the device's fastest unless given.

        Of several `views` each output is the mean. NetspecError for an output that the deployed net
        has not; UsageError for views that the images do not give.
        """
        self._net_for_batch: Callable[[int], Net] = lambda batch: deploy(
            net if batch == net.batch else net_for_batch(batch), outputs
        )[0]
        self._net, self._outputs = deploy(net, outputs)[0], tuple(outputs)
        self._views = transform_of(net).sized(views)
        self._count = max(1, net.batch // len(self._views))
        self._device, self._target = device, target or target_for(device)
        self._placed = samples_of(self._net, arrays, device, self._indices)
        self._samples = self._placed.count
        self._check_batch()
        self._check_views()
        shapes = {p.name: p.shape for p in self._net.parameters}
        running = {name: s.shape for name, s in self._net.statistics.items()}
        self._held = FlatBuffer(Layout.of({"weight": shapes, "running": running}), device)
        self._addresses = {
            f"{kind}:{name}": self._held.pointer(name)
            for kind, names in (("weight", shapes), ("running", running))
            for name in names
        }
        self._batches: dict[int, _Batch] = {}

    @property
    def types(self) -> dict[str, TensorType]:
        """What the outputs of all samples are, by blob."""
        made = {
            top: type
            for node in self._net.nodes
            for top, type in zip(node.tops, node.top_types, strict=True)
        }
        return {
            name: made[name].with_shape(self._samples, *made[name].sample) for name in self._outputs
        }

    def run(self, weights: Weights) -> dict[str, NDArray[np.float32]]:
        """The outputs of all samples, by blob, with these weights and statistics.

        NetspecError if they take more than MOST_BYTES.
        """
        self._check_size()
        whole = {name: np.empty(type.shape, type.dtype) for name, type in self.types.items()}
        for start, parts in self.parts(weights):
            for name, part in parts.items():
                whole[name][start : start + len(part)] = part
        return whole

    def parts(self, weights: Weights) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """The outputs batch by batch, with the number of the first sample; the next overwrites."""
        places = self._held.layout.places
        self._held.load({name: array for name, array in weights.items() if name in places})
        number = 0
        with closing(self._placed):
            while (indices := self._indices(number)) is not None:
                yield int(indices[0]), self._batch(len(indices)).run(indices, number)
                number += 1

    def _indices(self, number: int) -> NDArray[np.int64] | None:
        """The samples of a batch; None behind the last one."""
        start = number * self._count
        if start >= self._samples:
            return None
        return np.arange(start, min(start + self._count, self._samples), dtype=np.int64)

    def _batch(self, count: int) -> _Batch:
        """The graph for so many samples, loaded on first use."""
        if count not in self._batches:
            net = self._net_for_batch(count * len(self._views))
            types = self._placed.types
            made = prediction_graph(
                net, self._outputs, types, transform_of(net), self._target, self._views
            )
            self._batches[count] = _Batch(made, count, self._placed, self._addresses, self._device)
        return self._batches[count]

    def _check_batch(self) -> None:
        hung, batch = self._net.hung, self._net.batch
        if hung and not self._views.plain:
            raise UsageError(f"views: layer `{hung.name}` holds the batch size {batch}")
        if hung and self._samples % batch:
            raise UsageError(
                f"layer `{hung.name}` holds the batch size {batch}, of which the "
                f"{self._samples:,} samples are no multiple"
            )

    def _check_views(self) -> None:
        if self._views.plain:
            return
        for name in self._net.transformed:
            window, stored = self._net.inputs[name].sample, self._placed.types[name].sample
            if len(window) != 3:
                raise UsageError(f"views are of images, and `{name}` is not")
            self._views.check(stored[1:], window[1:], transform_of(self._net).pad)

    def _check_size(self) -> None:
        types = self.types.values()
        taken = 4 * sum(prod(type.shape) for type in types)
        if taken > MOST_BYTES:
            shapes = " and ".join(size(type.sample) or "a number" for type in types)
            raise NetspecError(
                f"{shapes} for each of {self._samples:,} samples takes {taken:,} bytes, more than "
                f"{MOST_BYTES:,}"
            )


class _Batch:
    """The graph for a number of samples, with all it reads and writes bound by address."""

    def __init__(
        self,
        made: Prediction,
        count: int,
        samples: Samples,
        weights: Mapping[str, int],
        device: Device,
    ) -> None:
        self._samples = samples  # what is bound must outlive the binding
        self._indices = Feed(device, (count,), np.int64)
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
    """The test net over whole test data, as often as its weights change.

    Of several views the scores are the mean, and the heads that predict numbers are left out: what
    they say of a part of an image is not so of the whole.
    """

    def __init__(
        self,
        net: Net,
        dataset: Dataset,
        device: Device,
        net_for_batch: Callable[[int], Net],
        target: Target | None = None,
        views: Views = PLAIN,
    ) -> None:
        """UsageError for views that the images do not give."""
        self._net, self._dataset = net, dataset
        self._classes: ClassHead | None = class_head(net)
        self._targets: tuple[TargetHead, ...] = target_heads(net) if views.plain else ()
        if not views.plain:
            _check_head(net, self._classes)
        heads = [head for head in (self._classes, *self._targets) if head is not None]
        outputs = list(dict.fromkeys(head.output for head in heads))
        self._predictor = (
            Predictor(net, outputs, dataset.fed, device, net_for_batch, target, views)
            if outputs
            else None
        )

    def predictions(self, weights: Weights) -> Predictions:
        """What the net says with these weights and statistics."""
        if self._predictor is None:
            return Predictions(None, ())
        found = self._predictor.run(weights)
        scored, head = None, self._classes
        if head is not None:
            scores = np.moveaxis(found[head.output], head.axis, -1)
            labels = tested_labels(self._net, head.label, self._dataset.held[head.label])
            scored = Scored.of(scores, labels, self._dataset.classes, head.ignore_label)
        return Predictions(scored, tuple(self._regressed(head, found) for head in self._targets))

    def _regressed(self, head: TargetHead, found: Weights) -> Regressed:
        predictions = found[head.output]
        shape: Shape = (len(predictions), -1)
        target = self._dataset.held[head.target].astype(np.float32)
        return Regressed(head.output, predictions.reshape(shape), target.reshape(shape))


def _check_head(net: Net, head: ClassHead | None) -> None:
    """UsageError unless views of an image can be asked for its class."""
    if head is None:
        raise UsageError("views are for classes, and the net has no scores of any")
    labels = net.inputs[head.label].sample
    if prod(labels) > 1:
        raise UsageError(
            f"views are for one class of an image, and `{head.label}` has {size(labels)}"
        )


def judge(experiment: Experiment, *, device: str | Device = "auto", views: Views = PLAIN) -> Judge:
    """For the test data of an experiment, which must have some."""
    assert experiment.test is not None
    net, for_batch = experiment.nets.test.net, experiment.test_for_batch
    return Judge(net, experiment.test, choose_device(device), for_batch, views=views)
