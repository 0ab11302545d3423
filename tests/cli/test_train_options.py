"""The options of `netspec train` beyond a single run, and the verbs that look before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netspec.training.runs.run import Run

Netspec = Callable[..., Any]


@pytest.fixture
def words(tiny: Path, tmp_path: Path) -> list[object]:
    """`train` on a small net, tested every 10 iterations."""
    tiny.write_text(tiny.read_text().replace("max_iter: 30", "max_iter: 10"))
    return ["train", tiny, "--runs", tmp_path / "runs", "--device", "cpu"]


def test_extended(netspec: Netspec, words: list[object], tmp_path: Path) -> None:
    assert netspec(*words).code == 0
    result = netspec(*words, "--resume", "--epochs", "1", "--json")
    assert result.code == 0, result.err
    assert result.lines[0]["iteration"] == 10
    assert result.lines[-1]["iterations"] == 157  # 10,000 digits in batches of 64
    refused = netspec(*words, "--epochs", "+1")
    assert (refused.code, refused.out) == (2, "")
    assert "--epochs +1 is for a run that goes on" in refused.err
    tested = netspec("test", tmp_path / "runs/Tiny/1", "--best", "--json").json
    done = result.lines[-1]
    assert tested["accuracy"] == pytest.approx(done["best"])
    assert netspec("test", "lenet", "--best", "--weights", "x.npz").code == 2


def test_a_net_without_a_name_is_called_as_its_file_is(netspec: Netspec, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", data=np.zeros((4, 3)), label=np.arange(4) % 3)
    runs = tmp_path / "runs"
    for name in ("one", "two"):
        (tmp_path / f"{name}.net").write_text(
            'data "train" { source: "s.npz"  batch_size: 4 }  input "data" { shape: 3 }\n'
            "fc { num_output: 3 }  softmax_loss  solver { base_lr: 0.1  max_iter: 2 }"
        )
        assert netspec("train", tmp_path / f"{name}.net", "--runs", runs).code == 0
    assert sorted(run.name for run in runs.iterdir()) == ["one", "two"]
    again = netspec("train", tmp_path / "one.net", "--runs", runs, "--resume", "--epochs", "+1")
    assert again.code == 0
    assert "runs/one/1: 3 iterations" in again.err
    assert onnx.load(runs / "one/1/model.onnx").graph.name == "one"


def test_changed_and_forced(netspec: Netspec, words: list[object], tiny: Path) -> None:
    assert netspec(*words).code == 0
    tiny.write_text(tiny.read_text().replace("num_output: 8", "num_output: 9"))
    refused = netspec(*words, "--resume")
    assert (refused.code, refused.out) == (2, "")
    assert "\n-conv { num_output: 8 " in refused.err
    assert "\n+conv { num_output: 9 " in refused.err
    forced = netspec(*words, "--resume", "--force", "--epochs", "1")
    assert forced.code == 0, forced.err
    assert "`conv1.weight`, 9x1x5x5 for 8x1x5x5, is drawn anew" in forced.err
    assert netspec(*words, "--force").code == 2


def test_time_and_batch(netspec: Netspec, words: list[object]) -> None:
    result = netspec(*words, "--max-time", "0.001s", "--batch", "32")
    assert result.code == 0, result.err
    assert "ended after iteration 1 of 10: max_time is over" in result.err
    automatic = netspec(*words, "--batch", "auto")
    assert automatic.code == 0, automatic.err
    assert re.search(r"^batch 256: training takes ", automatic.err, re.MULTILINE)
    for option, value in (("--max-time", "soon"), ("--batch", "0"), ("--batch", "many"),
                          ("--epochs", "none"), ("--restarts", "1")):  # fmt: skip
        assert netspec(*words, option, value).code == 2, (option, value)


def test_back_and_named(netspec: Netspec, words: list[object], tiny: Path) -> None:
    wild = [*words, "--set", "solver.base_lr=1e30"]
    result = netspec(*wild, "--set", "solver.rollback=1", "--set", "solver.rollback_factor=1e-32")
    assert result.code == 0, result.err
    assert "warning: back from iteration " in result.err
    assert " to 0\n" in result.err
    gone = netspec(*wild, "--json")
    assert gone.code == 1
    assert re.search(rf"\nlayer `\w+` \({tiny}:\d+:1\) went first: |\nan update", gone.err)


def test_restarts(netspec: Netspec, words: list[object], tmp_path: Path) -> None:
    result = netspec(*words, "--restarts", "3")
    assert result.code == 0, result.err
    assert "training 2 of 3: random_seed 2" in result.err
    best = re.search(r"^the best: (.*)$", result.out, re.MULTILINE)
    assert best is not None
    assert re.search(r"^mean \d+\.\d+% ± \d+\.\d+% over 3 runs$", result.out, re.MULTILINE)
    starred = [line for line in result.out.splitlines() if line.startswith("*")]
    assert len(starred) == 1
    assert best[1] in starred[0]
    report = netspec(*words, "--restarts", "3", "--resume", "--json").lines[-1]
    assert report["event"] == "restarts"
    assert report["best"] == best[1]
    assert [run["seed"] for run in report["runs"]] == [1, 2, 3]
    assert [run["run"] for run in report["runs"]] == [
        str(tmp_path / f"runs/Tiny/{i}") for i in (1, 2, 3)
    ]
    assert netspec(*words, "--restarts", "3", "--batch", "auto").code == 2
    assert netspec(*words, "--restarts", "3", "--snapshot", tmp_path).code == 2


def test_overfit(
    netspec: Netspec, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = netspec("overfit", tiny, "--samples", "8", "--device", "cpu")
    assert result.code == 0, result.err
    assert re.match(r"8 samples learned by heart in \d+ iterations: loss 2\.\d+ → 0", result.out)
    failed = netspec("overfit", tiny, "--iterations", "1", "--device", "cpu")
    assert failed.code == 1
    assert failed.out.startswith("64 samples not learned in 1 iteration: loss 2")
    gone = netspec("overfit", tiny, "--set", "solver.base_lr=1e38", "--device", "cpu", "--json")
    assert gone.code == 1
    assert gone.json["last"] is None
    assert not gone.json["learned"]
    assert not (tmp_path / "runs").exists()
    assert netspec("overfit", "vgg16").code == 2


def test_lr_range(
    netspec: Netspec, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = netspec("lr-range", tiny, "--iterations", "40", "--device", "cpu")
    assert result.code == 0, result.err
    assert re.search(r"^suggested: base_lr \d\.\de-0\d$", result.out, re.MULTILINE)
    report = netspec("lr-range", tiny, "--iterations", "40", "--device", "cpu", "--json").json
    assert 1e-3 < report["suggestion"] < 1
    assert report["points"][0]["rate"] == 1e-6
    assert netspec("lr-range", tiny, "--from", "1", "--to", "0.1").code == 2
    gone = netspec("lr-range", tiny, "--from", "1e30", "--to", "1e38", "--device", "cpu")
    assert gone.code == 0
    assert "no learning rate can be suggested" in gone.out
    assert not (tmp_path / "runs").exists()


def test_half_precision(netspec: Netspec, words: list[object], tmp_path: Path) -> None:
    result = netspec(*words, "--precision", "fp16")
    assert result.code == 0, result.err
    assert "precision FP16 is for CUDA" in result.out + result.err
    again = netspec(*words, "--resume", "--epochs", "+1", "--json")
    assert again.code == 0, again.err
    run = Run.open(tmp_path / "runs/Tiny/1")
    assert run.settings.solver["precision"] == "FP16"
    assert "solver.precision=FP16" in run.settings.given
    assert netspec(*words, "--precision", "bf16").code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cuda-graph", "auto"], False),
        (["--cuda-graph", "off"], False),
        (["--cuda-graph", "on"], True),
    ],
)
def test_cuda_graphs_on_the_cpu(
    netspec: Netspec, words: list[object], options: list[str], said: bool
) -> None:
    """`auto` asks for nothing that would have to be left out."""
    result = netspec(*words, *options)
    assert result.code == 0, result.err
    assert ("CUDA graphs are CUDA's" in result.out + result.err) == said
    assert netspec(*words, "--cuda-graph", "yes").code == 2


@pytest.mark.parametrize("verb", ["overfit", "lr-range"])
def test_verbs_before_a_training_keep_its_precision(
    netspec: Netspec, tiny: Path, tmp_path: Path, verb: str
) -> None:
    """A scale that is too large at first is no end of theirs."""
    half = ["--set", "solver.precision=FP16", "--set", f"solver.loss_scale={2**24}"]
    result = netspec(verb, tiny, *half, "--device", "cpu", "--json")
    assert result.code == 0, result.err
    assert (result.json["iterations"] if verb == "overfit" else len(result.json["points"])) > 20
