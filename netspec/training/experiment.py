"""An experiment: a spec's nets with the data they train and test on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from netspec.compiler import (
    Elaborated,
    Spec,
    compile_spec,
    elaborate,
    read,
)
from netspec.data import (
    Dataset,
    Reading,
    check_dataset,
    check_order,
    fitted,
    mean_image,
    open_dataset,
    validates,
)
from netspec.data.classes import same_classes
from netspec.data.order import Batches
from netspec.data.split import Fold, digest
from netspec.diagnostics import DataError, UsageError
from netspec.ir.labelled import Labelled
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.override import override
from netspec.ir.sections import Solver
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import MEAN
from netspec.ir.types import TensorType
from netspec.runtime.device import Device, choose_device
from netspec.runtime.free import free_memory
from netspec.training.checkpoint import State, load
from netspec.training.evaluator import Evaluation, Evaluator
from netspec.training.measured import FILE, NOTHING, Measured, attached, measure, wanted, weighed
from netspec.training.run import Run
from netspec.training.validation import check_held_out, held_out
from netspec.weights import check_weights

_SPLITS = {Phase.TRAIN: "train", Phase.TEST: "test"}

Sources = Mapping[Phase, str]
"""Where the samples of each phase come from, instead of the sections' `source`."""


@dataclass(frozen=True)
class Experiment:
    """Everything that a training needs, checked to fit together."""

    spec: Spec
    nets: Elaborated
    train: Dataset
    test: Dataset | None
    """What the tests of the training look at: validation samples, if there are any apart."""
    solver: Solver
    sources: dict[Phase, str]
    """What each data set is opened from: absolute, or a bundled name."""
    fold: Fold | None = None
    held_out: str = ""
    """The digest of the samples held out of the training data; empty if none are."""
    measured: Measured = NOTHING
    """What the transforms read of the training data."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, if the data know them."""
        return self.train.classes

    @property
    def batches(self) -> Batches:
        """Which samples each iteration takes."""
        data = self.nets.train.net.data
        assert data is not None
        shuffle = True if data.shuffle is None else data.shuffle
        batch = self.nets.train.net.batch * self.solver.iter_size
        seed = self.solver.random_seed
        return Batches(len(self.train), batch, seed, shuffle, data.rand_skip)

    @property
    def length(self) -> int:
        """Iterations in all."""
        if self.solver.max_iter is not None:
            return self.solver.max_iter
        assert self.solver.max_epoch is not None
        return self.batches.iterations(self.solver.max_epoch)

    @property
    def test_for_batch(self) -> Callable[[int], Net]:
        """The test net for the samples that its own batch size leaves over."""
        return lambda batch: elaborate(self.spec, batch=batch).test.net

    def model(self, state: State) -> bytes:
        """The trained network as ONNX, for any batch size unless a layer holds the tests'.

        It takes images as they are stored if a mean image or a matrix was measured for them.
        """
        weights = {**state.weights, **state.statistics}
        net = self.nets.test.net
        batch = net.batch if net.hung else None
        compiled = compile_spec(
            self.spec, weights=weights, batch=batch, classes=self.classes,
            embed_preprocessing=MEAN in wanted(net), measured=self.measured.arrays,
        )  # fmt: skip
        return bytes(compiled.model.SerializeToString(deterministic=True))


def prepare(
    spec: Spec,
    *,
    data: Path | None = None,
    sources: Sources | None = None,
    fold: Fold | None = None,
    measured: Measured | None = None,
    runs: Path | None = None,
    reading: Reading | None = None,
) -> Experiment:
    """Build the nets and open the data; SpecErrors, UsageError or DataError if they do not fit.

    `data` is a path relative to the working directory that both phases read; `sources` says it
    per phase, as a run remembers it, and `reading` how they are read. Where samples are held out, a
    share or a `fold`, they are the experiment's `test`, and `data "test"` is not opened. What
    transforms read of the training data is `measured` already, or measured now, unless the last run
    under `runs` had the same.
    """
    nets = elaborate(spec)
    net = nets.train.net
    if net.solver is None:
        raise UsageError(f"{spec.path}: training needs a `solver {{ … }}`")
    if net.data is None:
        raise UsageError(f'{spec.path}: training needs a `data "train" {{ … }}`')
    if net.solver.lr_policy == "plateau" and nets.test.net.data is None:
        raise UsageError(f'{spec.path}: lr_policy plateau looks at tests: it needs a `data "test"`')
    sources = sources or {}
    base, name = _place(spec, net, Phase.TRAIN, data, sources.get(Phase.TRAIN))
    train, held = _opened(spec, net, base, name, "train", reading), ""
    found, source = {Phase.TRAIN: _found(base, name)}, sources.get(Phase.TEST)
    test: Dataset | None = None
    tested = nets.test.net.data is not None and not nets.test.net.data.val
    if net.data.val:
        train, kept = held_out(train, net, fold)
        test, held = _suited(kept, nets.test.net, spec.base), digest(kept)
        found |= _left(spec, nets.test.net, data, source) if tested else {}
    elif tested:
        base, name = _place(spec, nets.test.net, Phase.TEST, data, source)
        split = "val" if validates(name, base) else "test"
        test = _opened(spec, nets.test.net, base, name, split, reading)
        same_classes(test, train.classes)
        found[Phase.TEST] = _found(base, name)
    seen = measure(nets, train, runs) if measured is None else measured
    return Experiment(
        spec=spec,
        nets=weighed(nets, seen),
        train=attached(train, net, seen),
        test=attached(test, nets.test.net, seen) if test else None,
        solver=net.solver,
        sources=found,
        fold=fold if net.data.val else None,
        held_out=held,
        measured=seen,
    )


