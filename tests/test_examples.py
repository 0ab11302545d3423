"""The examples: their specs check and are formatted, and what they print holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import Source
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SPECS = sorted(EXAMPLES.rglob("*.net"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_formatted(path: Path) -> None:
    text = path.read_text("utf-8")
    assert to_text(parse(Source(str(path), text))) == text


@pytest.mark.parametrize("name", ["first", "target"])
def test_specs_check(name: str) -> None:
    net = elaborate(read(str(EXAMPLES / "transfer" / f"{name}.net"))).train.net
    assert [p.name for p in net.parameters][:2] == ["trunk/conv1.weight", "trunk/conv1.bias"]


@pytest.mark.slow
def test_what_is_learned_of_one_task_serves_another() -> None:
    """A hundred images of each of five digits, with the convolutions of five others."""
    words = [sys.executable, str(EXAMPLES / "transfer" / "transfer.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
    print(said.stdout)
    shares = re.search(r"little, similar +100 +([0-9.]+)% +([0-9.]+)%", said.stdout)
    assert shares is not None, said.stdout
    assert float(shares[1]) > float(shares[2]) + 1
