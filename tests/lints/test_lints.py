"""Lints of `*.net` are told where their marks stand, `# W: code: part of the message`, only there.

The bundled specs are free of lints: `tests/cli/test_check.py` sees that nothing is told of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import Diagnostics
from netspec.ir.lints import CODES

_HERE = Path(__file__).parent
_MARK = re.compile(r"# W: ([\w-]+): (.*?)\s*(?=# W:|$)")


def marks(path: Path) -> Iterator[tuple[int, str, str]]:
    """The (line, code, part of the message) that a spec expects."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        for code, part in _MARK.findall(line):
            yield number, code, part


@pytest.mark.parametrize("path", sorted(_HERE.glob("*.net")), ids=lambda path: path.stem)
def test_lints(path: Path) -> None:
    diagnostics = Diagnostics()
    elaborate(read(str(path)), diagnostics=diagnostics)
    found = sorted((w.span.line, w.code, w.message) for w in diagnostics.warnings)
    expected = sorted(marks(path))
    text = "\n".join(w.render("warning") for w in diagnostics.warnings)
    assert [mark[:2] for mark in expected] == [lint[:2] for lint in found], text
    for (_, _, part), (_, _, message) in zip(expected, found, strict=True):
        assert part in message, text


def test_every_code_is_shown() -> None:
    shown = {code for path in _HERE.glob("*.net") for _, code, _ in marks(path)}
    assert shown == set(CODES)
