"""Where graphs run: the choice between CPU and CUDA, and what onnxruntime is told about it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from netspec.diagnostics import UsageError

Kind = Literal["cpu", "cuda"]

_CUDA = "CUDAExecutionProvider"
FATAL, _WARNING = 4, 2
"""Severities of onnxruntime's native log; what is less than fatal comes as an exception too."""

INSTALL = "pip install netspec[cuda]"
"""The line that brings CUDA's libraries."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of onnxruntime's."""

    kind: Kind
    index: int = 0
    tf32: bool = True
    """Whether CUDA may round the factors of float32 products to 10 bits of mantissa."""
    graphs: bool = False
    """Whether CUDA records each session's first run and replays it: one launch for a graph."""
    checked: bool = False
    """Whether the first replays are held against plain runs, which take over where they differ."""
    threads: int = 0
    """Of the CPU; 0 leaves it to onnxruntime, which takes one for each core."""

    @property
    def cuda(self) -> bool:
        return self.kind == "cuda"

    @property
    def usable_threads(self) -> int:
        """Of the CPU, as many as onnxruntime makes."""
        return self.threads or cores()

    @property
    def providers(self) -> list[Any]:
        """What a session is to run on: one provider, so that nothing falls back in silence."""
        if not self.cuda:
            return ["CPUExecutionProvider"]
        options = {
            "device_id": str(self.index),
            "use_tf32": str(int(self.tf32)),
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(self.graphs)),
        }
        return [(_CUDA, options)]

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.cuda else self.kind


def choose_device(requested: str | Device) -> Device:
    """The device for `auto`, `cpu` or `cuda`; `auto` is CUDA where it works. A Device is taken.

    Raises UsageError for `cuda` where it does not, with what is missing.
    """
    if isinstance(requested, Device):
        return requested
    if requested not in ("auto", "cpu", "cuda"):
        raise UsageError(f"there is no device `{requested}`: auto, cpu or cuda")
    if requested == "cpu":
        return Device("cpu")
    missing = cuda_fault()
    if missing is None:
        return Device("cuda")
    if requested == "auto":
        return Device("cpu")
    raise UsageError(f"CUDA is not at hand: {missing}")


def cores() -> int:
    """The cores that this process may use: what onnxruntime makes its threads for."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cuda_fault() -> str | None:
    """Why no session runs on CUDA, or None if one does.

    Listed providers prove nothing: onnxruntime-gpu lists CUDA on every machine, and a session
    falls back to the CPU with a line in its log. So a session is made.
    """
    if _CUDA not in ort.get_available_providers():
        return f"this onnxruntime is built without it; {INSTALL}"
    said = io.StringIO()
    with quiet(), redirect_stdout(said):
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        try:
            session = ort.InferenceSession(_probe(), options, providers=Device("cuda").providers)
        except Exception as error:
            return str(error).splitlines()[0]
    if session.get_providers()[0] == _CUDA:
        return None
    absent = [line.split(":")[0] for line in said.getvalue().splitlines() if line[:6] == "Failed"]
    what = ", ".join(line.removeprefix("Failed to load ") for line in absent)
    if what:
        return f"the libraries {what} are not found; {INSTALL}"
    return "onnxruntime finds no GPU that it supports, or no driver for it"


def _probe() -> bytes:
    """The smallest model: y = x."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(onnx.ModelProto.SerializeToString(model))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what onnxruntime writes to stderr while it looks for libraries and devices."""
    ort.set_default_logger_severity(FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)
