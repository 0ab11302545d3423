"""`netspec train` and `netspec test`: events, run folders, signals, resuming, and refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec import zoo
from netspec.runtime.device import cuda_fault
from netspec.training.execution.targets import find_target
from netspec.training.runs.run import Run

Netspec = Callable[..., Any]


def no_constants(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def test_lines_of_json(process: Netspec, tmp_path: Path) -> None:
    result = process("train", "lenet", "--set", "solver.max_iter=30", "--json", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    events = [json.loads(line, parse_constant=no_constants) for line in result.out.splitlines()]
    assert [event["event"] for event in events] == ["started", "tested", "saved", "done"]
    assert events[0]["length"] == 30
    done = events[-1]
    assert done["run"] == "runs/LeNet/1"
    assert done["test"].keys() == {"accuracy", "loss"}
    assert 0.5 < done["test"]["accuracy"] < 1
    run = tmp_path / done["run"]
    assert {"spec.net", "settings.json", "log.csv", "checkpoints", "weights.safetensors",
            "model.onnx"} <= {path.name for path in run.iterdir()}  # fmt: skip
    with (run / "log.csv").open(newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == ["20", "30"]

    tested = process("test", run, "--json", cwd=tmp_path)
    assert tested.code == 0
    report = tested.json
    assert report["samples"] == 2000
    assert report["accuracy"] == pytest.approx(done["test"]["accuracy"])
    assert report["loss"] == pytest.approx(done["test"]["loss"])


def test_for_people(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    result = netspec("train", tiny, "--runs", tmp_path / "runs")
    run = tmp_path / "runs/Tiny/1"
    assert result.code == 0
    done, best, model = result.out.splitlines()
    assert re.fullmatch(r"done: loss \d\.\d+  accuracy \d+\.\d+%  \(\d+\.\d s\)", done)
    assert re.fullmatch(rf"best: accuracy \d+\.\d+% of iteration 30: {run}/best.onnx", best)
    assert Path(model) == run / "model.onnx"
    assert result.err.startswith(f"training in {run}: 30 iterations\n")
    assert "\x1b" not in result.out + result.err
    again = netspec("train", tiny, "--runs", tmp_path / "runs", "--resume")
    assert again.code == 0
    assert again.out == result.out.replace("done:", "done before:")
    tested = netspec("test", run)
    assert tested.out.startswith(f"{run}: loss ")
    assert tested.out.endswith("(2,000 samples)\n")


def start(spec: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    words = [sys.executable, "-m", "netspec", "train", str(spec), "--runs", str(runs), "--json"]
    return subprocess.Popen(
        [*words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed(number: signal.Signals, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("max_iter: 30", "max_iter: 3000  test_interval: 1000"))
    process = start(tiny, tmp_path / "runs")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "started"
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.startswith("stopped after iteration ")
    assert "; --resume goes on: " in err
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "saved"
    run = tmp_path / "runs/Tiny/1"
    assert not (run / "model.onnx").exists()

    text = tiny.read_text()
    tiny.write_text(text.replace("0.05", "0.06"))
    out, err = start(tiny, tmp_path / "runs", "--resume").communicate(timeout=60)
    assert out == ""
    assert err.startswith(f"{run}: the spec has changed since; ")
    tiny.write_text(text.replace("relu", "\nrelu\n"))  # laid out anew, and the same
    process = start(tiny, tmp_path / "runs", "--resume")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["iteration"] > 0
    assert events[-1]["event"] == "done"
    assert events[-1]["iterations"] == 3000
    assert (run / "model.onnx").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_before_there_is_anything_to_keep(tmp_path: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)"
    code = f"""
import sys
from netspec.cli import main, reader
reader.read = lambda *a, **b: exec({script!r})
sys.exit(main(["check", "lenet"]))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (130, "")


