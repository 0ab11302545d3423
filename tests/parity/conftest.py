"""PyTorch twins of nets for the parity tests."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def twins() -> ModuleType:
    """`twins.py`; loaded late, since it needs PyTorch.

    One thread: on a busy machine several wait for each other more than they compute.
    """
    import torch

    torch.set_num_threads(1)
    spec = spec_from_file_location("twins", Path(__file__).with_name("twins.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
