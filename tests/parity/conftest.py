"""PyTorch twins of nets for the parity tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def twins() -> ModuleType:
    """`twins.py`; loaded late, since it needs PyTorch.

    One thread: on a busy machine several wait for each other more than they compute.
    """
    import torch

    torch.set_num_threads(1)
    return import_module("twins")


@pytest.fixture(scope="session")
def zoo(twins: ModuleType) -> ModuleType:
    """`twins_zoo.py`."""
    return import_module("twins_zoo")


@pytest.fixture(scope="session")
def twin_of(twins: ModuleType, zoo: ModuleType) -> Callable[..., Any]:
    """`twin_of(name, **options)` is a net of one of the modules of twins."""
    others = ("twins_imagenet", "twins_beyond")
    modules = (zoo, twins, *map(import_module, others))

    def make(name: str, **options: Any) -> Any:
        module = next(m for m in modules if hasattr(m, name))
        return getattr(module, name)(**options)

    return make
