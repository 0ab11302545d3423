"""Which run `netspec train --resume` goes on with, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Netspec = Callable[..., Any]

NET = """
name: "v"
data "train" { source: "samples.npz"  batch_size: 4 }
data "test" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x4x4 }
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
accuracy
solver { base_lr: 0.1  max_epoch: 2 }
"""


@pytest.fixture
def train(tmp_path: Path, netspec: Netspec, monkeypatch: pytest.MonkeyPatch) -> Netspec:
    """`netspec train v.net`, with `v.net` in the working directory."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    data = generator.standard_normal((12, 3, 4, 4)).astype(np.float32)
    np.savez("samples.npz", data=data, label=np.arange(12) % 3)
    Path("v.net").write_text(NET)
    return lambda *words: netspec("train", "v.net", "--device", "cpu", *words)


def test_neither_folds_nor_restarts_are_the_last_run(train: Netspec) -> None:
    for words in ((), ("--folds", 2, "--epochs", 1), ("--restarts", 2)):
        assert train(*words).code == 0
    again = train("--resume", "--epochs", "+2")
    assert again.code == 0, again.err
    assert "going on with runs/v/1: 12 iterations" in again.err
    assert train("--resume", "--folds", 2, "--epochs", 1).code == 0
    assert "runs/v/5" in train("--resume", "--restarts", 2).out  # and not run 1, of the same seed


@pytest.mark.parametrize("option", ["--folds", "--restarts"])
def test_a_run_that_stands_for_itself_is_wanted(train: Netspec, option: str) -> None:
    assert train(option, 2).code == 0
    refused = train("--resume")
    assert refused.code == 2
    assert (
        f"there is no run of v under runs to go on with alone: {option} 2 --resume goes on with "
        "all, --snapshot runs/v/2 with one" in refused.err
    )
    named = train("--snapshot", "runs/v/2", "--epochs", "+1")
    assert named.code == 0, named.err
    assert "going on with runs/v/2" in named.err


def edit(old: str, new: str) -> None:
    text = Path("v.net").read_text()
    assert old in text
    Path("v.net").write_text(text.replace(old, new))


def test_an_edited_length_stands_over_an_earlier_option(train: Netspec) -> None:
    assert train().code == 0
    assert train("--resume", "--epochs", "+1", "--max-time", "1h").code == 0
    edit("max_epoch: 2", "max_epoch: 5")
    forced = train("--resume", "--force")
    assert forced.code == 0, forced.err
    assert "solver.max_epoch=3 of an earlier option gives way to the edited spec\n" in forced.err
    assert "going on with runs/v/1: 15 iterations" in forced.err
    assert "max_time" not in forced.err  # that one stands: the edit does not touch it
    assert "solver.max_time=3600" in Path("runs/v/1/settings.json").read_text()
    assert "going on with runs/v/1: 15 iterations" in train("--resume").err


def test_an_option_stands_where_the_edit_does_not_touch_it(train: Netspec) -> None:
    assert train().code == 0
    assert train("--resume", "--epochs", "+1").code == 0
    edit("base_lr: 0.1", "base_lr: 0.2")
    forced = train("--resume", "--force")
    assert "going on with runs/v/1: 9 iterations" in forced.err
    assert "gives way" not in forced.err
    assert "all iterations were done before the spec changed: --epochs +N goes on\n" in forced.err
    assert forced.out.startswith("done before: not tested  (")
    assert "15 iterations" in train("--resume", "--epochs", "+2").err


def test_data_for_tests_that_are_not_there_are_missed(train: Netspec) -> None:
    edit('data "test" { source: "samples.npz"  batch_size: 4 }\n', "")
    assert train().out.startswith("done: no test data  (")
