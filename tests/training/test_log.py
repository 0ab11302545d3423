"""The log reads the same whatever happened on the way."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from netspec.diagnostics import DataError
from netspec.training.logs.log import Log

FAULT = OSError(5, "Input/output error")


def fill(log: Log, first: int, last: int) -> None:
    for i in range(first, last + 1):
        train = {"loss": 1 / i, **({"accuracy": i / 10} if i > 1 else {})}
        test = {"loss": 2 / i, "accuracy": 0.5} if i % 3 == 0 else {}
        log.append(i, epoch=i / 4, rate=0.1, train=train, test=test)


def rows(path: Path) -> list[list[str]]:
    """All but the seconds."""
    with path.open(newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


def test_one_header_and_a_column_for_each_metric(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    ticks = iter(range(100))
    fill(Log(path, clock=lambda: float(next(ticks))), 1, 3)
    assert path.read_text().splitlines() == [
        "iteration,epoch,lr,loss,accuracy,test_loss,test_accuracy,seconds",
        "1,0.25,0.1,1,,,,1.000",
        "2,0.5,0.1,0.5,0.2,,,2.000",
        "3,0.75,0.1,0.333333333,0.3,0.666666667,0.5,3.000",
    ]


@pytest.mark.parametrize("keep", range(8))
def test_a_resumed_log_equals_the_uninterrupted_one(tmp_path: Path, keep: int) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    fill(Log(whole), 1, 7)
    fill(Log(cut), 1, 7)
    fill(Log(cut, keep=keep), keep + 1, 7)
    assert rows(cut) == rows(whole)


def test_any_torn_end_is_repaired(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.csv", tmp_path / "torn.csv"
    fill(Log(whole), 1, 4)
    text = whole.read_bytes()
    for length in range(0, len(text), 3):
        torn.write_bytes(text[:length] + b"\0\0" * (length % 2))
        left = text[:length].count(b"\n")
        fill(Log(torn, keep=4), max(left, 1), 4)
        assert rows(torn) == rows(whole), length


def test_seconds_go_on(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("iteration,epoch,lr,loss,seconds\n1,1,1,1,50.000\n")
    log = Log(path, keep=1, clock=lambda: 7.0)
    log.append(2, epoch=1, rate=1, train={"loss": 1}, test={})
    assert path.read_text().endswith("2,1,1,1,50.000\n")


def test_a_metric_may_have_the_name_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    train = {"loss": 1.0, "lr": 2.0, "test_loss": 3.0, "seconds": 4.0, "a,b\n": 5.0}
    Log(path).append(1, epoch=1, rate=1, train=train, test={"loss": 6.0})
    header, row = rows(path)
    names = ["loss", "lr_", "test_loss_", "seconds_", r"a,b\n", "test_loss"]
    assert dict(zip(header[3:], row[3:], strict=True)) == dict(zip(names, "123456", strict=True))


def test_a_full_disk_costs_one_warning_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, warnings = tmp_path / "log.csv", list[str]()
    log = Log(path, warn=warnings.append)
    fill(log, 1, 4)
    real = os.write

    def full(descriptor: int, text: Any) -> int:
        if len(text) > 5:
            return real(descriptor, text[:5])  # torn
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        fill(log, 5, 6)
        log.sync()
    assert len(warnings) == 1
    assert "the log is behind, training goes on: No space left on device" in warnings[0]
    fill(log, 7, 7)
    assert [row[0] for row in rows(path)] == ["iteration", *"1234567"]


def test_a_row_that_was_held_comes_with_the_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one has none behind it that would take it along."""
    path, warnings = tmp_path / "log.csv", list[str]()
    log = Log(path, warn=warnings.append)
    fill(log, 1, 3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", Mock(side_effect=FAULT))
        fill(log, 4, 4)
    assert len(warnings) == 1
    assert len(rows(path)) == 4
    log.sync()
    assert [row[0] for row in rows(path)] == ["iteration", *"1234"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_new_column_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, failing: int
) -> None:
    """Whether or not the file with it was put in place before the fault."""
    path, whole = tmp_path / "log.csv", tmp_path / "whole.csv"
    fill(Log(whole), 1, 5)
    log = Log(path)
    fill(log, 1, 2)
    real, calls = getattr(os, call), list[Any]()

    def once(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == failing:
            raise FAULT
        return real(*args)

    monkeypatch.setattr(os, call, once)
    fill(log, 3, 5)
    assert calls
    assert rows(path) == rows(whole)


def test_what_cannot_be_read_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    fill(Log(path), 1, 3)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", Mock(side_effect=FAULT))
        with pytest.raises(DataError, match=r"log\.csv: cannot be read: Input/output error"):
            Log(path, keep=3)
    assert path.read_bytes() == before
