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
