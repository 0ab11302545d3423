"""What a spec may smuggle into Markdown and CSV, and does not."""

from __future__ import annotations

import pytest

from netspec.report.csv import harmless
from netspec.report.markdown import escaped, markdown_table
from netspec.report.table import Table


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "\r=1", "-3x-2"])
def test_csv_runs_no_formula(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+2.5", "1e-3", "conv1", "", "a=b"])
def test_csv_leaves_numbers_and_names(text: str) -> None:
    assert harmless(text) == text


def test_markdown_cells_stay_cells() -> None:
    table = Table([("a", False), ("b", True)])
    table.add("x|y", "<img src=x>")
    table.add("`c`\n| d", "1")
    lines = markdown_table(table).splitlines()
    assert [line.count("|") for line in lines] == [3, 3, 3, 3]
    assert "<" not in "".join(lines)
    assert lines[1] == "| --- | ---: |"


def test_markdown_keeps_words() -> None:
    assert escaped("conv2/batch_norm1") == "conv2/batch_norm1"
