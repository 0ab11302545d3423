"""A real `netspec train` in processes of its own, and what of its runs must always be the same.

The net has whatever a resumed run could get wrong: lots of augmentation, mixup and dropout, batches
that are added up, running means of statistics and of weights, a rate that hangs on earlier tests.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEC = """
name: "kill-loop"
data "train" {
  source: "mnist"  batch_size: 32  val: 0.1
  transform {
    standardize: true  pad: 2  crop_size: 28  rotation: 15  zoom: 1.1  cutout: 6  mixup: 0.2
  }
}
data "test"  { source: "mnist"  batch_size: 100  transform { standardize: true } }
input "data" { shape: 1x28x28 }
conv "conv1" { num_output: 8  kernel_size: 5  stride: 2 }
batch_norm
relu
dropout
fc "ip1" { num_output: 10 }
softmax_loss
accuracy
solver {
  type: SGD  base_lr: 0.05  momentum: 0.9  weight_decay: 0.0005
  lr_policy: plateau  gamma: 0.5  patience: 2  iter_size: 2  clip_gradients: 5  ema_decay: 0.9
  max_iter: 100  test_interval: 10  display: 3
}
"""

FILES = (
    "weights.safetensors",
    "model.onnx",
    "best.safetensors",
    "best.onnx",
    "measured.safetensors",
)
"""Files of a finished run that hang on its spec alone, byte for byte."""


@dataclass(frozen=True)
class Trainer:
    """The command, the folder it writes to, and the file that gets what it says."""

    command: Sequence[str]
    runs: Path
    said: Path

    @property
    def made(self) -> list[Path]:
        """The run folders that are whole, in order."""
        found = [p.parent for p in self.runs.glob("*/*/settings.json")]
        return sorted(found, key=lambda p: int(p.name))

    def start(self, *, resume: bool, under: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """One process of its own group, run by the command `under` if there is one."""
        more = ["--resume"] if resume else []
        self.runs.mkdir(parents=True, exist_ok=True)
        with self.said.open("wb") as output:
            return subprocess.Popen(
                [*under, *self.command, "--runs", str(self.runs), *more],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *, resume: bool, under: Sequence[str] = ()) -> int:
        """The same, waited for; its exit code."""
        process = self.start(resume=resume, under=under)
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise

    def output(self) -> str:
        """The end of what the last process said."""
        return self.said.read_text(errors="replace")[-4000:]

    def whole(self) -> float:
        """Run to the end, undisturbed; the seconds it took."""
        start = time.monotonic()
        if self.run(resume=False) != 0:
            sys.exit(f"the undisturbed run failed:\n{self.output()}")
        return time.monotonic() - start


def result(run: Path) -> dict[str, Any]:
    """All that must not hang on what befell a run: its files, and the rows of its logs."""
    files = {name: run / name for name in FILES}
    kept = {name: file.read_bytes() if file.exists() else b"" for name, file in files.items()}
    return {**kept, **rows(run)}


def rows(run: Path) -> dict[str, list[Any]]:
    """What the logs say of rows and tests, by file, without times."""
    with (run / "log.csv").open(newline="") as file:
        table = [row[:-1] for row in csv.reader(file)]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    shown = [event | {"time": 0} for event in events if event["event"] in ("row", "tested")]
    return {"log.csv": table, "events.jsonl": shown}


def differing(run: Path, wanted: Mapping[str, Any]) -> list[str]:
    """The names of what is other than in the undisturbed run, of which this is the result."""
    found = result(run)
    return [name for name in wanted if found[name] != wanted[name]]
