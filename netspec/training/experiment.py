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
)
from netspec.data.order import Batches
from netspec.diagnostics import DataError, UsageError
from netspec.ir.labelled import Labelled
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.override import override
from netspec.ir.sections import MEAN, Solver
from netspec.ir.stored import stored_inputs
from netspec.ir.types import TensorType
from netspec.runtime.device import Device, choose_device
from netspec.runtime.free import free_memory
from netspec.training.checkpoint import State, load
from netspec.training.evaluator import Evaluation, Evaluator
from netspec.training.run import Run
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
    solver: Solver
    sources: dict[Phase, str]
    """What each data set was opened from: absolute, or a bundled name."""

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
        """The trained network as ONNX, for any batch size unless a layer holds the tests'."""
        weights = {**state.weights, **state.statistics}
        net = self.nets.test.net
        batch = net.batch if net.hung else None
        compiled = compile_spec(self.spec, weights=weights, batch=batch, classes=self.classes)
        return bytes(compiled.model.SerializeToString(deterministic=True))


def prepare(
    spec: Spec,
    *,
    data: Path | None = None,
    sources: Sources | None = None,
    reading: Reading | None = None,
) -> Experiment:
    """Build the nets and open the data; SpecErrors, UsageError or DataError if they do not fit.

    `data` is a path relative to the working directory that both phases read; `sources` says it
    per phase, as a run remembers it, and `reading` how they are read.
    """
    nets = elaborate(spec)
    net = nets.train.net
    if net.solver is None:
        raise UsageError(f"{spec.path}: training needs a `solver {{ … }}`")
    if net.data is None:
        raise UsageError(f'{spec.path}: training needs a `data "train" {{ … }}`')
    if net.solver.lr_policy == "plateau" and nets.test.net.data is None:
        raise UsageError(f'{spec.path}: lr_policy plateau looks at tests: it needs a `data "test"`')
    opened = {
        phase: open_phase(
            spec, built, phase, data=data, source=(sources or {}).get(phase), reading=reading
        )
        for phase, built in ((Phase.TRAIN, net), (Phase.TEST, nets.test.net))
        if built.data is not None
    }
    test = opened.get(Phase.TEST)
    return Experiment(
        spec,
        nets,
        opened[Phase.TRAIN][0],
        test[0] if test else None,
        net.solver,
        {phase: source for phase, (_, source) in opened.items()},
    )


def open_phase(
    spec: Spec,
    net: Net,
    phase: Phase,
    *,
    data: Path | None = None,
    source: str | None = None,
    reading: Reading | None = None,
) -> tuple[Dataset, str]:
    """The data set of a phase, checked against the net, and where it was found."""
    section = net.data
    if section is None:
        raise UsageError(f'{spec.path}: there is no `data "{_SPLITS[phase]}" {{ … }}`')
    base, name = spec.base, section.source
    if data is not None:
        base, name = Path.cwd(), str(data)
    elif source is not None:
        base, name = Path.cwd(), source
    if not name:
        raise UsageError(
            f'{spec.path}: `data "{_SPLITS[phase]}"` names no source: give the samples by --data'
        )
    images = stored_inputs(net).get(next(iter(net.transformed), "data"))
    dataset = open_dataset(
        name,
        split=_SPLITS[phase],
        base=base,
        shape=images.sample if images else None,
        section=section,
        folder=spec.base,
        reading=_with_room(reading or Reading()),
    )
    check_order(section.model_copy(update={"source": name}), base)
    dataset = _suited(dataset, net, spec.base)
    if net.hung and phase is Phase.TEST and len(dataset) % net.batch:
        raise UsageError(
            f"layer `{net.hung.name}` holds the batch size {net.batch}, of which the "
            f"{len(dataset)} test samples are no multiple"
        )
    found = (base / name).absolute()
    return dataset, str(found) if name and found.exists() else name


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
    run: Run, *, data: Path | None, device: str, batches: int | None = None
) -> Evaluation:
    """Loss and metrics of a run's newest weights on its test data, or on `data`; see `Evaluator`.

    UsageError if the spec has no test data, DataError if weights or data are damaged.
    """
    spec = run_spec(run)
    net = elaborate(spec).test.net
    source = run.settings.data.get(Phase.TEST)
    dataset, _ = open_phase(spec, net, Phase.TEST, data=data, source=source)
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
    image = inputs.pop(MEAN, None)
    dataset = fitted(dataset, inputs)
    _check(dataset, net, inputs)
    if image is None:
        return dataset
    assert net.data is not None
    return replace(dataset, mean=mean_image(base / net.data.transform.mean_file, image.shape))


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
