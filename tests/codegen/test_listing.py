"""The training step of a small net as text: what the blocked layout makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec.codegen.listing import listing
from netspec.codegen.target import CPU_PLAIN, Target, cpu_blocked
from netspec.compiler import compile_step, read

SMALL = """
input "data" { shape: 3x8x8 }
conv "conv1" { num_output: 16  kernel_size: 3  pad: 1  bias_term: false }
batch_norm "norm1"
relu "relu1"
residual "sum" { conv "conv2" { num_output: 16  kernel_size: 3  pad: 1 } }
relu "relu2"
pool "pool1" { pool: MAX  kernel_size: 2  stride: 2 }
fc "fc1" { num_output: 10 }
softmax_loss "loss1"
solver { base_lr: 0.1  max_iter: 1 }
"""


@pytest.mark.parametrize("target", [cpu_blocked(16), CPU_PLAIN], ids=str)
def test_a_small_step(target: Target, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    spec = tmp_path / "small.net"
    spec.write_text(SMALL)
    step = compile_step(read(str(spec)), target, batch=4)
    golden(f"small.step.{target}.txt", listing(step.graph, step.names))


def test_no_convolution_adds_what_it_reads(tmp_path: Path) -> None:
    """onnxruntime may write the sum over the place of what is added, before x is read."""
    spec = tmp_path / "small.net"
    spec.write_text(SMALL.replace("kernel_size: 3  pad: 1 } }", "kernel_size: 1 } }"))
    step = compile_step(read(str(spec)), cpu_blocked(16), batch=4)
    sums = [op for op in step.graph.ops if op.op_type == "Conv" and len(op.inputs) == 4]
    assert sums
    assert all(op.inputs[0] is not op.inputs[3] for op in sums)
