"""What a training's samples are known by, so that a run does not go on with others."""

from __future__ import annotations

from hashlib import sha256

from netspec.data import Dataset
from netspec.diagnostics import DataError
from netspec.training.runs.run import Run


def fingerprint(dataset: Dataset) -> str:
    """How many samples, and a digest of what stands beside the images: labels and file names.

    Pixels are left to a manifest. Of a file the last two parts of its path count, for data may be
    moved between the start of a run and its going on.
    """
    found = sha256()
    for name, array in sorted(dataset.arrays.items()):
        if array.size == len(array):
            found.update(f"{name} {array.dtype}\n".encode())
            found.update(array.tobytes())
    for file in dataset.files:
        found.update("/".join(file.parts[-2:]).encode("utf-8", "surrogateescape") + b"\n")
    return f"{len(dataset)}:{found.hexdigest()[:16]}"


def check_fingerprint(run: Run, dataset: Dataset) -> None:
    """Raise DataError if a run that goes on would do so with other samples than it began with.

    Runs of earlier versions do not tell.
    """
    began, found = run.settings.samples, fingerprint(dataset)
    if not began or began == found:
        return
    before, now = int(began.partition(":")[0]), len(dataset)
    what = "they have other labels or names" if before == now else f"there are {now:,} now"
    raise DataError(
        f"{run.path}: its training data have changed: it began with {before:,} samples, and {what}"
    )
