"""Several seeds of one spec: which is the best, and what the scores are together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import samples

from netspec.compiler import Spec, elaborate, read
from netspec.diagnostics import UsageError
from netspec.training.launch import train
from netspec.training.outcome import Diverged, Outcome
from netspec.training.runs.run import Run
from netspec.training.trials.restarts import Restart, Restarts, restarts

NET = """
data "train" { source: "samples.npz"  batch_size: 4 }
data "test" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x4x4 }
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
accuracy
solver { base_lr: 0.1  max_epoch: 1  random_seed: 5 }
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    samples(tmp_path)
    (tmp_path / "net.net").write_text(NET)
    return read(str(tmp_path / "net.net"))


def outcome(best: float | None, *, higher: bool = True) -> Outcome:
    return Outcome(Path("run"), 1, 1, {}, best, 1, 0, higher=higher)


def seed(spec: Spec) -> int:
    solver = elaborate(spec).train.net.solver
    assert solver is not None
    return solver.random_seed


def trainer(spec: Spec, heard: list[tuple[int, Path | None]]) -> Callable[..., Outcome]:
    def one(seeded: Spec, folder: Path | None) -> Outcome:
        heard.append((seed(seeded), folder))
        runs = spec.path.parent / "runs"
        return train(seeded, runs=runs, resume=folder or False, device="cpu")

    return one


def test_each_seed_has_a_run(spec: Spec) -> None:
    heard: list[tuple[int, Path | None]] = []
    runs = spec.path.parent / "runs"
    found = restarts(spec, 3, trainer(spec, heard), runs=runs)
    assert heard == [(5, None), (6, None), (7, None)]
    assert [run.seed for run in found.runs] == [5, 6, 7]
    folders = [run.outcome.run for run in found.runs if run.outcome]
    assert [Run.open(folder).settings.seed for folder in folders] == [5, 6, 7]
    weights = [Run.open(folder).weights()["score.weight"] for folder in folders]
    assert not np.array_equal(weights[0], weights[1])
    assert found.best.score == max(found.scores)
    assert found.mean == pytest.approx(np.mean(found.scores))
    assert found.deviation == pytest.approx(np.std(found.scores, ddof=1))
    heard.clear()
    again = restarts(spec, 4, trainer(spec, heard), runs=runs, resume=True)
    assert heard == [*zip((5, 6, 7), folders, strict=True), (8, None)]
    assert [run.outcome and run.outcome.ran for run in again.runs] == [0, 0, 0, 3]
    assert again.scores[:3] == found.scores


def test_the_first_of_the_best() -> None:
    rows = [Restart(i, outcome(score)) for i, score in enumerate((0.5, 0.7, None, 0.7))]
    assert Restarts(tuple(rows)).best.seed == 1
    rows = [Restart(i, outcome(s, higher=False)) for i, s in enumerate((0.5, 0.2, 0.3))]
    found = Restarts((Restart(9, None), *rows))
    assert found.best.seed == 1
    assert found.scores == [0.5, 0.2, 0.3]
    alone = Restarts((Restart(1, outcome(None)),))
    assert (alone.best.seed, alone.mean, alone.deviation) == (1, None, None)
    assert Restarts((Restart(1, outcome(0.5)),)).deviation is None


def test_one_that_diverges_is_a_row(spec: Spec) -> None:
    def one(seeded: Spec, folder: Path | None) -> Outcome:
        if seed(seeded) == 6:
            raise Diverged("run: diverged")
        return outcome(0.5)

    heard: list[str] = []
    found = restarts(spec, 3, one, runs=Path("none"), warn=heard.append)
    assert [run.score for run in found.runs] == [0.5, None, 0.5]
    assert heard == ["random_seed 6 diverged: run: diverged"]

    def never(*_: Any) -> Outcome:
        raise Diverged("run: diverged")

    with pytest.raises(Diverged):
        restarts(spec, 2, never, runs=Path("none"))


def test_a_seed_of_the_clock_is_the_first(spec: Spec) -> None:
    heard: list[int] = []

    def one(seeded: Spec, folder: Path | None) -> Outcome:
        heard.append(seed(seeded))
        return outcome(0.5)

    spec.path.write_text(NET.replace("random_seed: 5", "random_seed: -1"))
    restarts(read(str(spec.path)), 3, one, runs=Path("none"))
    assert heard[0] >= 0
    assert heard == [heard[0], heard[0] + 1, heard[0] + 2]
    with pytest.raises(UsageError, match="training needs a `solver"):
        restarts(read("vgg16"), 2, one, runs=Path("none"))
