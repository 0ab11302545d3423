"""`netspec predict` with several models and several views, against numpy and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

Netspec = Callable[..., Any]

NET = """
data "train" {{ source: "samples.npz"  batch_size: 4  transform {{ {transform} }} }}
data "test" {{ source: "samples.npz"  batch_size: 4  transform {{ {transform} {test} }} }}
input "data" {{ shape: 3x{side}x{side} }}
fc {{ num_output: {classes} }}
softmax_loss
"""
SCALED = "mean_value: 100  scale: 1/64"


def compiled(
    netspec: Netspec,
    folder: Path,
    name: str = "a",
    *words: object,
    transform: str = f"{SCALED}  crop_size: 8",
    test: str = "",
    side: int = 8,
    classes: int = 3,
) -> Path:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (4, 3, 10, 10), np.uint8)
    np.savez(folder / "samples.npz", data=data, label=rng.integers(0, 3, 4))
    spec = folder / f"{name}.net"
    spec.write_text(NET.format(transform=transform, test=test, side=side, classes=classes))
    out = folder / f"{name}.onnx"
    assert netspec("compile", spec, "-o", out, *words).code == 0
    return out


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    return path


def at(image: Path, height: int, width: int) -> NDArray[Any]:
    resized = Image.open(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32).transpose(2, 0, 1)


def mean_of(model: Path, windows: list[NDArray[Any]]) -> Any:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.mean([session.run(None, {"data": w[np.newaxis]})[0][0] for w in windows], axis=0)


def cut(x: NDArray[Any], *corners: tuple[int, int], crop: int = 8) -> list[NDArray[Any]]:
    windows = [x[:, i : i + crop, j : j + crop] for i, j in corners]
    return [(np.ascontiguousarray(w) - 100) / 64 for w in windows]


def flips(windows: list[NDArray[Any]]) -> list[NDArray[Any]]:
    return [*windows, *(np.ascontiguousarray(w[..., ::-1]) for w in windows)]


def said(netspec: Netspec, *words: object) -> Any:
    result = netspec("predict", *words, "--json", "--top", 9)
    assert result.code == 0, result.err
    (prediction,) = result.json["predictions"]
    return [c["probability"] for c in sorted(prediction["classes"], key=lambda c: c["index"])]


def corners(height: int, width: int) -> list[tuple[int, int]]:
    h, w = height - 8, width - 8
    return [(0, 0), (0, w), (h, 0), (h, w), (h // 2, w // 2)]


def test_ten_crops(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    """The 20 x 30 image at 12 x 18."""
    model = compiled(netspec, tmp_path)
    wanted = mean_of(model, flips(cut(at(image, 12, 18), *corners(12, 18))))
    found = said(netspec, model, image, "--views", "10-crop", "--scales", "12")
    assert found == pytest.approx(wanted, abs=1e-6)


def test_corners_have_room_unasked(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    """8 · 8/7 is 9."""
    model = compiled(netspec, tmp_path)
    wanted = mean_of(model, cut(at(image, 9, 13), *corners(9, 13)))
    assert said(netspec, model, image, "--views", "5-crop") == pytest.approx(wanted, abs=1e-6)


def test_scales_of_the_centre(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    model = compiled(netspec, tmp_path)
    windows = cut(at(image, 8, 12), (0, 2)) + cut(at(image, 10, 15), (1, 3))
    found = said(netspec, model, image, "--scales", "8,10")
    assert found == pytest.approx(mean_of(model, windows), abs=1e-6)


def test_the_model_says_its_views(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    """A flip of the image as it is always seen, resized to what the net takes."""
    model = compiled(netspec, tmp_path, test="views: FLIP")
    wanted = mean_of(model, flips(cut(at(image, 8, 8), (0, 0))))
    assert said(netspec, model, image) == pytest.approx(wanted, abs=1e-6)
    centre = said(netspec, model, image, "--views", "centre")
    assert centre == pytest.approx(mean_of(model, cut(at(image, 8, 8), (0, 0))), abs=1e-6)


def test_padding_comes_behind_the_resizing(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    model = compiled(netspec, tmp_path, transform=f"{SCALED}  pad: 1", side=12)
    padded = np.pad(at(image, 11, 16), ((0, 0), (1, 1), (1, 1)))
    windows = cut(padded, (0, 0), (0, 6), (1, 0), (1, 6), (0, 3), crop=12)
    found = said(netspec, model, image, "--views", "5-crop", "--scales", "11")
    assert found == pytest.approx(mean_of(model, windows), abs=1e-6)


def test_a_model_that_takes_bytes(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    model = compiled(netspec, tmp_path, "a", "--embed-preprocessing")
    pixels = np.asarray(Image.open(image).resize((10, 10), Image.Resampling.BILINEAR))
    x = pixels.transpose(2, 0, 1)
    wanted = mean_of(model, flips([np.ascontiguousarray(x)]))
    assert said(netspec, model, image, "--views", "flip") == pytest.approx(wanted, abs=1e-6)


def test_a_fixed_batch(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    free = compiled(netspec, tmp_path)
    fixed = compiled(netspec, tmp_path, "b", "--batch", 3)
    words = [image, "--views", "10-crop"]
    assert said(netspec, fixed, *words) == pytest.approx(said(netspec, free, *words), abs=1e-6)


def test_an_ensemble(netspec: Netspec, image: Path, tmp_path: Path) -> None:
    models = [compiled(netspec, tmp_path, n, "--seed", i) for i, n in enumerate("abc")]
    words = [models[0], image, "--ensemble", models[1], "--ensemble", models[2]]
    each = [said(netspec, model, image) for model in models]
    assert said(netspec, *words) == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    (report,) = netspec("predict", *words, "--json").json["predictions"]
    assert [m["model"] for m in report["models"]] == list(map(str, models))
    for entry, alone in zip(report["models"], each, strict=True):
        for found in entry["classes"]:
            assert found["probability"] == pytest.approx(alone[found["index"]], abs=1e-6)
    head, *rows = netspec("predict", *words).out.splitlines()
    assert head.split() == ["image", "class", "probability", *map(str, models)]
    assert len(rows) == 3


def test_an_ensemble_of_one_model_is_the_model(
    netspec: Netspec, image: Path, tmp_path: Path
) -> None:
    model = compiled(netspec, tmp_path)
    assert said(netspec, model, image, "--ensemble", model) == said(netspec, model, image)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"side": 6, "transform": "crop_size: 6"}, "they take images of 3x8x8 and of 3x6x6"),
        ({"classes": 5}, "they tell 3 and 5 classes apart"),
    ],
)
def test_no_ensemble(
    other: dict[str, Any], why: str, netspec: Netspec, image: Path, tmp_path: Path
) -> None:
    one, two = compiled(netspec, tmp_path), compiled(netspec, tmp_path, "b", **other)
    result = netspec("predict", one, image, "--ensemble", two)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"no ensemble of `{one}` and `{two}`: {why}\n"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--scales", "7"], 2, "images at scale 7 are 7x10, the net takes 8x8"),
        (["--scales", "10000"], 1, "at 10000x15000 over 25,000,000 pixels"),
        (["--scales", "1e3"], 2, "--scales takes whole numbers"),
        (["--ensemble", "none.onnx"], 2, "there is no run folder or model `none.onnx`"),
    ],
)
def test_bad_options(
    words: list[str], code: int, why: str, netspec: Netspec, image: Path, tmp_path: Path
) -> None:
    result = netspec("predict", compiled(netspec, tmp_path), image, *words)
    assert (result.code, result.out) == (code, "")
    assert why in result.err
