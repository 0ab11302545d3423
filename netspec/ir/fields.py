"""The kinds of value a field takes, and the base of everything that has fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from netspec.ir.types import AXES

MAX_INT = 2**31 - 1
"""The largest integer a field takes: what ONNX runtimes index with."""
MAX_REAL = (2 - 2**-23) * 2.0**127
"""The largest float32, which is what every number of a net becomes."""


class Fields(BaseModel):
    """A message of the language: every field typed, documented and immutable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        defer_build=True,  # a spec uses few layer types, and each takes milliseconds to build
    )


def shown(value: object) -> str:
    """A value as a spec would write it, shortened: for messages.

    A subclass of str is a word, and stands without quotes.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value[:8])) + (", …]" if len(value) > 8 else "]")
    if isinstance(value, dict):
        return "{ … }"
    text = f'"{value}"' if type(value) is str else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def whole(minimum: int | None = None, maximum: int = MAX_INT) -> Callable[[object], int]:
    """Accepts an integer, exact arithmetic included, from `minimum` to `maximum`."""

    def accept(value: object) -> int:
        if isinstance(value, Fraction) and value.denominator == 1:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if minimum is not None and value < minimum:
            raise ValueError(f"must be at least {minimum}, not {shown(value)}")
        if abs(value) > maximum:
            raise ValueError(f"must be at most {maximum}, not {shown(value)}")
        return value

    return accept


def real(
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Callable[[object], float]:
    """Accepts any finite number, fractions included."""

    def accept(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
            raise ValueError(f"must be a number, not {shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError(f"must be finite, not {shown(value)}")
        if abs(number) > MAX_REAL:
            raise ValueError(f"must fit into a float32, up to 3.4e38, not {shown(value)}")
        if minimum is not None and number < minimum:
            raise ValueError(f"must be at least {minimum:g}, not {shown(value)}")
        if maximum is not None and number > maximum:
            raise ValueError(f"must be at most {maximum:g}, not {shown(value)}")
        if above is not None and number <= above:
            raise ValueError(f"must be above {above:g}, not {shown(value)}")
        if below is not None and number >= below:
            raise ValueError(f"must be below {below:g}, not {shown(value)}")
        return number

    return accept


def logarithm_base(value: object) -> float:
    """Accepts a number above 0, and Caffe's -1, which stands for e."""
    number = real()(value)
    if number <= 0 and number != -1:
        raise ValueError(f"must be above 0, or -1 for e, not {shown(value)}")
    return number


def threshold(value: object) -> float:
    """Accepts a number above 0, and Caffe's -1, which stands for no threshold."""
    number = real()(value)
    if number <= 0 and number != -1:
        raise ValueError(f"must be above 0, or -1 for none, not {shown(value)}")
    return number


def flag(value: object) -> bool:
    """Accepts `true` and `false`, and 1 and 0 as the protobuf text format does."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"must be true or false, not {shown(value)}")


def text(value: object) -> str:
    """Accepts a string; a bare word is taken as one."""
    if isinstance(value, str):
        return str(value)
    raise ValueError(f"must be a string, not {shown(value)}")


def many(value: object) -> object:
    """A repeated field: one value stands for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def per_axis(value: object) -> object:
    """One value stands for every spatial axis alike, as in Caffe; else each axis has its own."""
    values = many(value)
    assert isinstance(values, tuple)
    if len(values) not in AXES:
        raise ValueError(
            f"takes one value, or one for each spatial axis, {max(AXES)} at most, "
            f"not {len(values)} values"
        )
    return values


@dataclass(frozen=True, slots=True)
class Says:
    """What a kind of value is called in the reference."""

    text: str


Int: TypeAlias = Annotated[int, BeforeValidator(whole()), Says("whole number")]
Positive: TypeAlias = Annotated[int, BeforeValidator(whole(1)), Says("whole number from 1")]
NonNegative: TypeAlias = Annotated[int, BeforeValidator(whole(0)), Says("whole number from 0")]
Real: TypeAlias = Annotated[float, BeforeValidator(real()), Says("number")]
NonNegativeReal: TypeAlias = Annotated[
    float, BeforeValidator(real(minimum=0)), Says("number from 0")
]
PositiveReal: TypeAlias = Annotated[float, BeforeValidator(real(above=0)), Says("number above 0")]
Probability: TypeAlias = Annotated[
    float, BeforeValidator(real(minimum=0, below=1)), Says("number from 0, below 1")
]
Share: TypeAlias = Annotated[
    float, BeforeValidator(real(minimum=0, maximum=1)), Says("number from 0 to 1")
]
Base: TypeAlias = Annotated[
    float, BeforeValidator(logarithm_base), Says("number above 0, or -1 for e")
]
Flag: TypeAlias = Annotated[bool, BeforeValidator(flag), Says("true or false")]
Text: TypeAlias = Annotated[str, BeforeValidator(text), Says("string")]
Ints: TypeAlias = Annotated[tuple[Int, ...], BeforeValidator(many), Says("whole numbers")]
Reals: TypeAlias = Annotated[tuple[Real, ...], BeforeValidator(many), Says("numbers")]
Texts: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(many), Says("strings")]
Extent: TypeAlias = Annotated[
    tuple[Positive, ...], BeforeValidator(many), Says("size, such as 3x224x224")
]
PositivePerAxis: TypeAlias = Annotated[
    tuple[Positive, ...],
    BeforeValidator(per_axis),
    Says("whole number from 1, or one for each axis, such as 3x5"),
]
NonNegativePerAxis: TypeAlias = Annotated[
    tuple[NonNegative, ...],
    BeforeValidator(per_axis),
    Says("whole number from 0, or one for each axis, such as [0, 1]"),
]


def plain(fields: Fields) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain data."""
    return fields.model_dump(mode="json", exclude_defaults=True)
