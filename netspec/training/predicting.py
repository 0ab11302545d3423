"""What the test net says of whole test data, beside what is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from netspec.codegen.target import Target
from netspec.data.dataset import Dataset
from netspec.diagnostics import UsageError
from netspec.ir.heads import ClassHead, TargetHead, class_head, target_heads
from netspec.ir.net import Net
from netspec.ir.types import Shape, size
from netspec.ir.views import PLAIN, Views
from netspec.runtime.device import Device, choose_device
from netspec.training.predictor import Predictor, Weights
from netspec.training.scored import Regressed, Scored

if TYPE_CHECKING:
    from netspec.training.experiment import Experiment


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
        self._dataset = dataset
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
            labels = self._dataset.arrays[head.label]
            scored = Scored.of(scores, labels, self._dataset.classes, head.ignore_label)
        return Predictions(scored, tuple(self._regressed(head, found) for head in self._targets))

    def _regressed(self, head: TargetHead, found: Weights) -> Regressed:
        predictions = found[head.output]
        shape: Shape = (len(predictions), -1)
        target = self._dataset.arrays[head.target].astype(np.float32)
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
