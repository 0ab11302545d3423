"""The fields of a solver that say in which precision it trains."""

from __future__ import annotations

from math import frexp
from typing import Literal

from pydantic import model_validator

from netspec.ir.fields import Fields, Positive, PositiveReal


class Precision(Fields):
    """Half precision, and how the loss is scaled meanwhile: PyTorch's AMP, Caffe's spelling."""

    precision: Literal["FP32", "FP16"] = "FP32"
    """What the training's convolutions and fully connected layers multiply, forward and backward.

    With FP16 the weights stay float32, and so do sums, normalisation, losses and the update; the
    loss is scaled so that small gradients are not lost. Tests and models are float32 throughout.
    """
    loss_scale: PositiveReal = 65536.0
    """What FP16 scales the loss by at first, a power of two from 1: halved when an update is not
    finite, which is left out then."""
    growth_interval: Positive = 2000
    """Good updates in a row after which FP16 doubles the scale."""

    @model_validator(mode="after")
    def _one_precision(self) -> Precision:
        if self.precision == "FP32":
            for field in ("loss_scale", "growth_interval"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise ValueError(f"{field} goes with precision FP16")
        if self.loss_scale < 1 or frexp(self.loss_scale)[0] != 0.5:
            raise ValueError(f"loss_scale is a power of two from 1, not {self.loss_scale:g}")
        return self