def test_nothing_to_resume(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    result = netspec("train", tiny, "--runs", tmp_path / "runs", "--resume")
    assert (result.code, result.out) == (2, "")
    assert "there is no run of Tiny" in result.err


def test_included_files_go_along(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/blocks.net").write_text(
        'include "more.net"\nblock b() { fc { num_output: n } }\n'
    )
    (tmp_path / "lib/more.net").write_text("let n = 20\n")
    text = tiny.read_text().replace("relu", "relu  b()") + '\ninclude "blocks.net"\n'
    tiny.write_text(text)
    words = ["train", tiny, "--runs", tmp_path / "runs"]
    assert netspec(*words).code == 1  # blocks.net is not beside it
    assert netspec(*words, "-I", tmp_path / "lib").code == 0
    run = tmp_path / "runs/Tiny/1"
    assert (run / "more.net").read_text() == "let n = 20\n"
    assert netspec("check", run / "spec.net").code == 0
    assert netspec(*words, "-I", tmp_path / "lib", "--resume").code == 0
    (tmp_path / "lib/more.net").write_text("let n = 21\n")
    result = netspec(*words, "-I", tmp_path / "lib", "--resume")
    assert result.code == 2
    assert "the included `more.net` has changed since" in result.err
    shutil.rmtree(tmp_path / "lib")
    assert netspec("test", run).code == 0


def test_autotune(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    assert "[default: (off)]" in " ".join(netspec("train", "--help").out.split())
    tiny.write_text(tiny.read_text().replace("stride: 2", "stride: 1"))
    words = ["train", tiny, "--runs", tmp_path / "runs"]
    first, second, *_ = netspec(*words, "--autotune", "--json").lines
    assert (first["event"], second["event"]) == ("tuned", "started")
    file = tmp_path / "runs/Tiny/1/autotune.json"
    kept = json.loads(file.read_text())
    assert first["measured"] == len(kept["operators"])
    assert first["left"] == 0
    result = netspec(*words, "--autotune")
    assert result.err.startswith(f"autotune: {first['measured']} kinds of operators measured, ")
    file = tmp_path / "runs/Tiny/2/autotune.json"
    assert json.loads(file.read_text()) == kept  # nothing had to be measured again

    file.write_text(file.read_text().replace('"threads": ', '"threads": 1000'))
    resumed = netspec(*words, "--resume", "--json").lines
    assert [event["event"] for event in resumed] == ["warning", "started", "done"]
    assert "was measured with threads 1000" in resumed[0]["message"]
    netspec(*words)
    assert not (tmp_path / "runs/Tiny/3/autotune.json").exists()


def test_target_threads_and_recompute(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    words = ["train", tiny, "--runs", tmp_path / "runs", "--json"]
    many = ["--target", "cpu-plain", "--threads", "1000"]
    first = netspec(*words, *many).lines
    assert first[0]["event"] == "warning"
    assert first[0]["message"].startswith("1000 threads, but this process may use ")
    settings = Run.open(tmp_path / "runs/Tiny/1").settings
    assert (settings.target, settings.block, settings.threads) == ("cpu-plain", 0, 1000)

    again = netspec(*words, "--resume").lines  # on what it began with
    assert [event["event"] for event in again] == ["warning", "started", "done"]
    if find_target("cpu").target.block:
        other = netspec(*words, "--resume", "--target", "cpu", "--threads", "1").lines
        assert (
            "was computed for cpu-plain, and goes on for cpu in blocks of " in (other[0]["message"])
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "gpu"], "there is no target `gpu`; did you mean `cpu`?"),
        (["--target", "cuda", "--device", "cpu"], "target cuda does not run on device cpu"),
        (["--recompute", "bloc1"], "there is no layer or block `bloc1`"),
        (["--target", ""], "there is no target ``"),
        (["--recompute", " , "], "--recompute takes names with commas between them, not ` , `"),
        (["--recompute", "conv?9"], "there is no layer or block `conv?9`"),
        (["--threads", "0"], "Invalid value for '--threads'"),
    ],
)
def test_means_that_are_not_there(
    words: list[str], said: str, netspec: Netspec, tiny: Path, tmp_path: Path
) -> None:
    result = netspec("train", tiny, "--runs", tmp_path / "runs", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert not (tmp_path / "runs").exists()


DATA = 'source: "mnist"'
REFUSALS: Mapping[str, tuple[Callable[[str], str], int, str]] = {
    "no data": (lambda t: "\n".join(x for x in t.splitlines() if "mnist" not in x), 2,
                'training needs a `data "train" { … }`'),
    "no solver": (lambda t: t[: t.index("solver")], 2, "training needs a `solver { … }`"),
    "no loss": (lambda t: t.replace("softmax_loss\naccuracy\n", ""), 2, "loss"),
    "no path": (lambda t: t.replace(DATA, 'source: "nowhere"'), 1, "no such file or folder"),
    "size": (lambda t: t.replace("1x28x28", "1x32x32"), 1,
             "a row of `data` is 1x28x28, the input takes 1x32x32"),
    "classes": (lambda t: t.replace('"score" { num_output: 10', '"score" { num_output: 7'), 1,
                "10 classes do not match the 7 outputs of layer `score`"),
    "fault": (lambda t: t.replace("relu", "relo"), 1, "did you mean `relu`?"),
}  # fmt: skip
"""What is wrong with the spec, the exit code, and what is said."""


@pytest.mark.parametrize("fault", REFUSALS)
def test_refused(fault: str, netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    spoil, code, said = REFUSALS[fault]
    tiny.write_text(spoil(tiny.read_text()))
    result = netspec("train", tiny, "--runs", tmp_path / "runs")
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert not (tmp_path / "runs").exists()


def test_a_bundled_spec_comes_without_its_data(netspec: Netspec, tmp_path: Path) -> None:
    result = netspec("train", "cifar10_quick", "--runs", tmp_path / "runs")
    assert result.code == 1
    said = "cifar10_quick comes without its data, cifar10: --data says where it is\n"
    assert result.err == said


def test_data_beside_a_bundled_spec_are_taken(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a checkout, whose specs lie in a folder of its own."""
    (tmp_path / "cifar10_quick.net").write_bytes((zoo.folder() / "cifar10_quick.net").read_bytes())
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path)
    result = netspec("train", "cifar10_quick", "--runs", tmp_path / "runs")
    assert result.code == 1
    assert result.err.startswith(f"{tmp_path / 'cifar10'}: ")


def test_data_from_elsewhere(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    result = netspec("train", tiny, "--runs", runs, "--data", tmp_path / "nowhere")
    assert result.code == 1
    assert f"{tmp_path / 'nowhere'}: no such file or folder" in result.err
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "0123456789":
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    result = netspec("train", tiny, "--runs", runs, "--data", tmp_path / "pictures", "--json")
    assert result.code == 0, result.err
    assert netspec("test", runs / "Tiny/1", "--json").json["samples"] == 20
    other = netspec("test", runs / "Tiny/1", "--data", "mnist", "--json")
    assert other.json["samples"] == 2000
    (tmp_path / "pictures/train/0/0.png").write_bytes(b"no picture")
    result = netspec("train", tiny, "--runs", runs, "--data", tmp_path / "pictures")
    assert result.code == 1
    assert "0.png" in result.err


def test_a_net_that_diverges(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    result = netspec("train", tiny, "--runs", runs, "--set", "solver.base_lr=1e30", "--json")
    assert result.code == 1
    assert "diverged" in result.err
    for line in result.out.splitlines():
        json.loads(line, parse_constant=no_constants)
    assert netspec("test", runs / "Tiny/1").code == 2  # it has no weights


@pytest.mark.skipif(cuda_fault() is None, reason="CUDA works here")
def test_cuda_that_is_not_there(netspec: Netspec, tiny: Path, tmp_path: Path) -> None:
    result = netspec("train", tiny, "--runs", tmp_path / "runs", "--device", "cuda")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("CUDA is not at hand: ")
    assert not (tmp_path / "runs").exists()


def test_damaged_runs(netspec: Netspec, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    weights = run / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert netspec("test", run).code == 1
    weights.write_bytes(content[: len(content) // 2])
    assert netspec("test", run).code == 1
    weights.unlink()
    assert netspec("test", run).code == 0  # the newest checkpoint's
    (run / "settings.json").write_text("{}")
    assert netspec("test", run).code == 1
    assert netspec("test", tmp_path / "none").code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_what_is_said(more: list[str], tiny: Path, tmp_path: Path) -> None:
    """`netspec train > log 2>&1`: the training ends as it would, and the code tells of stdout."""
    command = [sys.executable, "-m", "netspec", "train", tiny, "--runs", tmp_path, *more]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=full, env=env)
    assert done.returncode == 1
    assert Run.open(tmp_path / "Tiny/1").weights()
