"""What a run's numbers hang on beside its spec and its data."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def environment() -> dict[str, str]:
    """The versions that a run's numbers hang on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("netspec", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
