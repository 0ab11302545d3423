"""Whether a training is tested on the very samples that it learns."""

from __future__ import annotations

from netspec.ir.layer import Phase
from netspec.training.setup.experiment import Experiment
from netspec.training.setup.fingerprint import fingerprint


def overlap(experiment: Experiment) -> str:
    """What to expect of tests that look at the training data; nothing where they do not."""
    train, test, sources = experiment.train, experiment.test, experiment.sources
    if test is None or experiment.held_out or sources[Phase.TRAIN] != sources.get(Phase.TEST):
        return ""
    if [*train.files] != [*test.files] or fingerprint(train) != fingerprint(test):
        return ""
    return (
        f"{test.origin}: the tests look at the {len(train):,} samples that are learned, and tell "
        "nothing of others; `val: 0.1` holds some out"
    )
