"""What an experiment may not mean: it trains as it says, with a warning of each."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.ir.labelled import Labelled
from netspec.ir.layer import Phase
from netspec.training.setup.experiment import Experiment
from netspec.training.setup.fingerprint import fingerprint


def doubts(experiment: Experiment) -> Iterator[str]:
    """Of its data, and of what its losses tell apart."""
    yield from _overlap(experiment)
    yield from _repeated(experiment)
    yield from _idle_classes(experiment)


def _idle_classes(experiment: Experiment) -> Iterator[str]:
    """What each loss tells apart beyond the labels of the data, which it then learns to avoid."""
    for node in experiment.nets.train.net.nodes:
        if not node.weighed or not isinstance(node.layer, Labelled):
            continue
        labels = experiment.train.arrays.get(node.bottoms[1])
        if labels is None:
            continue
        classes = node.bottom_types[0].shape[node.layer.axis]
        largest = int(labels.max())
        if largest + 1 < classes:
            yield (
                f"`{node.bottoms[0]}` tells {classes:,} classes apart, and no label of the "
                f"training data is above {largest:,}"
            )


def _overlap(experiment: Experiment) -> Iterator[str]:
    """Tests that look at the training data."""
    train, test, sources = experiment.train, experiment.test, experiment.sources
    if test is None or experiment.held_out or sources[Phase.TRAIN] != sources.get(Phase.TEST):
        return
    if [*train.files] == [*test.files] and fingerprint(train) == fingerprint(test):
        yield (
            f"{test.origin}: the tests look at the {len(train):,} samples that are learned, and "
            "tell nothing of others; `val: 0.1` holds some out"
        )


def _repeated(experiment: Experiment) -> Iterator[str]:
    """A batch of more samples than there are."""
    batch, samples = experiment.nets.train.net.batch, len(experiment.train)
    if batch > samples:
        yield (
            f"a batch of {batch:,} takes {samples:,} samples {batch / samples:.3g} times over: "
            f"a batch_size of {samples:,} would see as much, and update more often"
        )
