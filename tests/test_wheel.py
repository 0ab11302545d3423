"""The wheel holds what an installed netspec needs, and stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from netspec import __version__, zoo

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[1]
MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_content(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_BYTES
    assert wheel.name == f"netspec-{__version__}-py3-none-any.whl"
    names = set(ZipFile(wheel).namelist())
    assert {f"netspec/specs/{file}" for file in zoo.files()} <= names
    assert {"netspec/py.typed", "netspec/grammar/netspec.lark"} <= names
    bundled = {p.relative_to(ROOT).as_posix() for p in (ROOT / "netspec/data/bundled").iterdir()}
    bundled |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "netspec/caffe/tables").iterdir()}
    assert bundled <= names
    assert f"netspec-{__version__}.dist-info/licenses/LICENSE" in names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "netspec").rglob("*.py")}
    assert modules <= names
    assert not [name for name in names if "tests" in name or "__pycache__" in name]


def test_works_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, as pip does it, without the checkout beside it."""
    site = tmp_path / "site"
    ZipFile(wheel).extractall(site)
    script = f"import sys; sys.path.insert(0, {str(site)!r}); from netspec.cli import main; "
    script += "import netspec; assert netspec.__file__.startswith(sys.path[0]), netspec.__file__; "
    for words in (["check", "vgg16"], ["compile", "lenet"],
                  ["train", "lenet", "--set", "solver.max_iter=20"]):  # fmt: skip
        code = f"{script}sys.exit(main({words!r}))"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "lenet.onnx").stat().st_size > 1_700_000
    assert (tmp_path / "runs/LeNet/1/model.onnx").exists()
