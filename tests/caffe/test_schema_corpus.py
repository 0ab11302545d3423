"""Real files: accepted and refused as BVLC's own parser did, and read by the lenient one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from netspec.caffe.recognise import recognise
from netspec.caffe.validate import validate_caffe
from netspec.diagnostics import Diagnostics, Source
from netspec.grammar import ast
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not there")

MESSAGES = {"net": "NetParameter", "solver": "SolverParameter"}


class Row(NamedTuple):
    """One file of the corpus and what BVLC's parser said of it."""

    path: str
    kind: str
    verdict: str
    tree: ast.Message


@cache
def rows() -> list[Row]:
    return list(_rows())


def _rows() -> Iterator[Row]:
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            path = row["file_under_corpus"]
            text = (CORPUS / "nets" / path).read_bytes().decode("utf-8-sig")
            tree = parse(Source(path, text))
            yield Row(path, row["kind"], row["parse_with_BVLC_proto"].strip(), tree)


def check(
    row: Row, *, lenient: bool = False, bvlc_only: bool = False
) -> tuple[ast.Message | None, Diagnostics]:
    found = Diagnostics()
    valid = validate_caffe(
        row.tree, MESSAGES[row.kind], lenient=lenient, diagnostics=found, bvlc_only=bvlc_only
    )
    return valid, found


def test_every_file_is_recognised() -> None:
    assert len(rows()) == 207
    assert not [row.path for row in rows() if recognise(row.tree) != row.kind]


def test_strict_acceptance_is_bvlcs() -> None:
    wrong = [
        (row.path, row.verdict)
        for row in rows()
        if (check(row, bvlc_only=True)[0] is not None) != (row.verdict == "ok")
    ]
    assert not wrong
    assert sum(row.verdict == "ok" for row in rows()) == 171


def test_the_first_fault_is_bvlcs() -> None:
    """The index gives the first fault as `line:column : … named "x"` (or the enum's at a value)."""
    for row in rows():
        start = row.verdict.removeprefix("ok-if-unknown-fields-ignored: ")
        if start == row.verdict:
            continue
        line, _, name = start.partition(":")[0], *start.rpartition("named ")[1:]
        _, found = check(row, bvlc_only=True)
        first = min(found.errors, key=lambda error: error.span.start)
        assert first.span.line == int(line), row.path
        assert f"`{name.strip(chr(34) + '.')}`" in first.message, row.path


@pytest.mark.parametrize("bvlc_only", [False, True])
def test_the_lenient_reader_reads_every_file(bvlc_only: bool) -> None:
    for row in rows():
        valid, found = check(row, lenient=True, bvlc_only=bvlc_only)
        assert valid is not None, found.errors[0]
        assert not found.errors
        if row.verdict == "ok" and not bvlc_only:
            assert not found.warnings, found.warnings[0]


def test_what_is_refused_though_forks_are_known() -> None:
    """Prints the table of files that only a lenient reader takes, and why."""
    refused = {}
    for row in rows():
        valid, found = check(row)
        assert valid is None or row.verdict != "ok" or not found.errors
        if valid is None:
            refused[row.path] = found.errors[0].message
    width = max(map(len, refused))
    print("\n".join(f"{path:<{width}}  {why}" for path, why in sorted(refused.items())))
    assert sorted(why.partition(";")[0] for why in refused.values()) == [
        "a Caffe solver has no field `larc`",
        "a Caffe solver has no field `min_lr`",
        "a Caffe solver has no field `min_lr`",
        "a Caffe solver has no field `stagelr`",
        "a Caffe solver has no field `stepearly`",
        "layer has no field `force_backward`",
        "transform_param has no field `flow`",
        "transform_param has no field `flow`",
    ]


def test_the_canonical_form_is_canonical() -> None:
    """It is given back as it is, and means the same once it is printed and read again."""
    for row in rows():
        valid, _ = check(row, lenient=True)
        assert valid is not None
        again = row._replace(tree=parse(Source(row.path, to_text(valid))))
        assert again.tree == valid
        found = Diagnostics()
        message = MESSAGES[row.kind]
        assert validate_caffe(valid, message, lenient=True, diagnostics=found) is valid
        reread, _ = check(again, lenient=True)
        assert reread == valid
