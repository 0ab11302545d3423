"""Whether a net can learn a few samples by heart: if not, something in it is broken.

Karpathy, "A Recipe for Training Neural Networks", 2019: overfit a single batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import Machine
from netspec.training.setup.amendments import amended, batch_set
from netspec.training.setup.experiment import Experiment

_SHARE = 0.01
"""Of the first loss: what is left where the samples are known by heart."""

_UNMIXED = [f"data.train.transform.{name}=0" for name in ("mixup", "cutmix")]


@dataclass(frozen=True, slots=True)
class Overfit:
    """How it went."""

    samples: int
    iterations: int
    """Those that it took, or all that were tried."""
    first: float
    """The loss before the first update."""
    last: float
    """The loss in the end; NaN if the training diverged."""
    below: float
    """The loss that counts as nothing."""
    metrics: dict[str, float]
    """On the samples, in the end."""

    @property
    def learned(self) -> bool:
        """Whether the samples are known by heart."""
        return self.last <= self.below


def overfit(
    experiment: Experiment,
    machine: Machine,
    *,
    iterations: int,
    samples: int | None = None,
    below: float | None = None,
    told: Callable[[int, float, float], None] = lambda *_: None,
) -> Overfit:
    """Train on one batch until its loss is `below`, by default a hundredth of what it was first.

    Each lot is drawn once, so that crops, flips and the masks of dropout stay as they are; samples
    are not mixed, for a mixture of labels has a loss that no net gets below. There is no weight
    decay, and the rate stays base_lr. `told` hears iterations, loss and rate.
    """
    sets = ["solver.weight_decay=0", "solver.iter_size=1", *_UNMIXED]
    if samples is not None:
        sets.append(batch_set(samples))
    chosen = amended(experiment, sets)
    executor = Executor.of(chosen, machine)
    batch, rate = chosen.batches.indices(0), chosen.solver.base_lr
    first = goal = nan
    for done in range(iterations + 1):
        executor.gradients(0, batch)  # always the lots of the first iteration
        found = executor.results()
        if done == 0:
            first = found.loss
            goal = _SHARE * first if below is None else below
        told(done, found.loss, rate)
        lost = not (found.finite or found.sought)
        if found.loss <= goal or lost or done == iterations:
            break
        executor.update(done, rate)
    last = found.loss if found.finite else nan
    return Overfit(len(batch), done, first, last, goal, found.metrics)
