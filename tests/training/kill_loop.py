"""Kills a real `netspec train` at random moments, resumes it, and compares what comes out.

    python tests/training/kill_loop.py --kills 50

One run goes through uninterrupted. Others get SIGKILL after random times and are resumed until
they are done, as many of them as it takes for all kills. Weights of the end and of the best test,
model, what was measured of the data, and log (its seconds aside) must equal the first one's. The
net has whatever a resumed run could get wrong: lots of augmentation, mixup and dropout, batches
that are added up, running means of statistics and of weights, a rate that hangs on earlier tests.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass
class Trainer:
    """The command, the folder it writes to, and how long it takes undisturbed."""

    command: Sequence[str]
    runs: Path

    @property
    def made(self) -> list[Path]:
        """The run folders that are whole, in order."""
        found = [p.parent for p in self.runs.glob("*/*/settings.json")]
        return sorted(found, key=lambda p: int(p.name))

    def start(self, *, resume: bool) -> subprocess.Popen[bytes]:
        """One process of its own group, its output kept for a complaint."""
        more = ["--resume"] if resume else []
        self.runs.mkdir(parents=True, exist_ok=True)
        with (self.runs / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [*self.command, "--runs", str(self.runs), *more],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return (self.runs / "output.txt").read_text(errors="replace")[-4000:]


def result(run: Path) -> dict[str, object]:
    """All that must not hang on the kills."""
    with (run / "log.csv").open(newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    names = ("weights.safetensors", "model.onnx", "best.safetensors", "measured.safetensors")
    files = {name: (run / name).read_bytes() for name in names}
    return {**files, "log.csv": rows}


def whole(trainer: Trainer) -> float:
    """Run to the end; the seconds it took."""
    start = time.monotonic()
    if trainer.start(resume=False).wait() != 0:
        sys.exit(f"the uninterrupted run failed:\n{trainer.output()}")
    return time.monotonic() - start


def harassed(trainer: Trainer, kills: int, span: float, rng: random.Random) -> tuple[int, int]:
    """Start, kill, resume until a run is done or `kills` are spent; kills and kills that hit."""
    done = hit = 0
    while True:
        process = trainer.start(resume=bool(trainer.made))
        if done < kills:
            try:
                process.wait(rng.uniform(0.0, span))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            done += 1
        code = process.wait()
        if code == 0:
            return done, hit
        if code != -signal.SIGKILL:
            sys.exit(f"a resumed run ended with exit code {code}:\n{trainer.output()}")
        hit += 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; default: the clock")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--spec", help="a spec instead of the small one built in")
    parser.add_argument("--netspec", default=f"{sys.executable} -m netspec", help="the command")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    seed = time.time_ns() % 2**32 if given.seed is None else given.seed
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kill.net").write_text(SPEC)
        spec = given.spec or str(folder / "kill.net")
        length = f"solver.max_iter={given.iterations}"
        command = [*given.netspec.split(), "train", spec, "--set", length]
        first = Trainer(command, folder / "whole")
        seconds = whole(first)
        wanted = result(first.made[-1])
        print(f"seed {seed}: uninterrupted, {given.iterations} iterations in {seconds:.1f} s")
        spent = hits = runs = 0
        while hits < given.kills:
            runs += 1
            trainer = Trainer(command, folder / f"run{runs}")
            done, hit = harassed(trainer, given.kills - hits, seconds, rng)
            spent, hits = spent + done, hits + hit
            found = result(trainer.made[-1])
            differing = [key for key in wanted if found[key] != wanted[key]]
            print(f"run {runs}: killed {hit} times, then done; differing: {differing or 'nothing'}")
            if differing:
                sys.exit(1)
        print(f"{hits} kills in {runs} runs ({spent} tries): all equal, byte for byte")


if __name__ == "__main__":
    main()
