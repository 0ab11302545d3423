"""Runs on a file system so small that they fill it, with a file that takes the rest of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from judging import Table, judged, resume, torn
from trainer import Trainer, result

KINDS = ("room", "what it says")
"""Of the table: how the room gets short, and where the words of a training go."""

_CHUNK = bytes(1 << 12)


def missing() -> str:
    """Why no file system can be mounted here; empty if one can."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with mounted(Path(name), 1 << 20):
                return ""
        except (OSError, subprocess.CalledProcessError) as fault:
            said = getattr(fault, "stderr", None) or str(fault)
            return f"a file system cannot be mounted, which needs root: {said.splitlines()[0]}"


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes, in memory, at a folder."""
    options = f"size={size},mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(
    command: Sequence[str],
    folder: Path,
    size: int,
    tries: int,
    rng: Random,
    table: Table,
    *,
    verbose: bool,
) -> None:
    """Train again and again where it is too small, then where there is room.

    The room is too small from the beginning, for all that a training writes, or all of a sudden
    there is none. Every second time the training's own words go there, too.
    """
    disk, beside = folder / "disk", folder / "output.txt"
    disk.mkdir()
    first = Trainer(command, folder / "whole", beside)
    seconds = first.whole()
    wanted = result(first.made[-1])
    for number in range(tries):
        sudden, heard = bool(number // 2 % 2), not number % 2
        with mounted(disk, size):
            trainer = Trainer(command, disk / "runs", beside if heard else disk / "output.txt")
            code = _full(trainer, disk / "filler", seconds, rng, sudden=sudden)
            found = judged(trainer, code, heard)
            found.troubles += torn(trainer, wanted)
            (disk / "filler").unlink()
            resume(trainer, found, wanted)
        kind = ("none, suddenly" if sudden else "too small", "elsewhere" if heard else "there")
        table.add(kind, ", ".join(kind), found, verbose=verbose)


def _full(trainer: Trainer, filler: Path, seconds: float, rng: Random, *, sudden: bool) -> int:
    """Train where a filler leaves too little room; the exit code."""
    filler.touch()
    if not sudden:
        free = shutil.disk_usage(filler.parent).free
        _fill(filler, int(free * rng.uniform(0.3, 1.0)))
    process = trainer.start(resume=False)
    try:
        if sudden:
            while process.poll() is None and not trainer.made:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, seconds / 3))
            _fill(filler)
        return process.wait()
    except BaseException:
        process.kill()
        raise


def _fill(filler: Path, size: int | None = None) -> None:
    """So many bytes, or all that there is room for."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_APPEND)
    try:
        while size is None or size > 0:
            written = os.write(descriptor, _CHUNK)
            size = None if size is None else size - written
    except OSError:
        return  # full
    finally:
        os.close(descriptor)
