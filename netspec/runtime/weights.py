"""Weight files: safetensors, by parameter name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from netspec.diagnostics import DataError


def read_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a safetensors file; DataError if it is not one."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a safetensors file: {error}") from None
