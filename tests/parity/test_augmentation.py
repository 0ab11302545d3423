"""One resampling against PyTorch's affine_grid and grid_sample, colours against its arithmetic."""

from __future__ import annotations

import sys
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen"))

from augmented import augmented

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

RNG = np.random.default_rng(0)
MODES = {"CONSTANT": "zeros", "EDGE": "border", "REFLECT": "reflection"}


def theta(row: dict[str, float], height: int, width: int) -> Any:
    """PyTorch's 2x3 matrix of an image: from what is seen to what is there, both from -1 to 1."""
    r, s = -radians(row["rotation"]), -radians(row["shear"])
    x, y = row["zoom"] * row["stretch"], row["zoom"] / row["stretch"]
    forward = np.array(
        [[x * cos(r), -y * sin(r + s), row["right"]], [x * sin(r), y * cos(r + s), row["down"]],
         [0, 0, 1]]
    )  # fmt: skip
    inverse = np.linalg.inv(forward)
    half = np.diag([(width - 1) / 2, (height - 1) / 2, 1])
    return (np.linalg.inv(half) @ inverse @ half)[:2]


@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extent", [(32, 32), (17, 40), (28, 9)], ids=str)
def test_grid_sample(border: Any, channels: int, extent: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, (16, channels, *extent)).astype(np.uint8)
    kinds = {"rotation": 1, "shear": 1, "zoom": 1, "stretch": 1, "translation": 2}
    u = {kind: RNG.random((16, n)).astype(np.float32) for kind, n in kinds.items()}
    made = augmented(
        pixels, u, rotation=(0, 360), shear=20, zoom=1.6, stretch=1.3, translation=5, border=border
    )
    matrices = [
        theta(
            {"rotation": 360 * u["rotation"][i, 0], "shear": 40 * u["shear"][i, 0] - 20,
             "zoom": 1.6 ** (2 * u["zoom"][i, 0] - 1),
             "stretch": 1.3 ** (2 * u["stretch"][i, 0] - 1),
             "down": 10 * u["translation"][i, 0] - 5, "right": 10 * u["translation"][i, 1] - 5},
            *extent,
        )
        for i in range(16)
    ]  # fmt: skip
    x = torch.from_numpy(pixels).double()
    grid = torch.nn.functional.affine_grid(
        torch.tensor(np.stack(matrices)), list(x.shape), align_corners=True
    )
    expected = torch.nn.functional.grid_sample(
        x, grid, padding_mode=MODES[border], align_corners=True
    )
    np.testing.assert_allclose(made, expected.numpy(), atol=0.02)
