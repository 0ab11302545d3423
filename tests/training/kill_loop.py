"""Kills a real `netspec train` at random moments, resumes it, and compares what comes out.

    python tests/training/kill_loop.py --kills 50

One run goes through uninterrupted. Others get SIGKILL after random times and are resumed until
they are done, as many of them as it takes for all kills. Weights of the end and of the best test,
model, what was measured of the data, and log (its seconds aside) must equal the first one's.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainer import SPEC, Trainer, differing, result


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
        said = folder / "output.txt"
        first = Trainer(command, folder / "whole", said)
        seconds = first.whole()
        wanted = result(first.made[-1])
        print(f"seed {seed}: uninterrupted, {given.iterations} iterations in {seconds:.1f} s")
        spent = hits = runs = 0
        while hits < given.kills:
            runs += 1
            trainer = Trainer(command, folder / f"run{runs}", said)
            done, hit = harassed(trainer, given.kills - hits, seconds, rng)
            spent, hits = spent + done, hits + hit
            other = differing(trainer.made[-1], wanted)
            print(f"run {runs}: killed {hit} times, then done; differing: {other or 'nothing'}")
            if other:
                sys.exit(1)
        print(f"{hits} kills in {runs} runs ({spent} tries): all equal, byte for byte")


if __name__ == "__main__":
    main()
