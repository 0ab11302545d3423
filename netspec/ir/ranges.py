"""Ranges that something is drawn from: one number, or the lowest and the highest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from netspec.ir.fields import Says, real, shown, whole

Range: TypeAlias = tuple[float, float]
"""The lowest and the highest."""

NOTHING: Range = (0.0, 0.0)
"""What is added where nothing is drawn."""
SAME: Range = (1.0, 1.0)
"""What is multiplied by where nothing is drawn."""


def pair(one: Callable[[object], Any], each: Callable[[object], Any]) -> Callable[[object], Any]:
    """Accepts what `one` makes a range of, or two values of `each`, the lower first."""

    def accept(value: object) -> Any:
        if not isinstance(value, list | tuple):
            return one(value)
        if len(value) != 2:
            raise ValueError(f"takes one number or [lowest, highest], not {len(value)} values")
        low, high = map(each, value)
        if low > high:
            raise ValueError(f"must be [lowest, highest], not {shown(value)}")
        return low, high

    return accept


def around(
    *, maximum: float | None = None, below: float | None = None, above: float | None = None
) -> Callable[[object], Range]:
    """Accepts a for [-a, a], or a pair; neither sign beyond a `maximum` nor as far as `below`.

    `above` is the bound of the lower end where that is another one.
    """
    least = above if above is not None or below is None else -below
    one = real(minimum=0, maximum=maximum, below=None if least is None else -least)
    each = real(
        minimum=None if maximum is None else -maximum, maximum=maximum, above=least, below=below
    )
    return pair(lambda value: (-one(value), one(value)), each)


def factor(largest: float) -> Callable[[object], Range]:
    """Accepts f for [1/f, f], or a pair of factors, none above `largest` nor below 1/largest."""
    one = real(minimum=1, maximum=largest)
    each = real(minimum=1 / largest, maximum=largest)
    return pair(lambda value: (1 / one(value), one(value)), each)


def jitter(value: object) -> Range:
    """Accepts j for [max(0, 1 - j), 1 + j], as torchvision does, or a pair of factors from 0."""
    any_from_0 = real(minimum=0, maximum=1000)

    def one(value: object) -> Range:
        by = any_from_0(value)
        return max(0.0, 1 - by), 1 + by

    accepted: Range = pair(one, any_from_0)(value)
    return accepted


def sizes(value: object) -> tuple[int, int]:
    """Accepts a whole number from 1, which stands for itself alone, or a pair of them."""
    each = whole(1)
    accepted: tuple[int, int] = pair(lambda one: (each(one), each(one)), each)(value)
    return accepted


Degrees: TypeAlias = Annotated[
    Range, BeforeValidator(around(maximum=360)), Says("degrees a for [-a, a], or a pair")
]
Lean: TypeAlias = Annotated[
    Range, BeforeValidator(around(below=90)), Says("degrees a for [-a, a], or a pair")
]
Pixels: TypeAlias = Annotated[
    Range, BeforeValidator(around()), Says("number a for [-a, a], or a pair")
]
Bend: TypeAlias = Annotated[
    Range,
    BeforeValidator(around(maximum=1, above=-1 / 6)),
    Says("number a for [-a, a], or a pair above -1/6"),
]
Factor: TypeAlias = Annotated[
    Range, BeforeValidator(factor(100)), Says("factor f for [1/f, f], or a pair")
]
Jitter: TypeAlias = Annotated[
    Range, BeforeValidator(jitter), Says("number j for [max(0, 1 - j), 1 + j], or a pair")
]
Turn: TypeAlias = Annotated[
    Range, BeforeValidator(around(maximum=0.5)), Says("number a up to 0.5 for [-a, a], or a pair")
]
Sizes: TypeAlias = Annotated[
    tuple[int, int], BeforeValidator(sizes), Says("whole number from 1, or a pair")
]
