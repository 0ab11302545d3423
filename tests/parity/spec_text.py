"""The text of specs, for tests that change it."""

from __future__ import annotations

import re
from pathlib import Path

SPECS = Path(__file__).parents[2] / "specs"


def whole(path: Path) -> str:
    """A spec with the blocks that it includes from the bundled ones."""
    return re.sub(
        r'^include "netspec:(.*)"\n',
        lambda include: whole(SPECS / include[1]),
        path.read_text("utf-8"),
        flags=re.MULTILINE,
    )


def without_relu(text: str) -> str:
    """A spec without its ReLUs."""
    text, count = re.subn(r"^ *relu\n", "", text, flags=re.MULTILINE)
    assert count
    return text
