"""A spec as text → the nets it builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec.compiler import Elaborated, elaborate, read
from netspec.diagnostics import Diagnostics

Nets = Callable[..., Elaborated]


@pytest.fixture
def nets(tmp_path: Path) -> Nets:
    """`nets(text, …)` writes a spec, with other files beside it, and builds it for both phases."""

    def build(
        text: str,
        *sets: str,
        batch: int | None = None,
        diagnostics: Diagnostics | None = None,
        **files: str,
    ) -> Elaborated:
        for name, other in files.items():
            (tmp_path / f"{name}.net").write_text(other, encoding="utf-8")
        spec = tmp_path / "spec.net"
        spec.write_text(text, encoding="utf-8")
        return elaborate(read(str(spec), sets=sets), batch=batch, diagnostics=diagnostics)

    return build
