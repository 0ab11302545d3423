"""How long a training stands still for a checkpoint, beside PyTorch's for the same tensors.

Ours is on the disk when the training goes on, and verified by checksums; `torch.save` leaves that
to the system, so that it is timed with `fsync` and without.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from netspec.compiler import read
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.runs.checkpoint import Keeper, Progress, State
from netspec.training.setup.experiment import prepare

SPEC = """
data "train" { source: "mnist"  batch_size: 64 }
data "test" { source: "mnist"  batch_size: 100 }
input "data" { shape: 1x28x28 }
fc { num_output: 16000  weight_filler { type: xavier } }
relu
fc { num_output: 10  weight_filler { type: xavier } }
softmax_loss
solver { base_lr: 0.01  momentum: 0.9  max_iter: 100 }
"""
TIMES = 8


def measure() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "wide.net"
        spec.write_text(SPEC)
        executor = Executor.of(prepare(read(str(spec))), find_machine("cpu"))
    size = sum(tensor.nbytes for tensor in tensors(executor.state()).values()) / 1e6
    yield "a checkpoint", f"{size:.0f} MB"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        keeper = Keeper(place / "checkpoints")
        keeper.folder.mkdir()
        sides: dict[str, Callable[[int], object]] = {
            "netspec": lambda i: keeper.save(executor.state(), Progress(iteration=i)),
            "PyTorch": lambda i: kept(place / f"{i % 3}.pt", executor.state()),
            "PyTorch and fsync": lambda i: synced(place / f"{i % 3}.pt", executor.state()),
        }
        spent: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(TIMES):
            for name, save in sides.items():
                began = time.perf_counter()
                save(i)
                spent[name].append(time.perf_counter() - began)
    for name, seconds in spent.items():
        stall = statistics.median(seconds) * 100 / size
        wanted = f" (wanted: 0.5 s; longest {max(seconds) * 100 / size:.2f} s)"
        yield f"{name}, per 100 MB", f"{stall:.2f} s{wanted if name == 'netspec' else ''}"


def kept(path: Path, state: State) -> None:
    torch.save({name: torch.from_numpy(x) for name, x in tensors(state).items()}, path)


def synced(path: Path, state: State) -> None:
    kept(path, state)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def tensors(state: State) -> dict[str, Any]:
    slots = {f"{s}/{n}": x for s, of in state.slots.items() for n, x in of.items()}
    return {**state.weights, **slots, **state.statistics}
