"""Lets the tests import what they share with `run_on_gpu.py`, and builds the stand-in libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, files
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PLACEMENT = HERE.parents[2] / "shared" / "gpu" / "placement"

sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def placement() -> Path:
    """The folder of `placement.py`."""
    return PLACEMENT


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in libraries, built for this session."""
    if not (PLACEMENT / "build.sh").is_file():
        pytest.skip(f"{PLACEMENT} is missing")
    try:
        distribution("onnxruntime-gpu")
    except PackageNotFoundError:
        pytest.skip("the wheel onnxruntime-gpu is not installed")
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing")
    headers = cuda_headers()
    if headers is None:
        pytest.skip("CUDA's headers are missing: `pip install nvidia-cuda-runtime` brings them")
    folder = tmp_path_factory.mktemp("stand-ins")
    subprocess.run(
        ["bash", PLACEMENT / "build.sh", folder],
        check=True,
        env={**os.environ, "CUDA_INCLUDE": str(headers)},
    )
    return folder


def cuda_headers() -> Path | None:
    """CUDA 13's headers: the toolkit's, or those of the package `nvidia-cuda-runtime`."""
    folders = sorted(Path("/usr/local").glob("cuda*/include"), reverse=True)
    try:
        packaged = files("nvidia-cuda-runtime") or []
    except PackageNotFoundError:
        packaged = []
    folders += [Path(str(f.locate())).parent for f in packaged if f.name == "cuda_runtime.h"]
    return next((f for f in folders if (f / "cuda_runtime_api.h").is_file()), None)
