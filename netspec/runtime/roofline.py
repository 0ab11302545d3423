"""What the machine can do at most: arithmetic and memory traffic, measured before they are needed.

Source: Williams, Waterman, Patterson: Roofline, CACM 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from netspec.runtime.device import Device
from netspec.runtime.session import make_session

_SIDE = {"cpu": 1024, "cuda": 4096}
"""Of the square matrices that are multiplied: large enough to keep every core busy."""

_CELLS = {"cpu": 2**23, "cuda": 2**26}
"""Of the vectors that are added: larger than any cache."""

_RUNS = 5
"""The best one counts: nothing makes a machine faster than it is."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """The two limits of a device, in float32."""

    flops: float
    """Additions and multiplications a second."""
    bandwidth: float
    """Bytes read and written a second."""

    def least(self, flops: float, nbytes: float) -> float:
        """The seconds that work takes at the least: its arithmetic, or its traffic if that is more.

        Data that lie in a cache move faster than the bandwidth, which is that of the memory.
        """
        return max(flops / self.flops, nbytes / self.bandwidth)


def measure_roofline(device: Device, *, scale: int = 1) -> Roofline:
    """By a product of two large matrices and a sum of two large vectors, on the device's threads.

    `scale` divides what is computed, for a rough look.
    """
    side, cells = _SIDE[device.kind] // scale, _CELLS[device.kind] // scale
    product = _best("MatMul", (side, side), device)
    total = _best("Add", (cells,), device)
    return Roofline(2 * side**3 / product, 3 * 4 * cells / total)


def _best(op_type: str, shape: tuple[int, ...], device: Device) -> float:
    """The shortest of a few runs of one operator on two tensors, in seconds."""
    session = make_session(_model(op_type, shape), device)
    binding = session.io_binding()
    for name in "abc":
        value = ort.OrtValue.ortvalue_from_numpy(np.ones(shape, np.float32), device.kind)
        bind = binding.bind_ortvalue_output if name == "c" else binding.bind_ortvalue_input
        bind(name, value)
    times = []
    for _ in range(_RUNS + 1):
        begin = perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(perf_counter() - begin)
    return min(times[1:])


def _model(op_type: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """c = a · b, or a + b."""
    a, b, c = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "abc")
    node = helper.make_node(op_type, ["a", "b"], ["c"])
    graph = helper.make_graph([node], "roofline", [a, b], [c])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
