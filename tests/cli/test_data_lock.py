"""`netspec data lock`: one manifest for each source, found again by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Netspec

SPEC = """
data "train" { source: "photos"  batch_size: 1 }
data "test" { source: "%s"  batch_size: 1 }
input "data" { shape: 3x6x6 }
fc { num_output: 2 }
softmax_loss
solver { base_lr: 0.01  max_iter: 1 }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("photos/a/0.png", "photos/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(tmp_path / name)
    np.savez(tmp_path / "set.npz", data=np.zeros((2, 3, 6, 6), np.uint8), label=np.arange(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_path(netspec: Netspec, folder: Path) -> None:
    said = netspec("data", "lock", "photos")
    assert said.code == 0
    size = sum(file.stat().st_size for file in folder.glob("photos/*/*"))
    assert said.out == f"photos.lock: 2 files, {size} B\n"
    said = netspec("data", "lock", "photos", "--json").json
    digest = hashlib.sha256((folder / "photos.lock").read_bytes()).hexdigest()
    entry = {"manifest": "photos.lock", "files": 2, "bytes": size, "sha256": digest}
    assert said == {"version": 1, "manifests": [entry]}


def test_a_spec(netspec: Netspec, folder: Path) -> None:
    """One source of two phases has one manifest."""
    (folder / "net.net").write_text(SPEC % "photos")
    assert netspec("data", "lock", "net.net").out.count("\n") == 1
    assert netspec("data", "lock", "net.net", "-o", "elsewhere.txt").code == 0
    assert (folder / "elsewhere.txt").read_bytes() == (folder / "photos.lock").read_bytes()
    (folder / "net.net").write_text(SPEC % "set.npz")
    assert netspec("data", "lock", "net.net").out.count("\n") == 2
    assert (folder / "set.npz.lock").exists()
    said = netspec("data", "lock", "net.net", "-o", "x")
    assert said.code == 2
    assert "net.net names 2 sources: one manifest each, without -o" in said.err


def test_training_notices(netspec: Netspec, folder: Path) -> None:
    (folder / "net.net").write_text(SPEC % "photos")
    netspec("data", "lock", "net.net")
    assert netspec("train", "net.net", "--device", "cpu").code == 0
    Image.fromarray(np.ones((6, 6, 3), np.uint8)).save(folder / "photos/b/1.png")
    said = netspec("train", "net.net", "--device", "cpu")
    assert said.code == 1
    assert "photos/b/1.png: has" in said.err


def test_faults(netspec: Netspec, folder: Path) -> None:
    said = netspec("data", "lock", "nothing")
    assert (said.code, said.err) == (
        1,
        "nothing: no such file or folder: there is nothing to lock\n",
    )
    assert "comes with the package" in netspec("data", "lock", "mnist").err
    (folder / "net.net").write_text('input "data" { shape: 3 }  relu\n')
    assert "there is no `data { … }` that names a source" in netspec("data", "lock", "net.net").err
