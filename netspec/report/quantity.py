"""Quantities with units: `8GiB`, `5M`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from netspec.diagnostics import UsageError, printable

UNITS: Mapping[str, int] = {
    **{unit: 10 ** (3 * i) for i, unit in enumerate(("K", "M", "G", "T"), 1)},
    **{f"{unit}B": 10 ** (3 * i) for i, unit in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{unit}iB": 2 ** (10 * i) for i, unit in enumerate(("K", "M", "G", "T"), 1)},
    "B": 1,
}
"""What a number may end with, and what that multiplies it by."""

_LONGEST_FIRST = "|".join(sorted(UNITS, key=len, reverse=True))
_QUANTITY = re.compile(rf"(?<![\w.])(\d{{1,18}}(?:\.\d{{1,18}})?) ?({_LONGEST_FIRST})\b")


def without_units(text: str) -> str:
    """The text with each quantity as the number that it stands for: `5M` → `5000000`."""
    return _QUANTITY.sub(lambda match: _number(Fraction(match[1]) * UNITS[match[2]]), text)


def number_of_bytes(text: str) -> int:
    """`8GiB`, `512 MB` or a plain number as bytes; UsageError for anything else."""
    plain = without_units(text.strip())
    if not re.fullmatch(r"[0-9]{1,18}", plain):
        raise UsageError(f"`{printable(text)}` is no amount of memory, such as 8GiB or 512MB")
    return int(plain)


def _number(exact: Fraction) -> str:
    return str(exact.numerator) if exact.denominator == 1 else f"({exact})"
