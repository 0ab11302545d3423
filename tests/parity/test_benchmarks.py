"""What the benchmark of a step looks at is there: its own command is not run here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_every_stage_of_a_steps_making_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    step, sides = importlib.import_module("bench_step"), importlib.import_module("sides")
    with step.Stopwatch() as watch:
        sides.ours("lenet", sides.noise(sides.net_of("lenet")))(0)
    assert [stage for stage, seconds in watch.seconds.items() if not seconds] == []
