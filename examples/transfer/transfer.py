"""The four cases of transfer learning on digits and photographs: `python transfer.py [CIFAR]`.

A LeNet learns the digits 0 to 4. What it learned then serves tasks with little data or much, like
the first one (digits 5 to 9) or unlike it (the photographs of CIFAR, grey, if a zip of them is
given), each beside the same net from scratch.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import netspec
from netspec.data import open_dataset
from netspec.training.outcome import Outcome

HERE = Path(__file__).parent
SEEDS = (1, 2, 3)

Samples = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Case:
    """A task, and how it takes over what the first one has learned."""

    name: str
    task: str
    per_class: int
    """Training images."""
    sets: tuple[str, ...]
    """How it trains from the weights of the first task."""
    both: tuple[str, ...] = ()
    """How it trains from scratch, too."""


LONGER = ("solver.max_iter=800", "solver.test_interval=800")

CASES = (
    # Little data, much alike: the convolutions are good as they are; the rest learns.
    Case("little, similar", "digits", 100, ('solver.freeze=["trunk/conv?"]',)),
    # Little data, unlike: only the first convolution knows what edges are.
    Case("little, different", "photographs", 100, ('solver.freeze=["trunk/conv1"]',)),
    # Much data, much alike: everything moves a little.
    Case("much, similar", "digits", 800, ("solver.base_lr=0.005",), LONGER),
    # Much data, unlike: the weights are a beginning, better than chance.
    Case("much, different", "photographs", 800, (), LONGER),
)


def digits(wanted: range) -> dict[str, Samples]:
    """The bundled MNIST's digits of a range, counted from 0."""
    found = {}
    for split in ("train", "test"):
        arrays = open_dataset("mnist", split=split, base=HERE).arrays
        kept = np.isin(arrays["label"], wanted)
        found[split] = {"data": arrays["data"][kept], "label": arrays["label"][kept] - wanted[0]}
    return found


def photographs(archive: Path) -> dict[str, Samples]:
    """The pictures `…/{train,test}/<class>/*.jpg` of a zip, grey, their middle of 28 x 28."""
    found = {}
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".jpg"))
        classes = sorted({Path(name).parts[-2] for name in names})
        for split in ("train", "test"):
            own = [name for name in names if Path(name).parts[-3] == split]
            pictures = [np.asarray(Image.open(files.open(name)).convert("L")) for name in own]
            label = np.array([classes.index(Path(name).parts[-2]) for name in own])
            found[split] = {"data": np.stack(pictures)[:, None, 2:30, 2:30], "label": label}
    return found


def few(samples: Samples, per_class: int) -> Samples:
    """The first samples of each class."""
    label = samples["label"]
    chosen = [np.flatnonzero(label == c)[:per_class] for c in np.unique(label)]
    rows = np.sort(np.concatenate(chosen))
    return {name: array[rows] for name, array in samples.items()}


def trained(
    name: str, folder: Path, task: dict[str, Samples], *sets: str, weights: tuple[Path, ...] = ()
) -> Outcome:
    """A training of a spec on a task's samples."""
    for split, samples in task.items():
        np.savez(folder / f"{split}.npz", **samples)
    paths = [f'data.{split}.source="{folder / split}.npz"' for split in task]
    spec = netspec.read(str(HERE / name), sets=[*paths, *sets])
    return netspec.train(spec, runs=folder / "runs", weights=weights)


def compare(case: Case, task: dict[str, Samples], first: Path, folder: Path) -> None:
    """Print the accuracies of both beginnings, means over the seeds."""
    task = {"train": few(task["train"], case.per_class), "test": task["test"]}
    classes = f"classes={int(task['train']['label'].max()) + 1}"
    shares = []
    for sets, weights in ((case.sets, (first,)), ((), ())):
        sets = (*sets, *case.both, classes)
        runs = [
            trained(
                "target.net", folder, task, *sets, f"solver.random_seed={seed}", weights=weights
            )
            for seed in SEEDS
        ]
        shares.append(float(np.mean([run.test["accuracy1"] for run in runs])))
    print(f"{case.name:<18} {case.per_class:>4} {shares[0]:>9.2%} {shares[1]:>9.2%}", flush=True)


def main() -> None:
    """Train on the first task, then on each of the others in both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = trained("first.net", folder, digits(range(5)))
        tasks = {"digits": digits(range(5, 10))}
        if len(sys.argv) > 1:
            tasks["photographs"] = photographs(Path(sys.argv[1]))
        print(f"digits 0 to 4: {first.test['accuracy1']:.2%}")
        print(f"{'case':<18} {'each':>4} {'transfer':>9} {'scratch':>9}")
        for case in CASES:
            if case.task in tasks:
                compare(case, tasks[case.task], first.run, folder)


if __name__ == "__main__":
    main()