def _left(spec: Spec, net: Net, data: Path | None, source: str | None) -> dict[Phase, str]:
    """Where the test data lie that a training does not open, as far as they are there already."""
    assert net.data is not None
    if not (net.data.source or data or source):
        return {}
    base, name = _place(spec, net, Phase.TEST, data, source)
    return {Phase.TEST: _found(base, name)} if (base / name).exists() else {}


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
    base, name = _place(spec, net, phase, data, source)
    dataset = _opened(spec, net, base, name, _SPLITS[phase], reading)
    return _measured(spec, net, dataset), _found(base, name)


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
        train = dataset if net.phase is Phase.TRAIN else _training(spec, nets.train.net)
        kept = measure(nets, train)
    return attached(dataset, net, kept)


def _training(spec: Spec, net: Net) -> Dataset:
    """What a spec trains on."""
    base, name = _place(spec, net, Phase.TRAIN, None, None)
    train = _opened(spec, net, base, name, "train")
    return held_out(train, net)[0] if net.data is not None and net.data.val else train


def open_tested(run: Run, spec: Spec, nets: Elaborated, *, data: Path | None) -> Dataset:
    """What the tests of a run's training looked at, validation samples or the test's, or `data`."""
    net, source = nets.test.net, run.settings.data.get(Phase.TEST)
    apart = run.settings.held_out or (source is not None and validates(source, spec.base))
    if apart and data is None:
        return open_validation(run, spec, nets, data=None)
    return open_phase(spec, net, Phase.TEST, data=data, source=source)[0]


def open_validation(run: Run, spec: Spec, nets: Elaborated, *, data: Path | None) -> Dataset:
    """The samples that the tests of a run looked at; UsageError if it had none of its own."""
    train, test = nets.train.net, nets.test.net
    sources, fold = run.settings.data, run.settings.fold
    if train.data is not None and train.data.val:
        base, name = _place(spec, train, Phase.TRAIN, data, sources.get(Phase.TRAIN))
        whole = _opened(spec, train, base, name, "train")
        _, held = held_out(whole, train, Fold(*fold) if fold else None)
        check_held_out(run, digest(held))
        return _measured(spec, test, _suited(held, test, spec.base))
    base, name = _place(spec, test, Phase.TEST, data, sources.get(Phase.TEST))
    if not validates(name, base):
        what = "the spec says no `val`, and the source has no folder `val` beside `test`"
        raise UsageError(f"{run.path}: has no validation samples: {what}")
    return _measured(spec, test, _opened(spec, test, base, name, "val"))


def _place(
    spec: Spec, net: Net, phase: Phase, data: Path | None, source: str | None
) -> tuple[Path, str]:
    """The folder and the name of a phase's source."""
    section = net.data
    if section is None or (phase is Phase.TEST and section.val and data is None):
        hint = "; `--split val` takes the samples held out" if section else ""
        raise UsageError(f'{spec.path}: there is no `data "{_SPLITS[phase]}" {{ … }}`{hint}')
    base, name = spec.base, section.source
    if data is not None:
        base, name = Path.cwd(), str(data)
    elif source is not None:
        base, name = Path.cwd(), source
    if not name:
        raise UsageError(
            f'{spec.path}: `data "{_SPLITS[phase]}"` names no source: give the samples by --data'
        )
    return base, name


def _found(base: Path, name: str) -> str:
    """What a run remembers of a source: its absolute path, or a bundled name."""
    path = (base / name).absolute()
    return str(path) if path.exists() else name


def _opened(
    spec: Spec, net: Net, base: Path, name: str, split: str, reading: Reading | None = None
) -> Dataset:
    """The samples of a phase as its net takes them."""
    images = stored_inputs(net).get(next(iter(net.transformed), "data"))
    dataset = open_dataset(
        name,
        split=split,
        base=base,
        shape=images.sample if images else None,
        section=net.data,
        folder=spec.base,
        reading=_with_room(reading or Reading()),
    )
    assert net.data is not None
    check_order(net.data.model_copy(update={"source": name}), base)
    return _suited(dataset, net, spec.base)


