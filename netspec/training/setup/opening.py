"""The data sets that a run, or a spec, is tested on: test data, or samples held out."""

from __future__ import annotations

from pathlib import Path

from netspec.compiler import Elaborated, Spec, elaborate
from netspec.data import Dataset, Reading, validates
from netspec.data.dataset import Array
from netspec.data.order import Batches
from netspec.data.split import Fold, digest
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.training.runs.run import Run
from netspec.training.setup.measured import FILE, Measured, attached, measure, wanted
from netspec.training.setup.sources import SPLITS, found_at, opened, place_of, suited
from netspec.training.setup.validation import check_held_out, held_out


def open_phase(
    spec: Spec,
    net: Net,
    phase: Phase,
    *,
    data: Path | None = None,
    source: str | None = None,
    reading: Reading | None = None,
) -> tuple[Dataset, str]:
    """The data set of a phase, checked against the net, and where it was found.

    What its transform reads of the training data is there, see `_measured`.
    """
    base, name = place_of(spec, net, phase, data, source)
    dataset = opened(spec, net, base, name, SPLITS[phase], reading)
    return _measured(spec, net, dataset), found_at(base, name)


def open_training(
    spec: Spec, net: Net, *, data: Path | None = None, seed: int | None = None
) -> tuple[Dataset, str]:
    """The samples that a training of the net takes, none held out, and where they were found.

    What it holds out hangs on its `seed`, the solver's unless given.
    """
    train, source = _training(spec, net, data, seed)
    return _measured(spec, net, train), source


def first_batch(dataset: Dataset, net: Net, seed: int) -> dict[str, Array]:
    """The samples that the first iteration of a training takes."""
    assert net.data is not None
    batches = Batches(len(dataset), net.batch, seed, net.data.shuffled, net.data.rand_skip)
    return dataset.taken(batches.indices(0))


def _measured(spec: Spec, net: Net, dataset: Dataset) -> Dataset:
    """The data set with what its transform reads of the training data.

    That is kept beside the spec of a run; for another spec it is measured.
    """
    if not wanted(net):
        return dataset
    kept = Measured.read(spec.path.parent)
    if kept is None and spec.folder is not None:
        raise DataError(f"{spec.path.parent / FILE}: is not there, and the transform reads it")
    if kept is None:
        nets = elaborate(spec)
        train = dataset if net.phase is Phase.TRAIN else _training(spec, nets.train.net)[0]
        kept = measure(nets, train)
    return attached(dataset, net, kept)


def _training(
    spec: Spec, net: Net, data: Path | None = None, seed: int | None = None
) -> tuple[Dataset, str]:
    """What a spec trains on, and where it was found."""
    base, name = place_of(spec, net, Phase.TRAIN, data, None)
    train = opened(spec, net, base, name, "train")
    if net.data is not None and net.data.val:
        train, _ = held_out(train, net, seed=seed)
    return train, found_at(base, name)


def open_tested(
    run: Run, spec: Spec, nets: Elaborated, *, data: Path | None, reading: Reading
) -> Dataset:
    """What the tests of a run's training looked at, validation samples or the test's, or `data`."""
    net, source = nets.test.net, run.settings.data.get(Phase.TEST)
    apart = run.settings.held_out or (source is not None and validates(source, spec.base))
    if apart and data is None:
        return open_validation(run, spec, nets, data=None, reading=reading)
    return open_phase(spec, net, Phase.TEST, data=data, source=source, reading=reading)[0]


def open_learned(
    run: Run, spec: Spec, net: Net, nets: Elaborated, *, data: Path | None, reading: Reading
) -> Dataset:
    """The samples that a run trained on, for a net that takes them; of `data` all there are."""
    source = run.settings.data.get(Phase.TRAIN)
    dataset, _ = open_phase(spec, net, Phase.TRAIN, data=data, source=source, reading=reading)
    if data is not None or not run.settings.held_out:
        return dataset
    learned, _ = _divided(run, dataset, nets.train.net)
    return learned


def open_validation(
    run: Run, spec: Spec, nets: Elaborated, *, data: Path | None, reading: Reading
) -> Dataset:
    """The samples that the tests of a run looked at; UsageError if it had none of its own."""
    train, test = nets.train.net, nets.test.net
    sources = run.settings.data
    if train.data is not None and train.data.val:
        base, name = place_of(spec, train, Phase.TRAIN, data, sources.get(Phase.TRAIN))
        whole = opened(spec, train, base, name, "train", reading)
        _, held = _divided(run, whole, train)
        return _measured(spec, test, suited(held, test, spec.base))
    base, name = place_of(spec, test, Phase.TEST, data, sources.get(Phase.TEST))
    if not validates(name, base):
        what = "the spec says no `val`, and the source has no folder `val` beside `test`"
        raise UsageError(f"{run.path}: has no validation samples: {what}")
    return _measured(spec, test, opened(spec, test, base, name, "val", reading))


def _divided(run: Run, dataset: Dataset, train: Net) -> tuple[Dataset, Dataset]:
    """What a run learned from, and what it held out; DataError if these would be others now."""
    fold = run.settings.fold
    learned, held = held_out(dataset, train, Fold(*fold) if fold else None)
    check_held_out(run, digest(held))
    return learned, held
