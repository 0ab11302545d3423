"""OpenCV's importer of Caffe's files knows many layers of forks, and computes what ours do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.compiler import compile_spec, read

cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.parity

SHAPE = (1, 8, 12, 16)
DATA = 'input: "data" input_shape { dim: 1 dim: 8 dim: 12 dim: 16 }\n'
ROIS = 'input: "rois" input_shape { dim: 4 dim: 5 }\n'
HALF = """layer { name: "half" type: "Pooling" bottom: "data" top: "half"
  pooling_param { pool: MAX kernel_size: 4 stride: 4 } }
"""
GATE = """layer { name: "gate" type: "Pooling" bottom: "data" top: "gate"
  pooling_param { pool: AVE global_pooling: true } }
"""
REGIONS = np.array([[0, 0, 0, 31, 23], [0, 6, 4, 18, 18], [0, 11, 11, 11, 11], [0, 20, 16, 60, 60]])


def layer(type: str, block: str, *bottoms: str) -> str:
    """A layer of Caffe's; without bottoms it reads `data`."""
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms or ("data",))
    return f'layer {{ name: "top" type: "{type}" {read} top: "top" {block} }}'


def priors(fields: str) -> str:
    """`clip` and `variance` have defaults in SSD that OpenCV does not have."""
    return HALF + layer("PriorBox", f"prior_box_param {{ {fields} }}", "half", "data")


CASES = {
    "one size": priors("min_size: 4 clip: false variance: 0.1"),
    "two squares and ratios": priors(
        "min_size: 4 max_size: 9 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: 4 offset: 0.5"
    ),
    "clipped": priors("min_size: 6 aspect_ratio: 2 flip: false clip: true variance: 0.3"),
    "steps": priors("min_size: 4 step_h: 3 step_w: 5 offset: 0.25 clip: false variance: 0.1"),
    "interp to a size": layer("Interp", "interp_param { height: 30 width: 17 }"),
    "interp by a factor": layer("Interp", "interp_param { zoom_factor: 3 }"),
    "permute": layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    "reorg": layer("Reorg", "reorg_param { stride: 2 }"),
    "shuffle": layer("ShuffleChannel", "shuffle_channel_param { group: 4 }"),
    "axpy": GATE + layer("Axpy", "", "gate", "data", "data"),
    "relu6": layer("ReLU6", ""),
    "regions": ROIS + layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.5 }",
        "data", "rois",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_agrees(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(DATA + text)
    x = 3 * np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    fed: dict[str, Any] = {"data": x, "rois": REGIONS.astype(np.float32)}
    compiled = compile_spec(read(str(path)))
    session = ort.InferenceSession(compiled.model.SerializeToString())
    (ours,) = session.run(["top"], {port.name: fed[port.name] for port in session.get_inputs()})
    net = cv2.dnn.readNetFromCaffe(str(path))
    for name in ("data", "rois")[: 1 + ("rois" in text)]:
        net.setInput(fed[name], name)
    theirs = net.forward("top")
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
