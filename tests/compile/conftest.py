"""The bundled specs, the big ones with small pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec import zoo
from netspec.compiler import Compiled, Spec, compile_spec, read

SMALL: dict[str, dict[str, str]] = {
    "alexnet": {"3x227x227": "3x67x67", "4096": "128"},
    "densenet121": {"3x224x224": "3x64x64", "growth = 32": "growth = 8"},
    "googlenet": {"3x224x224": "3x112x112"},
    "resnet18": {"3x224x224": "3x64x64", "width = 64": "width = 8"},
    "resnet50": {"3x224x224": "3x64x64", "width = 64": "width = 8"},
    "squeezenet1_1": {"size = 227": "size = 67"},
    "vgg16": {"3x224x224": "3x32x32", "4096": "128"},
}
"""What keeps a test of a big net short: its text, and what stands there instead."""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Spec]:
    """`small(name)` is a bundled spec of a size that runs in a second."""

    def make(name: str) -> Spec:
        found = zoo.find(name)
        assert found is not None
        text = found.read_text()
        for was, becomes in SMALL.get(name, {}).items():
            assert was in text
            text = text.replace(was, becomes)
        path = tmp_path_factory.mktemp(name) / f"{name}.net"
        path.write_text(text)
        return read(str(path))

    return make


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
