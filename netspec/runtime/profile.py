"""How long a model runs, and each of its operators by onnxruntime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from netspec.runtime.device import Device, quiet
from netspec.runtime.session import make_session, session_options, translated_errors

WARM_UP = 3
"""Runs before the ones that count: memory is taken and code is read for the first time."""

_KERNEL = "_kernel_time"
"""How the profiler marks the time of an operator's kernel, behind the operator's name."""


def run_seconds(
    model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], device: Device, iterations: int
) -> float:
    """The mean of a run's seconds, nothing but the clock looking on."""
    return _runs(make_session(model, device), feeds, device, iterations)


def operator_seconds(
    model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], device: Device, iterations: int
) -> tuple[dict[str, float], float]:
    """The mean seconds of each operator by name, and of a run while the profiler looks on.

    CPU only: of CUDA the profiler sees when kernels are launched, not how long they run.
    """
    assert not device.cuda
    options = session_options(device)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        with translated_errors(), quiet():
            session = ort.InferenceSession(
                model.SerializeToString(), options, providers=device.providers
            )
        seconds = _runs(session, feeds, device, iterations)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return _by_operator(events), seconds


def _runs(
    session: ort.InferenceSession,
    feeds: Mapping[str, NDArray[Any]],
    device: Device,
    iterations: int,
) -> float:
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device.kind))
    for output in session.get_outputs():
        binding.bind_output(output.name, device.kind)
    times = []
    for _ in range(WARM_UP + iterations):
        begin = perf_counter()
        with translated_errors():
            session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(perf_counter() - begin)
    return fmean(times[WARM_UP:])


def _by_operator(events: list[dict[str, Any]]) -> dict[str, float]:
    """The profiler's events, in microseconds, run by run."""
    taken: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            taken.setdefault(event["name"].removesuffix(_KERNEL), []).append(event["dur"])
    return {name: fmean(times[WARM_UP:]) / 1e6 for name, times in taken.items()}
