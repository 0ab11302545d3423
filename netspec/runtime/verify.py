"""Compares two forms of a model on seeded inputs: the last gate before a file is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from netspec.diagnostics import NetspecError
from netspec.ir.types import Shape

TOLERANCE = 1e-4
"""Relative to the largest value of an output, and absolute below 1."""


def verify(
    lowered: onnx.ModelProto,
    model: onnx.ModelProto,
    inputs: Mapping[str, Shape],
    batches: Sequence[int],
) -> float:
    """The largest difference between `lowered` without and `model` with onnxruntime's optimiser.

    One seeded normal batch per entry of `batches`; `inputs` gives shapes without the batch axis.
    NetspecError if an output differs by more than 1e-4.
    """
    sessions = (
        _session(lowered, ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
        _session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
    )
    worst = 0.0
    for seed, batch in enumerate(batches):
        generator = np.random.default_rng(seed)
        feeds = {
            name: generator.standard_normal((batch, *shape)).astype(np.float32)
            for name, shape in inputs.items()
        }
        names = [output.name for output in sessions[0].get_outputs()]
        plain, optimised = (session.run(names, feeds) for session in sessions)
        for name, a, b in zip(names, plain, optimised, strict=True):
            difference = _difference(a, b)
            if not difference <= TOLERANCE:
                raise NetspecError(
                    f"the compiled model disagrees with the net: `{name}` differs by "
                    f"{difference:.2g}; nothing was written"
                )
            worst = max(worst, difference)
    return worst


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    return float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())))


def _session(model: onnx.ModelProto, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
