"""`netspec predict`: images in, classes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from netspec.cli import main
from netspec.compiler import read
from netspec.data import open_dataset

Netspec = Callable[..., Any]
WANTED = (7, 2, 1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first test digits that are 7, 2 and 1, as image files."""
    folder = tmp_path_factory.mktemp("digits")
    arrays = open_dataset("mnist", split="test", base=folder).arrays
    found = [int(np.flatnonzero(arrays["label"] == digit)[0]) for digit in WANTED]
    paths = [folder / f"{digit}.png" for digit in WANTED]
    for path, i in zip(paths, found, strict=True):
        Image.fromarray(arrays["data"][i, 0]).save(path)
    return paths


def test_digits(netspec: Netspec, trained: Path, digits: list[Path]) -> None:
    result = netspec("predict", trained, *digits, "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert report["version"] == 1
    assert [p["image"] for p in report["predictions"]] == list(map(str, digits))
    for prediction, digit in zip(report["predictions"], WANTED, strict=True):
        classes = prediction["classes"]
        assert (classes[0]["index"], classes[0]["name"]) == (digit, str(digit))
        assert len(classes) == 3
        assert [c["probability"] for c in classes] == sorted(
            (c["probability"] for c in classes), reverse=True
        )
        assert prediction["note"] is None
    single = netspec("predict", trained / "model.onnx", digits[0], "--top", "10", "--json").json
    classes = single["predictions"][0]["classes"]
    assert sum(c["probability"] for c in classes) == pytest.approx(1, abs=1e-5)


def test_table(netspec: Netspec, trained: Path, digits: list[Path]) -> None:
    result = netspec("predict", trained, *digits, "--top", "2")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["image", "class", "probability"]
    assert [line[:2] for line in lines[1::2]] == [
        [str(path), str(digit)] for path, digit in zip(digits, WANTED, strict=True)
    ]
    assert all(line[-1].endswith("%") for line in lines[1:])


def test_an_image_of_another_size(netspec: Netspec, trained: Path, digits: list[Path]) -> None:
    large = digits[0].with_name("large.jpg")
    Image.open(digits[0]).resize((56, 84)).convert("RGB").save(large)
    result = netspec("predict", trained, large, "--top", "1")
    assert result.code == 0
    assert result.out.splitlines()[1].split()[1] == "7"
    assert result.err == f"{large}: resized from 84x56\n"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_no_image(content: bytes, netspec: Netspec, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    result = netspec("predict", trained, path)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"{path}")


def test_no_file(netspec: Netspec, trained: Path, tmp_path: Path) -> None:
    result = netspec("predict", trained, tmp_path / "x.png")
    assert result.code == 1
    assert str(tmp_path / "x.png") in result.err
    assert netspec("predict", trained).code == 2


def foreign(path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def scores(path: Path) -> None:
    assert main(["compile", "lenet", "--output", "ip2", "-o", str(path)]) == 0


def vector(path: Path) -> None:
    spec = path.with_suffix(".net")
    spec.write_text('input "data" { shape: 4 }\nfc { num_output: 2 }\nsoftmax')
    assert main(["compile", str(spec), "-o", str(path)]) == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (foreign, "not a model that netspec wrote"),
        (scores, "its output `ip2` does not hold probabilities"),
        (vector, "predicting from images takes a net with one image input"),
        (lambda path: path.write_bytes(b"no model"), "not a model that onnxruntime runs"),
        (lambda path: path.mkdir(), "has no model.onnx"),
        (lambda path: None, "there is no run folder or model"),
    ],
    ids=["foreign", "scores", "vector", "bytes", "folder", "nothing"],
)
def test_no_model(
    make: Callable[[Path], None], said: str, netspec: Netspec, digits: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "x.onnx"
    make(path)
    result = netspec("predict", path, digits[0])
    assert result.code in (1, 2)
    assert result.out == ""
    assert said in result.err


def test_the_transform_goes_along(netspec: Netspec, digits: list[Path], tmp_path: Path) -> None:
    """LeNet-5 pads, subtracts and scales."""
    words = ["--runs", tmp_path, "--set", "solver.max_iter=150"]
    assert netspec("train", "lenet5", *words).code == 0
    report = netspec("predict", tmp_path / "LeNet-5/1", *digits, "--json").json
    found = [p["classes"][0]["index"] for p in report["predictions"]]
    assert found == list(WANTED)
    assert read("lenet5").path.name == "lenet5.net"
