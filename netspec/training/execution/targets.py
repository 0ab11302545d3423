"""Which target a graph is compiled for: what was asked, if this machine's onnxruntime has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, TARGETS, Target, cpu_blocked
from netspec.diagnostics import UsageError, printable, suggest
from netspec.ir.graph import Graph
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.session import make_session

_KNOWN = f"{', '.join(TARGETS[:-1])} or {TARGETS[-1]}"
_BLOCKS = (16, 8)
"""Channels per block with AVX-512 and with AVX2; onnxruntime does not tell, so both are tried."""
_TOLERANCE = 1e-4
"""Of the largest value: orders of summation differ by 1e-6, a wrong layout by all of it."""


@dataclass(frozen=True)
class Found:
    """A target, and what the user should know about why it is this one."""

    target: Target
    note: str | None = None


def find_target(name: str) -> Found:
    """The target of that name, `cpu`, `cpu-plain` or `cuda`; UsageError if there is none.

    The CPU's blocked layout is internal to onnxruntime: where it does not give what the plain one
    gives, `cpu` means the plain one, with a note. `cuda` needs no GPU to compile for.
    """
    if name not in TARGETS:
        raise UsageError(
            f"there is no target `{printable(name)}`{suggest(name, TARGETS)}: {_KNOWN}"
        )
    if name == "cpu":
        return _blocked()
    return Found(CPU_PLAIN if name == "cpu-plain" else CUDA)


def target_for(device: Device) -> Target:
    """The fastest target of a device."""
    return find_target(device.kind).target


@cache
def _blocked() -> Found:
    """The CPU in blocks as large as this machine's, proven on a small net and its gradients."""
    wanted = _run(CPU_PLAIN)
    why = ""
    for block in _BLOCKS:
        try:
            got = _run(cpu_blocked(block))
        except Exception as error:  # whatever an internal domain may come to say
            why = why or str(error).strip().splitlines()[0].rpartition(" Status Message: ")[2]
            continue
        if all(_close(got[name], wanted[name]) for name in wanted):
            return Found(cpu_blocked(block))
    reason = f": {why}" if why else ", it gives other numbers"
    return Found(
        CPU_PLAIN,
        f"onnxruntime {ort.__version__} does not run its blocked layout here{reason}; "
        "netspec takes the plain one, which is slower",
    )


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return bool(np.abs(a - b).max() <= _TOLERANCE * np.abs(b).max())


def _run(target: Target) -> dict[str, NDArray[Any]]:
    """A small net's output and gradients, as a target computes them."""
    graph, feeds = _sample()
    model = emit(formulate(graph, target).graph)
    session = make_session(model, Device("cpu"))
    outputs = session.run(None, dict(feeds))
    return dict(zip(map(str, range(len(outputs))), outputs, strict=True))


@cache
def _sample() -> tuple[Graph, Mapping[str, NDArray[Any]]]:
    """Two convolutions, batch normalisation and pooling, and the gradients of all they learn."""
    op, rng = Builder(), np.random.default_rng(0)
    shapes = {"x": (2, 3, 8, 8), "first": (32, 3, 3, 3), "second": (48, 32, 3, 3), "scale": (48,),
              "bias": (48,), "y_bar": (2, 48, 4, 4)}  # fmt: skip
    x, first, second, scale, bias, y_bar = (op.input(n, TensorType(s)) for n, s in shapes.items())
    window: dict[str, Any] = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
    hidden = op.Relu(op.Conv(x, first, **window))
    none = op.constant(np.zeros(48, np.float32))
    normal, _, _ = op.BatchNormalization(
        op.Conv(hidden, second, **window), scale, bias, none, none,
        outputs=3, training_mode=1, momentum=0.0, epsilon=1e-5,
    )  # fmt: skip
    y, _ = op.MaxPool(op.Relu(normal), outputs=2, kernel_shape=(2, 2), strides=(2, 2))
    bars = grad(op, tuple(op.ops), {y: y_bar}, [first, second, scale, bias])
    graph = op.graph([y, *(bar for bar in bars if bar is not None)], name="check")
    return graph, {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
