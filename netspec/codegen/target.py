"""Targets: where a graph is to run, and so which operators and layouts it may use."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from netspec.codegen.operators import CONTRIB, GRADIENT, NCHWC
from netspec.ir.graph import Op

Kind = Literal["cpu", "cuda"]

_ON_CUDA = frozenset(
    {
        "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv",
        "ConvTranspose", "Cos", "CumSum", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Floor",
        "Gather", "GatherElements", "Gemm", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "LRN",
        "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min",
        "Mul", "Neg", "Not", "OneHot", "PRelu", "Pad", "Pow", "RandomUniform", "Reciprocal",
        "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "ScatterElements",
        "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum",
        "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators with a float32 kernel on CUDA at opset 18, that netspec has a use for."""

_MOVED = frozenset(
    {"Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
     "Unsqueeze"}
)  # fmt: skip
_HALF = {
    "cpu": _MOVED,
    "cuda": _MOVED
    | {
        "Abs", "Add", "Conv", "ConvTranspose", "Equal", "FusedMatMul", "Gemm", "Greater",
        "GreaterOrEqual", "LeakyRelu", "Less", "LessOrEqual", "MatMul", "Max", "MaxPool", "Min",
        "Mul", "Neg", "PRelu", "Pad", "Relu", "Sigmoid", "Sub", "Tanh", "Tile", "Where",
    },
}  # fmt: skip
"""Operators with a float16 kernel at opset 18, of those that graphs have in half precision.

On the CPU these only move numbers. Around what else is asked of it in float16 onnxruntime puts
casts of its own, and takes them out again where they meet: nothing is rounded then.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of device, and how graphs for it are formulated."""

    name: str
    kind: Kind
    block: int = 0
    """Channels per block of the layout that the CPU's fastest kernels want; 0: none."""

    def runs(self, op: Op) -> bool:
        """Whether the target has a kernel for an operator."""
        if op.domain == GRADIENT:
            return False
        if op.domain == NCHWC:
            return self.block > 0
        return self.kind == "cpu" or op.domain == CONTRIB or op.op_type in _ON_CUDA

    def runs_half(self, op: Op) -> bool:
        """Whether the kernel that it has for an operator takes float16."""
        return op.op_type in _HALF[self.kind]

    def __str__(self) -> str:
        return self.name


CPU_PLAIN = Target("cpu-plain", "cpu")
"""The CPU through ONNX's own operators: what remains where the blocked layout is not at hand."""
CUDA = Target("cuda", "cuda")


def cpu_blocked(block: int) -> Target:
    """The CPU in blocks of as many channels as a vector register holds: 16 or 8."""
    return Target("cpu", "cpu", block)


TARGETS = ("cpu", "cpu-plain", "cuda")
"""The names that users give."""


def assumed_target(name: str) -> Target:
    """The target of a name; for `cpu` the blocks that MLAS takes for this machine's processor.

    That onnxruntime really has them is only known when it runs.
    """
    return {"cpu": cpu_blocked(_likely_block()), "cpu-plain": CPU_PLAIN, "cuda": CUDA}[name]


def _likely_block() -> int:
    """16 channels with AVX-512 or on Arm, 8 else."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return 16
    try:
        return 16 if "avx512f" in Path("/proc/cpuinfo").read_text() else 8
    except OSError:
        return 8
