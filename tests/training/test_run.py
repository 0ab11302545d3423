"""A run's folder holds the experiment, and one writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock

import numpy as np
import pytest

from netspec.diagnostics import DataError, UsageError
from netspec.runtime.verify import Unverifiable
from netspec.training.outcome import Diverged
from netspec.training.runs.checkpoint import Progress, State
from netspec.training.runs.results import write_results
from netspec.training.runs.run import Run, folder_name, latest_run
from netspec.training.runs.settings import Settings, environment

SPEC = 'name: "LeNet"\n'


def make(root: Path, name: str = "LeNet", files: dict[str, str] | None = None) -> Run:
    settings = Settings(name=name, overrides={"solver.max_iter": "3"}, versions=environment())
    return Run.create(root, settings, files or {"spec.net": SPEC})


@pytest.mark.parametrize("name", ["LeNet", "ResNet-18", "a.b_c-d", "x" * 64])
def test_a_plain_name_is_its_folder(name: str) -> None:
    assert folder_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../x", "/etc/x", "a/b", "a\\b", "C:x", "~", "-rf", ".git", "x\0y", "сеть"],
)
@pytest.mark.parametrize("times", [1, 65])
def test_any_other_name_gets_a_safe_folder_of_its_own(name: str, times: int) -> None:
    name = name * times
    folder = folder_name(name)
    assert folder != name
    assert folder.isascii()
    assert set(folder).isdisjoint("/\\:\0 ~\n")
    assert not folder.startswith((".", "-"))
    assert len(folder) <= 64
    assert folder_name(folder) == folder


def test_folders_count_up_and_the_last_is_found(tmp_path: Path) -> None:
    assert latest_run(tmp_path, "LeNet") is None
    runs = [make(tmp_path) for _ in range(11)]
    assert [run.path.name for run in runs] == [str(n) for n in range(1, 12)]
    (tmp_path / "LeNet" / "12").mkdir()  # half made
    (tmp_path / "LeNet" / "old").mkdir()
    found = latest_run(tmp_path, "LeNet")
    assert found is not None
    assert found.path == runs[-1].path
    assert make(tmp_path).path.name == "13"
    assert make(tmp_path, "../../x").path.parent.parent == tmp_path


def test_the_spec_and_the_settings_are_kept(tmp_path: Path) -> None:
    run = make(tmp_path, files={"spec.net": SPEC, "blocks/res.net": "block b() { relu }\n"})
    assert run.spec.read_text() == SPEC
    assert (run.path / "blocks/res.net").read_text() == "block b() { relu }\n"
    again = Run.open(run.path)
    assert again.settings == run.settings
    assert again.settings.versions["numpy"] == np.__version__
    before = run.spec_hash()
    assert before != make(tmp_path).spec_hash()
    assert (
        before
        == make(
            tmp_path, files={"blocks/res.net": "block b() { relu }\n", "spec.net": SPEC}
        ).spec_hash()
    )


@pytest.mark.parametrize(
    "name", ["../x.net", "/x.net", "a/../../x.net", "log.csv", "a\\b.net", "x\0.net"]
)
def test_an_include_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be copied into the folder of a run"):
        make(tmp_path, files={"spec.net": SPEC, name: ""})
    assert os.listdir(tmp_path) == []


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not the folder of a run$"):
        Run.open(tmp_path)
    for number in ("2", "10"):
        (tmp_path / "runs" / number).mkdir(parents=True)
        (tmp_path / "runs" / number / "settings.json").touch()
    with pytest.raises(UsageError, match=r"/runs: is not the folder of a run; .*/runs/10 is one$"):
        Run.open(tmp_path / "runs")
    settings = tmp_path / "settings.json"
    for text, what in [("", "text"), ("{}", "name"), ('{"name": "x", "version": 2}', "version")]:
        settings.write_text(text)
        with pytest.raises(DataError, match=f"settings.json: {what}: "):
            Run.open(tmp_path)


def test_a_second_writer_gets_a_clear_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.lock():
        assert run.locked
        with pytest.raises(UsageError, match="another process is writing to this run"), run.lock():
            pass
        script = (
            "import sys, pathlib, netspec, netspec.training.runs.run as r\n"
            "try:\n"
            "    with r.Run.open(pathlib.Path(sys.argv[1])).lock(): pass\n"
            "except netspec.NetspecError as fault: print(fault); sys.exit(fault.exit_code)"
        )
        other = subprocess.run(
            [sys.executable, "-c", script, run.path], capture_output=True, text=True, check=False
        )
        assert other.returncode == 2
        assert "another process is writing" in other.stdout
    with run.lock():
        pass


def test_the_lock_clears_away_what_a_killed_writer_left(tmp_path: Path) -> None:
    run = make(tmp_path)
    orphans = [run.path / ".log.csv.1.tmp", run.path / "checkpoints" / ".1.safetensors.2.tmp"]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    with run.lock():
        assert not any(orphan.exists() for orphan in orphans)


def test_weights_that_make_no_model_have_diverged(tmp_path: Path) -> None:
    """They are written; the model of them, whose outputs would be no numbers, is not."""

    def never(_: State) -> bytes:
        raise Unverifiable("nothing of `prob` is a number")

    run = make(tmp_path)
    state = State({"w": np.full(3, 1e30, np.float32)}, {}, {})
    progress = Progress(seed=1, spec=run.spec_hash(), iteration=3)
    with run.lock(), pytest.raises(Diverged, match="1: nothing of `prob` is a number"):
        write_results(run, state, progress, never, pytest.fail)
    assert run.weights()["w"].max() == np.float32(1e30)
    assert not run.model_file.exists()


def test_the_final_files(tmp_path: Path) -> None:
    state = State(
        {"conv.weight": np.ones((2, 2), np.float32)}, {}, {"bn.mean": np.zeros(2, np.float32)}
    )
    runs = [make(tmp_path), make(tmp_path)]
    for run in runs:
        with pytest.raises(DataError, match="No such file"):
            run.weights()
        with run.lock():
            run.finish(state, lambda given: given.weights["conv.weight"].tobytes())
        assert set(run.weights()) == {"conv.weight", "bn.mean"}
        assert run.model_file.read_bytes() == np.ones(4, np.float32).tobytes()
    one, two = (run.weights_file.read_bytes() for run in runs)
    assert one == two
    runs[0].weights_file.write_bytes(one[:-1] + b"\x01")
    with pytest.raises(DataError, match="section `tensors` does not have the sha256"):
        runs[0].weights()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", Path("/proc")):
        with pytest.raises(DataError, match="cannot be made"):
            make(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    run = make(tmp_path)
    os.chmod(run.path, 0o500)
    try:
        with pytest.raises(DataError, match="Permission denied"), run.lock():
            pass
    finally:
        os.chmod(run.path, 0o700)


def test_a_fault_of_the_disk_names_the_file(tmp_path: Path) -> None:
    """Whatever it is that a training looks for there."""
    run = make(tmp_path)
    with pytest.raises(DataError, match=r"^runs/a: Input/output error$"), run.lock():
        raise OSError(5, "Input/output error", "runs/a")
    with pytest.raises(OSError, match="no file of ours"), run.lock():
        raise OSError("no file of ours")
    assert not run.locked


def test_a_lock_that_cannot_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, closing = make(tmp_path), os.close
    with monkeypatch.context() as patch, run.lock():
        patch.setattr(os, "close", Mock(side_effect=lambda file: closing(file) or fail()))
    with run.lock():
        pass


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not one without runs, without texts, without checkpoints."""
    run = make(tmp_path)
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, fail)
    for look in (lambda: latest_run(tmp_path, "LeNet"), run.spec_hash, run.checkpoints.newest):
        with pytest.raises(DataError, match="cannot be read: Input/output error"):
            look()
    with run.lock():  # what a killed writer left is in nobody's way
        pass


def test_weights_that_cannot_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    with run.lock():
        run.finish(State({"w": np.ones(1, np.float32)}, {}, {}))
        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(DataError, match=r"weights\.safetensors: cannot be read: Input/output"):
            run.finish_best(None)


def fail(*_: object) -> NoReturn:
    raise OSError(5, "Input/output error")
