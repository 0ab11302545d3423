"""A batch learned by heart, and a learning rate that grows until nothing is learned."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from netspec.compiler import read
from netspec.diagnostics import UsageError
from netspec.training.execution.machine import Machine, find_machine
from netspec.training.setup.experiment import Experiment, prepare
from netspec.training.trials.overfit import overfit
from netspec.training.trials.range_test import Point, RangeTest, range_test

NET = """
data "train" { source: "samples.npz"  batch_size: 8  transform { crop_size: 6  mirror: true } }
input "data" { shape: 3x6x6 }
fc "hidden" { num_output: 16  weight_filler { type: "xavier" } }
batch_norm
relu
dropout
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
accuracy
solver { base_lr: 0.1  momentum: 0.9  weight_decay: 0.5  max_epoch: 1  iter_size: 2 }
"""


def experiment(folder: Path, text: str = NET) -> Experiment:
    generator = np.random.default_rng(0)
    np.savez(
        folder / "samples.npz",
        data=generator.standard_normal((64, 3, 8, 8)).astype(np.float32),
        label=generator.integers(0, 3, 64),
    )
    (folder / "net.net").write_text(text)
    return prepare(read(str(folder / "net.net")))


@pytest.fixture
def machine() -> Machine:
    return find_machine("cpu")


def test_noise_is_learned_by_heart(tmp_path: Path, machine: Machine) -> None:
    """In spite of crops, flips, dropout and a decay with which nothing could be learned."""
    told: list[tuple[int, float, float]] = []
    found = overfit(
        experiment(tmp_path), machine, iterations=200, told=lambda *step: told.append(step)
    )
    assert found.learned
    assert found.samples == 8
    assert found.last <= found.below == pytest.approx(found.first / 100)
    assert list(found.metrics.values()) == [1]
    assert [step[0] for step in told] == list(range(found.iterations + 1))
    assert {step[2] for step in told} == {0.1}
    assert (told[0][1], told[-1][1]) == (found.first, found.last)
    again = overfit(experiment(tmp_path), machine, iterations=200)
    assert again == found


@pytest.mark.parametrize("mixed", ["mixup: 1", "cutmix: 1"])
def test_mixed_samples_are_learned_apart(mixed: str, tmp_path: Path, machine: Machine) -> None:
    text = NET.replace("mirror: true", f"mirror: true  {mixed}")
    assert overfit(experiment(tmp_path, text), machine, iterations=200).learned


def test_what_cannot_be_learned(tmp_path: Path, machine: Machine) -> None:
    """A net that sees nothing; and one that has no time, or a rate that is too high."""
    blind = NET.replace("crop_size: 6", "crop_size: 6  scale: 0")
    found = overfit(experiment(tmp_path, blind), machine, iterations=30)
    assert not found.learned
    assert (found.iterations, found.samples) == (30, 8)
    whole = experiment(tmp_path)
    assert not overfit(whole, machine, iterations=1).learned
    assert overfit(whole, machine, iterations=50, below=0.5).last <= 0.5
    assert overfit(whole, machine, iterations=200, samples=3).samples == 3
    high = replace(whole, spec=read(str(tmp_path / "net.net"), sets=["solver.base_lr=1e38"]))
    gone = overfit(high, machine, iterations=10)
    assert isnan(gone.last)
    assert not gone.learned


def test_a_rate_that_grows(tmp_path: Path, machine: Machine) -> None:
    text = NET.replace("weight_decay: 0.5", "").replace("dropout", "")
    found = range_test(experiment(tmp_path, text), machine, first=1e-5, last=1e4, iterations=60)
    rates = [point.rate for point in found.points]
    assert rates[0] == 1e-5
    factors = np.diff(np.log(rates))
    assert np.allclose(factors, np.log(1e9) / 59)
    mean, losses = 0.0, [point.loss for point in found.points]
    for i, point in enumerate(found.points):
        mean = 0.9 * mean + 0.1 * losses[i]
        assert point.smoothed == pytest.approx(mean / (1 - 0.9 ** (i + 1)))
    assert found.blown is not None
    assert found.suggestion is not None
    assert found.points[0].rate < found.suggestion <= found.blown / 10
    again = range_test(experiment(tmp_path, text), machine, first=1e-5, last=1e4, iterations=60)
    assert again == found


def curve(losses: list[float], blown: float | None = None) -> RangeTest:
    return RangeTest(tuple(Point(10.0 ** (i - 9), x, x) for i, x in enumerate(losses)), blown)


def test_what_a_curve_suggests() -> None:
    falls = curve([2, 2, 2, 1.9, 1.5, 0.6, 0.5, 0.4, 3, 9], blown=1.0)
    assert falls.lowest.rate == pytest.approx(1e-2)
    assert falls.steepest is not None
    assert falls.steepest.rate == pytest.approx(1e-5) or falls.steepest.rate == pytest.approx(1e-4)
    assert falls.suggestion == falls.steepest.rate
    near = curve([2, 2, 2, 2, 2, 2, 2, 2, 1, 9], blown=1.0)
    assert near.suggestion == pytest.approx(0.1)
    assert curve([2, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8]).suggestion is None
    assert curve([2, 2, 2, 2, 2, 2, 2, 2, 2, 2]).suggestion is None
    open_end = curve([2, 2, 1.9, 1.8, 1.7, 1.6, 1.0, 0.9, 0.8, 0.7])
    assert open_end.steepest is not None
    assert open_end.suggestion == open_end.steepest.rate


@pytest.mark.parametrize(
    ("first", "last"), [(0, 1), (-1, 1), (1, 1), (2, 1), (1, float("inf")), (float("nan"), 1)]
)
def test_rates_that_do_not_grow(
    tmp_path: Path, machine: Machine, first: float, last: float
) -> None:
    with pytest.raises(UsageError, match="is to grow, and not from"):
        range_test(experiment(tmp_path), machine, first=first, last=last, iterations=10)
