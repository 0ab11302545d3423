"""What a data section says of the weights of classes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator

from netspec.ir.fields import Says, many, real, shown


def _class_weights(value: object) -> tuple[object, ...]:
    """Accepts BALANCED, or numbers from 0 that are not all 0."""
    values = many(value)
    assert isinstance(values, tuple)
    if "BALANCED" in values and len(values) == 1:
        return values
    if any(isinstance(v, str) for v in values):
        raise ValueError(f"must be BALANCED, or numbers from 0, not {shown(value)}")
    numbers = tuple(real(minimum=0)(v) for v in values)
    if not any(numbers):
        raise ValueError("must not all be 0")
    return numbers


ClassWeights: TypeAlias = Annotated[
    tuple[float | Literal["BALANCED"], ...],
    BeforeValidator(_class_weights),
    Says("BALANCED, or numbers from 0, one per class"),
]
