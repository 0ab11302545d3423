"""An experiment: a spec's nets with the data they train and test on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from netspec.compiler import Elaborated, Spec, compile_spec, elaborate, read
from netspec.data import Dataset, Reading, validates
from netspec.data.classes import same_classes
from netspec.data.order import Batches
from netspec.data.split import Fold, digest
from netspec.diagnostics import UsageError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.override import override
from netspec.ir.sections import Solver
from netspec.ir.transform import MEAN
from netspec.training.runs.checkpoint import State
from netspec.training.runs.run import Run
from netspec.training.setup.measured import NOTHING, Measured, attached, measure, wanted, weighed
from netspec.training.setup.sources import found_at, opened, place_of, suited
from netspec.training.setup.validation import held_out

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
        batch = self.nets.train.net.batch * self.solver.iter_size
        seed = self.solver.random_seed
        return Batches(len(self.train), batch, seed, data.shuffled, data.rand_skip)

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
    base, name = place_of(spec, net, Phase.TRAIN, data, sources.get(Phase.TRAIN))
    train, held = opened(spec, net, base, name, "train", reading), ""
    found, source = {Phase.TRAIN: found_at(base, name)}, sources.get(Phase.TEST)
    test: Dataset | None = None
    tested = nets.test.net.data is not None and not nets.test.net.data.val
    if net.data.val:
        train, kept = held_out(train, net, fold)
        test, held = suited(kept, nets.test.net, spec.base), digest(kept)
        found |= _left(spec, nets.test.net, data, source) if tested else {}
    elif tested:
        base, name = place_of(spec, nets.test.net, Phase.TEST, data, source)
        split = "val" if validates(name, base) else "test"
        test = opened(spec, nets.test.net, base, name, split, reading)
        same_classes(test, train.classes)
        found[Phase.TEST] = found_at(base, name)
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
    base, name = place_of(spec, net, Phase.TEST, data, source)
    return {Phase.TEST: found_at(base, name)} if (base / name).exists() else {}


def run_spec(run: Run, include_paths: Sequence[Path] = ()) -> Spec:
    """A run's own copy of its spec as amended since, with the paths in it as they were."""
    spec = read(str(run.spec), include_paths=include_paths)
    spec = replace(spec, tree=override(spec.tree, run.settings.amended))
    folder = spec.folder if run.settings.folder is None else Path(run.settings.folder)
    return replace(spec, folder=folder, title=run.settings.name)
