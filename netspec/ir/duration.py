"""Lengths of time: `90m`, `1h30m`, or a number of seconds."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator

from netspec.ir.fields import Says, real, shown

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_WHOLE = re.compile("".join(f"(?:{_PART} ?{unit} ?)?" for unit in _SECONDS))


def seconds(value: object) -> float:
    """Accepts a number above 0, or a text of days, hours, minutes and seconds, in that order."""
    if not isinstance(value, str):
        return real(above=0)(value)
    text = value.strip()
    if re.fullmatch(_PART, text):
        text += "s"
    parts = _WHOLE.fullmatch(text)
    total = Fraction(0)
    if parts is not None:
        for number, unit in zip(parts.groups(), _SECONDS.values(), strict=True):
            total += Fraction(number or 0) * unit
    if total <= 0:
        raise ValueError(f"must be a time such as 90m or 1h30m, not {shown(value)}")
    return float(total)


def spoken(time: float) -> str:
    """`1 h 30 min`, `2 min 5 s`, `3.4 s`."""
    if time < 60:
        return f"{time:.1f} s"
    whole = round(time)
    parts = (whole // 3_600, "h"), (whole % 3_600 // 60, "min"), (whole % 60, "s")
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


Duration: TypeAlias = Annotated[
    float, BeforeValidator(seconds), Says('number of seconds, or a time such as "90m"')
]
