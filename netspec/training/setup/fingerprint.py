"""What a training's samples are known by, so that a run does not go on with others."""

from __future__ import annotations

from hashlib import sha256

from netspec.data import Dataset
from netspec.diagnostics import DataError
from netspec.training.runs.run import Run


def fingerprint(dataset: Dataset | None) -> str:
    """How many samples, and a digest of what stands beside the images: labels and file names.

    Empty where there is no data set. Pixels are left to a manifest. Of a file the last two parts of
    its path count, for data may be moved between the start of a run and its going on.
    """
    if dataset is None:
        return ""
    found = sha256()
    for name, array in sorted(dataset.arrays.items()):
        if array.size == len(array):
            found.update(f"{name} {array.dtype}\n".encode())
            found.update(array.tobytes())
    for file in dataset.files:
        found.update("/".join(file.parts[-2:]).encode("utf-8", "surrogateescape") + b"\n")
    return f"{len(dataset)}:{found.hexdigest()[:16]}"


def check_fingerprint(run: Run, dataset: Dataset) -> None:
    """Raise DataError if a run that goes on would do so with other samples than it began with."""
    what = _change(run.settings.samples, dataset)
    if what:
        raise DataError(f"{run.path}: its training data have changed: it began with {what}")


def tested_note(run: Run, dataset: Dataset | None) -> str:
    """What to say if the tests of a run that goes on would look at other samples; else nothing."""
    what = _change(run.settings.tested, dataset) if dataset else ""
    if not what:
        return ""
    return (
        f"{run.path}: its test data have changed: it was tested on {what}; scores before and after "
        "do not compare"
    )


def _change(known: str, dataset: Dataset) -> str:
    """What was and what is, if that differs; runs of earlier versions do not tell."""
    if not known or known == fingerprint(dataset):
        return ""
    before, now = int(known.partition(":")[0]), len(dataset)
    what = "they have other labels or names" if before == now else f"there are {now:,} now"
    return f"{before:,} samples, and {what}"
