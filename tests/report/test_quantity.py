"""Quantities with units."""

from __future__ import annotations

import pytest

from netspec.diagnostics import UsageError
from netspec.report.quantity import number_of_bytes, without_units


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GiB", 8 << 30), ("512 MB", 512 * 10**6), ("1.5KiB", 1536), ("12", 12), ("0B", 0),
     ("2T", 2 * 10**12), ("3kB", 3000)],
)  # fmt: skip
def test_bytes(text: str, count: int) -> None:
    assert number_of_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "8 XB", "8gib", "1.5B", "1e3", "9" * 19, "1 2"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount of memory"):
        number_of_bytes(text)


def test_in_expressions() -> None:
    assert without_units("parameters < 5M and macs <= 0.6G") == (
        "parameters < 5000000 and macs <= 600000000"
    )
    assert without_units("x2M < 5 and y < 1.0005K") == "x2M < 5 and y < (2001/2)"
