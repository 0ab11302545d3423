"""The layers of detectors against what their papers and sources say."""

from __future__ import annotations

import re
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession

from netspec.codegen.formulate import formulate
from netspec.codegen.target import CUDA
from netspec.compiler import compile_spec, read
from netspec.diagnostics import UsageError
from netspec.ir.layer import Layer, ShapeError
from netspec.ir.types import Shape, TensorType
from netspec.layers.detection_output import DetectionOutput
from netspec.layers.prior_box import PriorBox
from netspec.layers.psroi_pool import PSROIPooling
from netspec.layers.roi_pool import ROIPooling

G = np.random.default_rng(0)
ROI = ROIPooling(pooled_h=2, pooled_w=2)
MAP, IMAGE = np.zeros((2, 8, 3, 2), np.float32), np.zeros((2, 3, 30, 20), np.float32)
ROIS = np.array(
    [[0, 0, 0, 79, 63], [1, 16, 8, 40, 40], [1, 7, 7, 8, 8], [0, 60, 50, 200, 200],
     [1, -40, -40, 10, 10], [0, 50, 50, 20, 20], [0, 300, 300, 320, 320], [1, 24, 0, 24, 63]],
    np.float32,
)  # fmt: skip


def pooled(x: np.ndarray, roi: np.ndarray, grid: Shape, scale: float) -> np.ndarray:
    """One region, cell by cell, as Fast R-CNN describes it; halves are rounded away from 0."""
    image, corners = int(roi[0]), np.sign(roi[1:]) * np.floor(np.abs(roi[1:]) * scale + 0.5)
    x1, y1, x2, y2 = map(int, corners)
    y = np.zeros((x.shape[1], *grid), np.float32)
    for i in range(grid[0]):
        for j in range(grid[1]):
            h, w = max(y2 - y1 + 1, 1) / grid[0], max(x2 - x1 + 1, 1) / grid[1]
            rows = slice(*np.clip([y1 + int(i * h), y1 - int(-(i + 1) * h // 1)], 0, x.shape[2]))
            columns = slice(*np.clip([x1 + int(j * w), x1 - int(-(j + 1) * w // 1)], 0, x.shape[3]))
            bin_ = x[image, :, rows, columns]
            y[:, i, j] = bin_.max((1, 2)) if bin_.size else 0
    return y


@pytest.mark.parametrize("grid", [(3, 3), (7, 7), (6, 2), (1, 1)], ids=str)
def test_roi_pooling(grid: Shape, forward: Any) -> None:
    x = G.normal(size=(2, 4, 8, 10)).astype(np.float32) - 3  # so that 0 is no maximum
    layer = ROIPooling(pooled_h=grid[0], pooled_w=grid[1], spatial_scale=0.125)
    expected = [pooled(x, roi, grid, 0.125) for roi in ROIS]
    for rois in (ROIS, ROIS[:, :, None, None]):
        np.testing.assert_array_equal(forward(layer, x, rois)[0], expected)


def test_roi_pooling_runs_in_test_only(forward: Any) -> None:
    with pytest.raises(ShapeError, match="has no gradient, and runs in phase TEST only"):
        forward(ROI, np.zeros((1, 2, 4, 4), np.float32), ROIS[:1], training=True)


def test_cuda_has_no_roi_pooling(bench: Any) -> None:
    made = bench(ROI, [TensorType((1, 2, 4, 4)), TensorType((5, 5))], training=False)
    with pytest.raises(UsageError, match="cuda has no kernel for MaxRoiPool"):
        formulate(made.op.graph(made.tops, name="roi"), CUDA)


SSD = """
input "data" { shape: 3x32x32 }
conv "near" { num_output: 8  kernel_size: 4  stride: 4 }
conv "far" { num_output: 8  kernel_size: 2  stride: 2 }
l2_normalize "norm" { bottom: "near"  scale: true  scale_filler { value: 20 } }
prior_box "near_priors" { bottom: "norm"  bottom: "data"  min_size: 8  max_size: 16  clip: true }
prior_box "far_priors" { bottom: "far"  bottom: "data"  min_size: 16 }
concat "priors" { bottom: "near_priors"  bottom: "far_priors"  axis: 2 }
conv "near_boxes" { bottom: "norm"  num_output: 8  kernel_size: 3  pad: 1 }
permute { order: [0, 2, 3, 1] }
flatten "near_flat"
conv "far_boxes" { bottom: "far"  num_output: 4  kernel_size: 3  pad: 1 }
permute { order: [0, 2, 3, 1] }
flatten "far_flat"
concat "boxes" { bottom: "near_flat"  bottom: "far_flat" }
"""


def test_a_detector_runs_at_any_batch_up_to_its_boxes(tmp_path: Path) -> None:
    path = tmp_path / "ssd.net"
    path.write_text(SSD)
    compiled = compile_spec(read(str(path)), outputs=["boxes", "priors"], seed=1)
    session = InferenceSession(compiled.model.SerializeToString())
    for batch in (1, 4):
        image = G.normal(size=(batch, 3, 32, 32)).astype(np.float32)
        boxes, priors = session.run(["boxes", "priors"], {"data": image})
        assert boxes.shape == (batch, 4 * (64 * 2 + 16))
        assert priors.shape == (1, 2, boxes.shape[1])


def priors(forward: Any, **fields: Any) -> np.ndarray:
    """The corners of the boxes as rows x columns x boxes x 4, and their variances."""
    (y,) = forward(PriorBox(**fields), MAP, IMAGE)
    assert y.shape[:2] == (1, 2)
    found: np.ndarray = y.reshape(2, 3, 2, -1, 4)
    return found


def box(x: float, y: float, breadth: float, height: float) -> list[float]:
    """A box as SSD puts it out: corners in parts of the 20 x 30 image."""
    return [(x - breadth / 2) / 20, (y - height / 2) / 30, (x + breadth / 2) / 20,
            (y + height / 2) / 30]  # fmt: skip


def test_priors_stand_in_ssds_order(forward: Any) -> None:
    corners, variances = priors(forward, min_size=6, max_size=12, aspect_ratio=[2, 3])
    large = sqrt(72)
    wanted = [(6, 6), (large, large)] + [(6 * sqrt(r), 6 / sqrt(r)) for r in (2, 1 / 2, 3, 1 / 3)]
    for row in range(3):
        for column in range(2):
            x, y = 10 * column + 5, 10 * row + 5
            expected = [box(x, y, *shape) for shape in wanted]
            np.testing.assert_allclose(corners[row, column], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(variances, np.float32(0.1))


def test_priors_of_several_sizes(forward: Any) -> None:
    corners, variances = priors(
        forward, min_size=[4, 8.9], aspect_ratio=[1, 2, 2], flip=False,
        variance=[0.1, 0.1, 0.2, 0.2], step=4, offset=0.25,
    )  # fmt: skip
    r = sqrt(2)
    wanted = [(4, 4), (4 * r, 4 / r), (8, 8), (8 * r, 8 / r)]
    np.testing.assert_allclose(
        corners[2, 1], [box(5, 9, *shape) for shape in wanted], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(variances[2, 1], [[0.1, 0.1, 0.2, 0.2]] * 4)


def test_priors_of_an_image_that_is_given(forward: Any) -> None:
    corners, _ = priors(forward, min_size=10, img_h=60, img_w=40, step_h=20, step_w=10)
    np.testing.assert_allclose(corners[1, 1, 0], [10 / 40, 25 / 60, 20 / 40, 35 / 60], rtol=1e-6)
    clipped, _ = priors(forward, min_size=30, img_size=40, clip=True)
    assert (clipped.min(), clipped.max()) == (0, 1)
    plain, _ = priors(forward, min_size=30, img_size=40)
    np.testing.assert_allclose(clipped, plain.clip(0, 1))


# conv4_3 of SSD300: 38 x 38 cells of 4 boxes (Liu et al. 2016, section 3.1).
def test_the_priors_of_ssd300_are_counted() -> None:
    cells = {38: 4, 19: 6, 10: 6, 5: 6, 3: 4, 1: 4}
    image = TensorType((1, 3, 300, 300))
    total = 0
    for side, boxes in cells.items():
        ratios = [2, 3] if boxes == 6 else [2]
        layer = PriorBox(min_size=30, max_size=60, aspect_ratio=ratios)
        (top,) = layer.infer([TensorType((1, 256, side, side)), image])
        assert top.shape == (1, 2, 4 * side * side * boxes)
        total += top.shape[2] // 4
    assert total == 8732
    detect = DetectionOutput(num_classes=21, keep_top_k=200)
    bottoms = [TensorType((2, 4 * 8732)), TensorType((2, 21 * 8732)), TensorType((1, 2, 4 * 8732))]
    assert detect.infer(bottoms) == (TensorType((1, 1, 400, 7)),)


def test_position_sensitive_pooling_is_counted() -> None:
    layer = PSROIPooling(output_dim=21, group_size=7)
    bottoms = [TensorType((1, 1029, 38, 63)), TensorType((300, 5))]
    assert layer.infer(bottoms) == (TensorType((300, 21, 7, 7)),)


PRIOR = {"min_size": 4}


@pytest.mark.parametrize(
    ("layer", "shapes", "field", "message"),
    [
        (ROI, [(1, 4, 8, 8), (7, 4)], None, "regions are [image, x1, y1, x2, y2], five numbers"),
        (ROI, [(1, 4), (7, 5)], None, "takes channels x height x width, not 4"),
        (PSROIPooling(output_dim=2, group_size=3), [(1, 19, 8, 8), (7, 5)], "output_dim",
         "output_dim 2 in 3x3 bins takes 18 channels, not 19"),
        (PriorBox(**PRIOR, img_h=3), [(1, 4, 8, 8)] * 2, "img_h", "img_h and img_w go together"),
        (PriorBox(**PRIOR, step=3, step_w=2), [(1, 4, 8, 8)] * 2, "step_w", "step excludes step_w"),
        (PriorBox(**PRIOR, variance=[1, 2]), [(1, 4, 8, 8)] * 2, "variance",
         "takes 1 variance or 4, not 2"),
        (PriorBox(**PRIOR, max_size=[5, 6]), [(1, 4, 8, 8)] * 2, "max_size",
         "1 min_size, but 2 max_size"),
        (PriorBox(**PRIOR, max_size=4), [(1, 4, 8, 8)] * 2, "max_size",
         "max_size 4 must be above min_size 4"),
        (PriorBox(min_size=0.5), [(1, 4, 8, 8)] * 2, "min_size", "must be at least 1"),
        (PriorBox(**PRIOR), [(1, 4), (1, 4)], None, "takes channels x height x width, not 4"),
        (DetectionOutput(num_classes=3), [(1, 16), (1, 12), (1, 2, 15)], None,
         "priors are 1 x 2 x 4 for each of them, not 1x2x15"),
        (DetectionOutput(num_classes=3), [(1, 12), (1, 12), (1, 2, 16)], None,
         "4 priors take 16 offsets, 4 each, not 12"),
        (DetectionOutput(num_classes=3, share_location=False), [(1, 16), (1, 12), (1, 2, 16)],
         None, "4 priors take 48 offsets, 12 each, not 16"),
        (DetectionOutput(num_classes=3), [(1, 16), (1, 8), (1, 2, 16)], None,
         "4 priors take 12 confidences, 3 each, not 8"),
        (DetectionOutput(num_classes=3), [(1, 16), (2, 12), (1, 2, 16)], None, "1 images, and 2"),
    ],
)  # fmt: skip
def test_refused(layer: Layer, shapes: list[Shape], field: str | None, message: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(message)) as caught:
        layer.infer([TensorType(shape) for shape in shapes])
    assert caught.value.field == field
