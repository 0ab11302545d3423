"""`compile --weights`: what a run wrote comes in as it is, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save_file

from netspec.cli import main
from netspec.compiler import elaborate, read
from netspec.ir.initial import initial_statistics, initial_weights

Arrays = dict[str, NDArray[Any]]


def arrays(name: str, seed: int) -> Arrays:
    net = elaborate(read(name)).test.net
    return {**initial_weights(net, seed), **initial_statistics(net)}


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    given = arrays(name, 7)
    save_file(given, tmp_path / "w.safetensors")
    out = tmp_path / "x.onnx"
    assert (
        main(["compile", name, "--weights", str(tmp_path / "w.safetensors"), "-o", str(out)]) == 0
    )
    inside = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    for tensor, array in given.items():
        np.testing.assert_array_equal(inside[tensor], array)
    assert main(["compile", name, "--seed", "7", "-o", str(tmp_path / "y.onnx")]) == 0
    assert out.read_bytes() == (tmp_path / "y.onnx").read_bytes()


def missing(w: Arrays) -> Arrays:
    return {name: array for name, array in w.items() if name != "ip1.weight"}


def renamed(w: Arrays) -> Arrays:
    return {name.replace("ip1.weight", "ip1.weigth"): array for name, array in w.items()}


def shape(w: Arrays) -> Arrays:
    return {**w, "conv1.weight": w["conv1.weight"].reshape(20, 25)}


def dtype(w: Arrays) -> Arrays:
    return {**w, "conv1.bias": w["conv1.bias"].astype(np.int64)}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "`ip1.weight` is missing"),
        (renamed, "`ip1.weight` is missing; did you mean `ip1.weigth`?"),
        (shape, "`conv1.weight` is 20x25, the net has 20x1x5x5"),
        (dtype, "`conv1.bias` holds int64, not float32"),
    ],
)
def test_weights_of_another_net(
    spoil: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(spoil(arrays("lenet", 1)), tmp_path / "w.safetensors")
    assert refused(tmp_path, capsys) == (
        f"{tmp_path / 'w.safetensors'}: the weights do not fit the net: {said}\n"
    )


def test_further_tensors_do_no_harm(tmp_path: Path) -> None:
    given = {**arrays("lenet", 1), "more": np.zeros(3, np.float32)}
    save_file(given, tmp_path / "w.safetensors")
    out = str(tmp_path / "x.onnx")
    assert main(["compile", "lenet", "--weights", str(tmp_path / "w.safetensors"), "-o", out]) == 0


def header(dtype: str) -> bytes:
    text = json.dumps({"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 2]}}).encode()
    return len(text).to_bytes(8, "little") + text + b"\0\0"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"not a weight file", b"\xff" * 100, header("F77"), None],
    ids=["empty", "byte", "text", "huge", "unknown", "truncated"],
)
def test_no_safetensors(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.safetensors"
    if content is None:
        save_file(arrays("lenet", 1), path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    assert str(path) in refused(tmp_path, capsys)


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    out = folder / "x.onnx"
    weights = str(folder / "w.safetensors")
    assert main(["compile", "lenet", "--weights", weights, "-o", str(out)]) == 1
    assert not out.exists()
    said = capsys.readouterr().err
    assert "internal error" not in said
    return said
