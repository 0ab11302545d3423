"""Pad, crop, mirror, mean image and arithmetic against numpy, by hand, in both phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.transform import Transforming
from netspec.diagnostics import UsageError
from netspec.ir.transform import MEAN as NAME
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, TensorType

Array = npt.NDArray[Any]

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3, 7, 9)).astype(np.uint8)
MEAN = (RNG.random((3, 7, 9)) * 200).astype(np.float32)
CORNERS = RNG.random((6, 2)).astype(np.float32)
FLIPS = np.array([[0.0], [0.5], [0.49], [0.51], [0.999], [0.2]], np.float32)


def transformed(
    transform: Transform, pixels: Array, *, training: bool, drawn: bool = True
) -> tuple[Array, list[str]]:
    """What the graph makes of the pixels, and its operators."""
    op = Builder()
    x = op.input("x", TensorType(pixels.shape, str(pixels.dtype)))
    read = {NAME: op.input("mean", TensorType(MEAN.shape))} if transform.mean_file else {}
    y = Transforming(op, transform, training, read, drawn)("data", x)
    graph = op.graph([y], name="g")
    names = {**{v: v.name for v in graph.inputs}, y: "y"}
    session = ort.InferenceSession(
        emit(graph, names=names, check=True).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    known = {"x": pixels, "mean": MEAN, "random:transform#crop": CORNERS,
             "random:transform#mirror": FLIPS}  # fmt: skip
    fed = {port.name: known[port.name] for port in session.get_inputs()}
    return session.run(None, fed)[0], [o.op_type for o in graph.ops]


def by_hand(transform: Transform, pixels: Array, *, training: bool) -> Array:
    """Caffe's `data_transformer.cpp`, one image and one pixel after the other."""
    n, c, height, width = pixels.shape
    crop = transform.crop_size
    h, w = (crop, crop) if crop else (height, width)
    made = np.empty((n, c, h, w), np.float64)
    values = transform.mean_value or (0.0,)
    for i in range(n):
        top, left = (height - h) // 2, (width - w) // 2
        if training and crop:
            top = int(CORNERS[i, 0] * (height - h + 1))
            left = int(CORNERS[i, 1] * (width - w + 1))
        mirrored = transform.mirror and FLIPS[i, 0] < 0.5
        for channel, row, column in np.ndindex(c, h, w):
            place = channel, top + row, left + column
            mean = MEAN[place] if transform.mean_file else values[channel % len(values)]
            to = w - 1 - column if mirrored else column
            made[i, channel, row, to] = (pixels[(i, *place)] - mean) * transform.scale
    return made


@pytest.mark.parametrize("training", [True, False], ids=["TRAIN", "TEST"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("mean", [{}, {"mean_file": "m.npy"}, {"mean_value": (1.5, 2, 3)}], ids=str)
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("crop", [0, 1, 4, 7])
def test_crop_then_mirror_then_mean_and_scale(
    training: bool, kind: str, mean: dict[str, Any], mirror: bool, crop: int
) -> None:
    transform = Transform(crop_size=crop, mirror=mirror, scale=0.5, **mean)
    made, _ = transformed(transform, PIXELS.astype(kind), training=training)
    np.testing.assert_allclose(made, by_hand(transform, PIXELS, training=training), atol=1e-4)


@pytest.mark.parametrize("pixels", [PIXELS[:, :, :, :7], PIXELS], ids=["square", "wide"])
def test_a_crop_of_the_whole_is_none(pixels: Array) -> None:
    _, ops = transformed(Transform(crop_size=7), pixels, training=True)
    assert ops == ["Cast"] if pixels.shape[3] == 7 else "Gather" in ops


def test_padding_comes_before_the_crop() -> None:
    """Random crops of padded images: what CIFAR's nets are trained with."""
    padded = np.pad(PIXELS, ((0, 0), (0, 0), (2, 2), (2, 2)))
    transform = Transform(pad=2, crop_size=7, mean_value=(10,))
    for training in (True, False):
        made, _ = transformed(transform, PIXELS, training=training)
        np.testing.assert_array_equal(made, by_hand(transform, padded, training=training))


def test_a_compiled_model_takes_the_middle_and_flips_nothing() -> None:
    transform = Transform(crop_size=4, mirror=True, mean_file="m.npy")
    made, ops = transformed(transform, PIXELS, training=False, drawn=False)
    np.testing.assert_array_equal(made, (PIXELS - MEAN)[:, :, 1:5, 2:6])
    assert ops == ["Slice", "Slice", "Cast", "Sub"]


@pytest.mark.parametrize("field", [{"crop_size": 2}, {"mirror": True}, {"mean_file": "m.npy"}])
@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 5)])
def test_only_images_are_cut_and_flipped(field: dict[str, Any], shape: Shape) -> None:
    with pytest.raises(UsageError, match="are for images, and `data` is not"):
        transformed(Transform(**field), np.zeros(shape, np.float32), training=True)


def test_all_images_of_a_net_are_cut_alike() -> None:
    op = Builder()
    transforming = Transforming(op, Transform(crop_size=3, mirror=True), True)
    for name in ("data", "beside"):
        transforming(name, op.input(name, TensorType(PIXELS.shape, "uint8")))
    assert sorted(transforming.lots.randoms) == ["transform#crop", "transform#mirror"]
    assert [v.name for v in op.inputs].count("random:transform#crop") == 1
