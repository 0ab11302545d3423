"""`netspec train --folds` and `netspec test --split`, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec.cli.folds import tell
from netspec.training.outcome import Outcome
from netspec.training.trials.folds import Scores

Netspec = Callable[..., Any]


@pytest.fixture
def spec(tiny: Path) -> Path:
    """The tiny spec, which trains for ten iterations."""
    tiny.write_text(tiny.read_text().replace("max_iter: 30", "max_iter: 10"))
    return tiny


def test_scores_of_the_folds(netspec: Netspec, spec: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = netspec("train", spec, "--runs", runs, "--folds", 2)
    assert done.code == 0
    *_, first, second, mean = done.out.splitlines()
    assert first.startswith("fold 1: loss ")
    assert second.endswith("runs/Tiny/2")
    assert mean.startswith("mean of 2 ± standard deviation: loss ")
    assert mean.count("±") == 3

    again = netspec("train", spec, "--runs", runs, "--folds", 2, "--resume", "--json")
    event = again.lines[-1]
    assert (event["event"], [fold["fold"] for fold in event["folds"]]) == ("folds", [1, 2])
    scores = [fold["test"]["accuracy"] for fold in event["folds"]]
    assert event["mean"]["accuracy"] == pytest.approx(sum(scores) / 2)
    assert event["deviation"]["accuracy"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)

    held = netspec("test", runs / "Tiny" / "2", "--split", "val", "--json").json
    assert (held["samples"], held["accuracy"]) == (5000, pytest.approx(scores[1]))
    assert netspec("test", runs / "Tiny" / "2", "--json").json["samples"] == 2000


def test_folds_that_diverge(capsys: pytest.CaptureFixture[str]) -> None:
    ended = [Outcome(Path(f"runs/V/{n}"), 3, 3, {"loss": n}, None, None, 0) for n in (1.0, 3.0)]
    tell(Scores((None, *ended)), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "fold 1: diverged",
        "fold 2: loss 1.0000  runs/V/1.0",
        "fold 3: loss 3.0000  runs/V/3.0",
        "mean of 2 ± standard deviation: loss 2.0000 ± 1.4142",
    ]
    tell(Scores((None, ended[0])), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "mean of 1: loss 1.0000"
    tell(Scores((None, ended[0])), as_json=True)
    event = json.loads(capsys.readouterr().out)
    assert event["folds"][0] == {"fold": 1, "run": None, "test": None}
    assert (event["mean"], event["deviation"]) == ({"loss": 1.0}, {})


def test_folds_that_were_not_tested(capsys: pytest.CaptureFixture[str]) -> None:
    """As one that was done before its spec was changed."""
    tests: list[dict[str, float]] = [{}, {"loss": 1.0}]
    ended = [
        Outcome(Path(f"runs/V/{n}"), 3, 0, test, None, None, 0) for n, test in enumerate(tests)
    ]
    tell(Scores(tuple(ended)), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "fold 1: not tested  runs/V/0",
        "fold 2: loss 1.0000  runs/V/1",
        "mean of 1: loss 1.0000",
    ]
    tell(Scores((ended[0], None)), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "none was tested"


def test_what_does_not_go_together(netspec: Netspec, spec: Path, tmp_path: Path) -> None:
    for words, message in (
        (
            ("train", spec, "--folds", 2, "--snapshot", tmp_path),
            "--folds begins runs of its own, which do not go with --snapshot",
        ),
        (("train", spec, "--folds", 1), "1 is not in the range"),
        (("train", spec, "--folds", 2, "--resume", "--runs", tmp_path), "no cross-validation of"),
        (("test", spec, "--weights", spec, "--split", "val"), "--split val is of a run"),
    ):
        result = netspec(*words)
        assert result.code == 2
        assert message in result.err