def _with_room(reading: Reading) -> Reading:
    """With half of what is free for images, unless it says how much: a training needs more."""
    free = free_memory(Device("cpu"))
    if reading.room is not None or free is None:
        return reading
    return replace(reading, room=free // 2)


def run_spec(run: Run, include_paths: Sequence[Path] = ()) -> Spec:
    """A run's own copy of its spec as amended since, with the paths in it as they were."""
    spec = read(str(run.spec), include_paths=include_paths)
    spec = replace(spec, tree=override(spec.tree, run.settings.amended))
    folder = run.settings.folder
    return spec if folder is None else replace(spec, folder=Path(folder))


def evaluate_run(
    run: Run, *, data: Path | None, device: str, batches: int | None = None, split: str = "test"
) -> Evaluation:
    """Loss and metrics of a run's newest weights on its test data, or on `data`; see `Evaluator`.

    With `split` "val" on what the tests of its training looked at. UsageError if there are none,
    DataError if weights or data are damaged.
    """
    spec = run_spec(run)
    nets = elaborate(spec)
    net = nets.test.net
    if split == "val":
        dataset = open_validation(run, spec, nets, data=data)
    else:
        source = run.settings.data.get(Phase.TEST)
        dataset, _ = open_phase(spec, net, Phase.TEST, data=data, source=source)
    same_classes(dataset, run.settings.classes)
    return _evaluated(spec, net, dataset, trained_weights(run, net), device, batches)


def evaluate_spec(
    spec: Spec,
    weights: Mapping[str, NDArray[Any]],
    *,
    data: Path | None,
    device: str,
    batches: int | None = None,
) -> Evaluation:
    """Loss and metrics of a spec with these weights on its test data; see `Evaluator`.

    UsageError if it has no test data, DataError if weights or data do not fit.
    """
    net = elaborate(spec).test.net
    check_weights(net, weights)
    dataset, _ = open_phase(spec, net, Phase.TEST, data=data)
    return _evaluated(spec, net, dataset, weights, device, batches)


def _evaluated(
    spec: Spec,
    net: Net,
    dataset: Dataset,
    weights: Mapping[str, NDArray[Any]],
    device: str,
    batches: int | None,
) -> Evaluation:
    evaluator = Evaluator.of_weights(
        net,
        dataset.fed,
        weights,
        choose_device(device),
        lambda batch: elaborate(spec, batch=batch).test.net,
    )
    return evaluator.run(batches)


def trained_weights(run: Run, net: Net, *, best: bool = False) -> Mapping[str, NDArray[Any]]:
    """The final weights of a run, or those of its newest checkpoint while it is not finished.

    `best` are those that tested best so far. UsageError if there are none.
    """
    weights: Mapping[str, NDArray[Any]] | None = run.trained(best=best)
    if weights is None:
        weights = _of_checkpoint(run, best)
    try:
        check_weights(net, weights)
    except DataError as error:
        raise DataError(f"{run.path}: {error}") from None
    return weights


def _of_checkpoint(run: Run, best: bool) -> dict[str, NDArray[Any]]:
    found = run.checkpoints.newest()
    if found is None:
        raise UsageError(f"{run.path}: has no weights yet")
    state, iteration = found.state, found.progress.best_iteration
    if best:
        if iteration is None:
            raise UsageError(f"{run.path}: has no test yet, of which weights were the best")
        state, _ = load(run.checkpoints.path(iteration))
    result = state.result
    return {**result.weights, **result.statistics}


def idle_classes(dataset: Dataset, net: Net) -> Iterator[str]:
    """What each loss tells apart beyond the labels of the data, which it then learns to avoid."""
    for node in net.nodes:
        if not node.weighed or not isinstance(node.layer, Labelled):
            continue
        labels = dataset.arrays.get(node.bottoms[1])
        if labels is None:
            continue
        classes = node.bottom_types[0].shape[node.layer.axis]
        largest = int(labels.max())
        if largest + 1 < classes:
            yield (
                f"`{node.bottoms[0]}` tells {classes:,} classes apart, and no label of the "
                f"training data is above {largest:,}"
            )


def _suited(dataset: Dataset, net: Net, base: Path) -> Dataset:
    """The data set as the net takes it, with the mean image; DataError if it does not fit."""
    inputs = stored_inputs(net, dataset.shapes)
    fed = {name: type for name, type in inputs.items() if name in net.inputs}
    dataset = fitted(dataset, fed)
    _check(dataset, net, fed)
    if net.hung and net.phase is Phase.TEST and len(dataset) % net.batch:
        raise UsageError(
            f"layer `{net.hung.name}` holds the batch size {net.batch}, of which the "
            f"{len(dataset)} test samples are no multiple"
        )
    if net.data is None or not net.data.transform.mean_file or MEAN not in inputs:
        return dataset
    image = mean_image(base / net.data.transform.mean_file, inputs[MEAN].shape)
    return replace(dataset, measured={MEAN: image})


def _check(dataset: Dataset, net: Net, inputs: Mapping[str, TensorType]) -> None:
    labelled = [node for node in net.nodes if isinstance(node.layer, Labelled)]
    if not labelled:
        check_dataset(dataset, inputs)
    for node in labelled:
        assert isinstance(node.layer, Labelled)
        check_dataset(
            dataset,
            inputs,
            node.bottom_types[0].shape[node.layer.axis],
            layer=node.bottoms[0],
            ignore_label=node.layer.ignore_label,
        )
