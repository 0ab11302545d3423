"""The bundled specs, compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec.compiler import Compiled, Spec, compile_spec, read


@pytest.fixture(scope="session")
def compiled(small: Callable[[str], Spec]) -> Callable[[str], Compiled]:
    """`compiled(name)` is a small spec's model, made once."""
    made: dict[str, Compiled] = {}

    def make(name: str) -> Compiled:
        if name not in made:
            made[name] = compile_spec(small(name), seed=1)
        return made[name]

    return make


@pytest.fixture
def spec(tmp_path: Path) -> Callable[[str], Spec]:
    """`spec(text)` is a spec of that text."""

    def make(text: str) -> Spec:
        path = tmp_path / "test.net"
        path.write_text(text)
        return read(str(path))

    return make
