"""Tables: whole and plain where they are piped."""

from __future__ import annotations

import pytest

from netspec.report.columns import bytes_text
from netspec.report.table import Table, print_table


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1_724_320, "1.64 MiB"),
     (2**60, "1024.00 PiB")],
)  # fmt: skip
def test_bytes(count: int, shown: str) -> None:
    assert bytes_text(count) == shown


def test_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table([("layer", False), ("n", True), ("note", False)])
    table.add("conv1", "1,000", "")
    table.add("a", "7", "x" * 200)
    print_table(table)
    assert capsys.readouterr().out.splitlines() == [
        "layer      n  note",
        "conv1  1,000",
        "a          7  " + "x" * 200,
    ]


def test_one_column() -> None:
    words, numbers = Table([("layer", False)]), Table([("MACs", True)])
    words.add("a layer with words")
    numbers.add("1,000")
    assert list(words.lines()) == ["layer", "a layer with words"]
    assert list(words.lines(8)) == ["layer", "a layer with", "words"]
    assert list(numbers.lines()) == [" MACs", "1,000"]


def test_a_narrow_page() -> None:
    table = Table([("layer", False), ("n", True), ("note", False)])
    table.add("stage1/basic1/residual1/conv1", "1,000,000", "multiply-accumulates for one input")
    assert list(table.lines(50)) == [
        "layer                          n  note",
        "…sic1/residual1/conv1  1,000,000  multiply-",
        "                                  accumulates for",
        "                                  one input",
    ]


def test_nothing_drives_the_terminal() -> None:
    table = Table([("", False), ("", False)])
    table.add("\x1b[31mred\n", "")
    assert list(table.lines()) == ["\\x1b[31mred\\n"]
