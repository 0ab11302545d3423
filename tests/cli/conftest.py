"""The command line as a function, as a process, and a short run that several tests look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netspec.cli import main

TINY = """
name: "Tiny"
data "train" { source: "mnist"  batch_size: 64  transform { scale: 1/255 } }
data "test" { source: "mnist"  batch_size: 500  transform { scale: 1/255 } }
input "data" { shape: 1x28x28 }
conv { num_output: 8  kernel_size: 5  stride: 2 }
relu
fc "score" { num_output: 10 }
softmax_loss
accuracy
solver { type: SGD  base_lr: 0.05  momentum: 0.9  max_iter: 30 }
"""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """One JSON object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


Netspec = Callable[..., Result]


@pytest.fixture
def netspec(capsys: pytest.CaptureFixture[str]) -> Netspec:
    """`netspec(*words)` is the command, run in this process; no traceback, no internal error."""

    def run(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "internal error" not in err
        return Result(code, out, err)

    return run


@pytest.fixture(scope="session")
def process() -> Netspec:
    """`process(*words, env={}, cwd=None, input="")` is the command in a process of its own."""

    def run(
        *words: object,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: str | bytes = "",
    ) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "netspec", *map(str, words)],
            capture_output=True,
            env=environment(env),
            cwd=cwd,
            input=input.encode() if isinstance(input, str) else input,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with the netspec that is under test."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, **(more or {})}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A spec that trains in a second."""
    path = tmp_path / "tiny.net"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of LeNet after 150 iterations."""
    runs = tmp_path_factory.mktemp("runs")
    words = ["train", "lenet", "--runs", str(runs), "--set", "solver.max_iter=150", "--json"]
    assert main([*words, "--device", "cpu"]) == 0
    return runs / "LeNet" / "1"
