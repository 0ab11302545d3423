"""What a batch normalisation in training leaves for its gradient."""

from __future__ import annotations

from dataclasses import dataclass, fields

from netspec.codegen.formulation import Forms
from netspec.ir.graph import Value


@dataclass(frozen=True, slots=True)
class Normalized:
    """With c = x - k for some k near the mean: what x̄ is made of, x itself no longer."""

    centred: Value
    """c."""
    offset: Value
    """mean(c), as far as k is from the mean."""
    inverse: Value
    """1/σ."""
    factor: Value
    """scale/σ."""


def keep_normalized(forms: Forms, mean: Value, kept: Normalized) -> None:
    """Leave `kept` for the gradient of the operator that made the logical value `mean`."""
    for field in fields(kept):
        forms.keep((field.name, mean), getattr(kept, field.name))


def normalized(forms: Forms, mean: Value) -> Normalized:
    """What was left by the operator that made `mean`."""
    found = [forms.found((field.name, mean)) for field in fields(Normalized)]
    assert all(found), f"{mean.name} is made by no batch normalisation of this layout"
    return Normalized(*(value for value in found if value is not None))
