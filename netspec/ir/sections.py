"""The sections of an experiment beside its layers: data, transform, solver."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from netspec.ir.fields import (
    Fields,
    Flag,
    Int,
    NonNegative,
    NonNegativeReal,
    Positive,
    PositiveReal,
    Probability,
    Real,
    Reals,
    Text,
    many,
)
from netspec.ir.schedule import POLICIES


class Transform(Fields):
    """`transform { … }`: what happens to a sample: (padded - mean_value) · scale / std."""

    pad: NonNegative = 0
    """Cells of value 0 added to each side of each spatial axis, before the arithmetic."""
    scale: Real = 1.0
    """Multiplies every value; `1/255` takes bytes to [0, 1]."""
    mean_value: Reals = ()
    """Subtracted first: one value, or one per channel, in the units of the source."""
    std: Annotated[tuple[PositiveReal, ...], BeforeValidator(many)] = ()
    """Divides last: one value, or one per channel, in units after `scale`."""


class DataSection(Fields):
    """`data "train" { … }`: where a phase's samples come from."""

    source: Text = ""
    """An IDX folder or pair, an `.npz`, an image folder, or `mnist` for the bundled digits.

    Relative to the spec; `--data` overrides it, relative to the working directory, and must be
    given if the section has none.
    """
    batch_size: Positive
    """Samples per iteration."""
    shuffle: Flag | None = None
    """Whether each epoch has an order of its own; unless set, in training only."""
    transform: Transform = Transform()
    """Arithmetic on the values, carried out in the graph."""


class Solver(Fields):
    """`solver { … }`: how the weights are updated, and for how long."""

    type: Literal["SGD", "Nesterov", "Adam"] = "SGD"
    """SGD and Nesterov keep lr inside the momentum, as Caffe does; Adam is Kingma's."""
    base_lr: PositiveReal
    """The learning rate that the policy starts from."""
    lr_policy: Literal["fixed", "step", "multistep", "inv", "exp", "poly"] = "fixed"
    """How the rate follows the iteration."""
    gamma: PositiveReal | None = None
    """Factor of step, multistep and exp; growth of inv."""
    power: PositiveReal | None = None
    """Exponent of inv and poly."""
    stepsize: Positive | None = None
    """Iterations between two steps of `step`."""
    stepvalue: Annotated[tuple[Positive, ...], BeforeValidator(many)] = ()
    """Iterations at which `multistep` multiplies the rate by gamma, rising."""
    momentum: Probability = 0.0
    """Share of the last update that goes on; Adam's β1."""
    momentum2: Probability = 0.999
    """Adam's β2."""
    delta: PositiveReal = 1e-8
    """Adam's ε."""
    weight_decay: NonNegativeReal = 0.0
    """Factor λ of the penalty's gradient, times a parameter's decay_mult."""
    regularization_type: Literal["L2", "L1"] = "L2"
    """The penalty: L2 is λ/2·Σ w², L1 is λ·Σ |w|."""
    max_epoch: Positive | None = None
    """Passes over the training data."""
    max_iter: Positive | None = None
    """Iterations, instead of epochs."""
    test_interval: Positive | None = None
    """Iterations between tests; unless set, each epoch is tested."""
    display: Positive = 20
    """Iterations between two lines of the log."""
    random_seed: Int = 1
    """Seed of the initial weights, the shuffling and dropout."""

    @model_validator(mode="before")
    @classmethod
    def _adam_has_momentum(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") == "Adam" and "momentum" not in data:
            return {**data, "momentum": 0.9}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Solver:
        if (self.max_epoch is None) == (self.max_iter is None):
            raise ValueError("takes max_epoch or max_iter, one of the two")
        needs = POLICIES[self.lr_policy].needs
        missing = [n for n in needs if getattr(self, n) in (None, ())]
        if missing:
            raise ValueError(f"lr_policy {self.lr_policy} needs {' and '.join(missing)}")
        if list(self.stepvalue) != sorted(set(self.stepvalue)):
            raise ValueError("stepvalue must rise")
        if self.type == "Nesterov" and not self.momentum:
            raise ValueError("Nesterov needs a momentum above 0")
        return self
