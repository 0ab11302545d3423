"""A trained net beside data: what is tested, alone or with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from netspec.compiler import Elaborated, Spec, elaborate
from netspec.data import Dataset, Reading
from netspec.data.classes import same_classes
from netspec.diagnostics import UsageError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.types import size
from netspec.ir.views import Views
from netspec.runtime.device import Device
from netspec.training.execution.bound import transform_of
from netspec.training.execution.evaluator import Evaluation, Evaluator
from netspec.training.runs.run import Run
from netspec.training.runs.trained import trained_weights
from netspec.training.setup.experiment import run_spec
from netspec.training.setup.fingerprint import fingerprint
from netspec.training.setup.opening import open_learned, open_phase, open_validation
from netspec.training.testing.left_out import without_bad
from netspec.training.testing.predicting import Judge, Predictions
from netspec.training.testing.scored import Scored, averaged
from netspec.weights import check_weights

Arrays = Mapping[str, NDArray[Any]]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Candidate:
    """A net of phase TEST with weights that fit it, and data that feed it."""

    name: str
    """What the user calls it."""
    spec: Spec
    net: Net
    dataset: Dataset
    weights: Arrays
    held_out: str = ""
    """The digest of what its training held out, if the samples hang on that."""

    @property
    def samples(self) -> str:
        """What its samples are known by."""
        return f"{fingerprint(self.dataset)} {self.held_out}"

    @classmethod
    def of_run(
        cls,
        run: Run,
        *,
        data: Path | None = None,
        best: bool = False,
        split: Split = "test",
        tell: Callable[[str], None] = lambda _: None,
    ) -> Candidate:
        """A run's newest weights, or its best ones, and the data of `split`, or `data`.

        "train" is what it learned from, "val" what the tests of its training looked at. Samples
        that cannot be read are left out, `tell` hears of each, if the run may pass over them.
        UsageError if the spec has no such data, DataError if weights or data are damaged.
        """
        spec = run_spec(run)
        nets = elaborate(spec)
        net = _fed_by(nets, split)

        def opened(reading: Reading) -> Dataset:
            if split == "val":
                return open_validation(run, spec, nets, data=data, reading=reading)
            if split == "train":
                return open_learned(run, spec, net, nets, data=data, reading=reading)
            source = run.settings.data.get(Phase.TEST)
            return open_phase(spec, net, Phase.TEST, data=data, source=source, reading=reading)[0]

        dataset = without_bad(run, net, opened, tell)
        same_classes(dataset, run.settings.classes)
        weights = trained_weights(run, net, best=best)
        held_out = "" if split == "test" else run.settings.held_out
        return cls(str(run.path), spec, net, dataset, weights, held_out)

    @classmethod
    def of_spec(
        cls,
        spec: Spec,
        weights: Callable[[Net], Arrays],
        *,
        data: Path | None = None,
        split: Literal["train", "test"] = "test",
    ) -> Candidate:
        """A spec with what `weights` gives for its net; DataError if weights or data do not fit."""
        net = _fed_by(elaborate(spec), split)
        given = weights(net)
        check_weights(net, given)
        dataset, _ = open_phase(spec, net, Phase[split.upper()], data=data)
        return cls(str(spec.path), spec, net, dataset, given)

    def for_batch(self, batch: int) -> Net:
        """The net for the samples that its own batch size leaves over."""
        if batch == self.net.batch:
            return self.net
        net = elaborate(self.spec, batch=batch).test.net
        return net.model_copy(update={"data": self.net.data})

    def evaluated(self, device: Device, batches: int | None = None) -> Evaluation:
        """Loss and metrics; see `Evaluator`."""
        evaluator = Evaluator.of_weights(
            self.net, self.dataset.fed, self.weights, device, self.for_batch
        )
        return evaluator.run(batches)

    def judged(self, device: Device, views: Views | None = None) -> Predictions:
        """What it says of every sample, in the views of its test section unless others are given.

        See `Judge`.
        """
        views = transform_of(self.net).seen if views is None else views
        judge = Judge(self.net, self.dataset, device, self.for_batch, views=views)
        return judge.predictions(self.weights)


def _fed_by(nets: Elaborated, split: Split) -> Net:
    """The test net, its samples those of a split, treated as the test's are."""
    net = nets.test.net
    section = nets[Phase.TRAIN if split == "train" else Phase.TEST].net.data
    if section is not None and net.data is not None:
        section = section.model_copy(update={"transform": net.data.transform})
    return net.model_copy(update={"data": section})


@dataclass(frozen=True)
class Voice:
    """What one net of an ensemble says."""

    name: str
    net: Net
    scored: Scored
    samples: str
    """What it was asked about, see `Candidate`."""

    def clash(self, other: Voice) -> str | None:
        """Why the two cannot be averaged, None if they can."""
        taken, given = _inputs(self.net), _inputs(other.net)
        classes, theirs = self.scored.scores.shape[1], other.scored.scores.shape[1]
        if taken != given:
            return f"they take {taken}, and {given}"
        if classes != theirs:
            return f"they tell {classes:,} and {theirs:,} classes apart"
        if self.scored.classes != other.scored.classes:
            return "the names of their classes differ"
        if not np.array_equal(self.scored.labels, other.scored.labels):
            return "the labels of their test data differ"
        if self.samples != other.samples:
            return "they are tested on other samples, such as each on those that it held out"
        if self.scored.probable != other.scored.probable:
            return "one gives probabilities, the other does not"
        return None


def ensemble(voices: Sequence[Voice]) -> Scored:
    """The mean of what several nets say of the same samples; UsageError if it makes no sense."""
    first, *others = voices
    for other in others:
        if clash := first.clash(other):
            raise UsageError(f"no ensemble of `{first.name}` and `{other.name}`: {clash}")
    return averaged([voice.scored for voice in voices])


def _inputs(net: Net) -> str:
    """The shapes of what a net takes, the label left out."""
    fed = {name: type for name, type in net.inputs.items() if name != "label"}
    return " and ".join(f"`{name}` of {size(type.sample)}" for name, type in fed.items())
