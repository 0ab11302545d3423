"""Fixtures for every test: golden text."""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import pytest

_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the texts that `golden` compares with."""
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` fails unless `tests/golden/<name>` holds the text."""

    def compare(name: str, text: str) -> None:
        path = _GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing: pytest --update-golden writes it"
        kept = path.read_text("utf-8")
        lines = unified_diff(kept.splitlines(), text.splitlines(), str(path), "now", lineterm="")
        assert text == kept, "\n".join(lines) + "\npytest --update-golden takes the new text"

    return compare
