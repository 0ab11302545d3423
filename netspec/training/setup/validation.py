"""What a training validates on: samples held out of its own, the same ones whenever it goes on."""

from __future__ import annotations

from dataclasses import replace

from netspec.data.dataset import Array, Dataset
from netspec.data.split import Fold, divided
from netspec.diagnostics import DataError
from netspec.ir.labelled import Labelled
from netspec.ir.net import Net
from netspec.training.runs.run import Run


def held_out(
    dataset: Dataset, net: Net, fold: Fold | None = None, *, seed: int | None = None
) -> tuple[Dataset, Dataset]:
    """What the TRAIN net trains on, and what it leaves for validation; DataError if that is none.

    By class where a loss or a metric takes one label per sample as a class. Drawn by the solver's
    random_seed, or by another `seed`.
    """
    assert net.data is not None
    seed = net.seed if seed is None else seed
    train, held = divided(dataset, net.data.val, seed, class_labels(dataset, net), fold)
    return train, replace(held, measured={})  # which is the net's that it is held out for


def class_labels(dataset: Dataset, net: Net) -> Array | None:
    """The class of each sample, as the first layer has it that asks for one; None without any."""
    for node in net.nodes:
        if isinstance(node.layer, Labelled) and node.bottoms[1] in dataset.arrays:
            labels = dataset.arrays[node.bottoms[1]]
            if labels.dtype.kind == "i" and labels.size == len(labels):
                return labels.reshape(-1)
    return None


def check_held_out(run: Run, found: str) -> None:
    """Raise DataError if other samples would be held out than when the run began."""
    if run.settings.held_out != found:
        raise DataError(
            f"{run.path}: its training data have changed: other samples would be held out for "
            "validation than when it began"
        )
