"""What the CPU in blocks gives is what the plain CPU gives, where shapes are at their edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.emit import emit
from netspec.codegen.target import CPU_PLAIN, Target, cpu_blocked
from netspec.compiler import compile_step, read
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.training.execution.targets import find_target

BLOCKED = find_target("cpu").target
pytestmark = pytest.mark.skipif(not BLOCKED.block, reason="no blocked layout here")

NETS = {
    "a number on a 1x1 plane": """
        input "data" { shape: 3x4x4 }  conv { num_output: 7  kernel_size: 4 }
        eltwise { bottom: "conv1"  bottom: "conv1"  coeff: [2, 0.5] }""",
    "one learned number on a 1x1 plane": """
        input "data" { shape: 3x4x4 }  conv { num_output: 7  kernel_size: 4 }
        scale { num_axes: 0  filler { value: 3 } }""",
    "a slope on a 1x1 plane": """
        input "data" { shape: 3x4x4 }  conv { num_output: 7  kernel_size: 4 }
        elu { alpha: 0.5 }""",
    "a number per channel on a 1x1 plane": """
        input "data" { shape: 3x4x4 }  conv { num_output: 20  kernel_size: 4 }
        scale { bias_term: true  filler { type: gaussian  std: 1 } }""",
    "more than 64 parts of channels": """
        input "data" { shape: 3x2x2 }  conv { num_output: 1000  kernel_size: 1 }
        elu  conv { num_output: 4  kernel_size: 1 }""",
}  # fmt: skip
TAIL = "\nflatten\nfc { num_output: 5 }\nsoftmax_loss\nsolver { base_lr: 0.1  max_iter: 1 }\n"


def run(text: str, target: Target, batch: int, folder: Path, **more: Any) -> dict[str, Any]:
    """The step's outputs, from inputs drawn by their names."""
    file = folder / "net.net"
    file.write_text(text)
    step = compile_step(read(str(file)), target, batch=batch, **more)
    session = make_session(emit(step.graph, names=step.names), Device("cpu"))
    fed = {}
    for i, port in enumerate(sorted(session.get_inputs(), key=lambda port: port.name)):
        rng = np.random.default_rng(i)
        if port.type == "tensor(int64)":
            fed[port.name] = np.arange(batch) if port.name == "indices" else np.arange(batch) % 5
        else:
            fed[port.name] = rng.standard_normal(port.shape).astype(np.float32)
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def assert_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        error = np.linalg.norm(array - other[name])
        assert error <= 1e-4 * np.linalg.norm(array) + 1e-6, name


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_small_planes_and_many_channels(name: str, batch: int, tmp_path: Path) -> None:
    plain, blocked = (run(NETS[name] + TAIL, t, batch, tmp_path) for t in (CPU_PLAIN, BLOCKED))
    assert_alike(plain, blocked)


def test_a_batch_of_many_runs_of_images(tmp_path: Path) -> None:
    """Images are convolved in runs of fewer than a block: 70 of them here."""
    text = 'input "data" { shape: 16x3x3 }  conv { num_output: 16  kernel_size: 3  pad: 1 }' + TAIL
    batch = 70 * (BLOCKED.block - 1)
    plain, blocked = (run(text, target, batch, tmp_path) for target in (CPU_PLAIN, BLOCKED))
    assert_alike(plain, blocked)


@pytest.mark.parametrize("block", [8, 16])
def test_any_batch_compiles_for_either_block(block: int, tmp_path: Path) -> None:
    file = tmp_path / "net.net"
    file.write_text(
        'input "data" { shape: 16x3x3 }  conv { num_output: 16  kernel_size: 3 }' + TAIL
    )
    for batch in (1, 449, 1024):
        assert compile_step(read(str(file)), cpu_blocked(block), batch=batch).graph.ops


POOLED = """
input "data" { shape: 16x6x6 }
conv "first" { num_output: 16  kernel_size: 3  pad: 1 }
residual "inner" { conv { num_output: 16  kernel_size: 3  pad: 1 }  relu
                   conv { num_output: 16  kernel_size: 3  pad: 1 } }
relu "last"
pool { pool: AVE  global_pooling: true }
"""


@pytest.mark.parametrize("target", [CPU_PLAIN, BLOCKED], ids=str)
@pytest.mark.parametrize("names", [["inner"], ["inner", "last"], ["*"]])
def test_what_is_recomputed_is_the_same_to_the_bit(
    names: list[str], target: Target, tmp_path: Path
) -> None:
    kept = run(POOLED + TAIL, target, 4, tmp_path)
    again = run(POOLED + TAIL, target, 4, tmp_path, recompute=names)
    for name, array in kept.items():
        assert np.array_equal(array, again[name]), name
