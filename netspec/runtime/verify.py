"""Compares two forms of a model on seeded inputs: the last gate before a file is written."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from netspec.diagnostics import NetspecError
from netspec.ir.types import Shape
from netspec.runtime.session import quiet_options

TOLERANCE = 1e-4
"""Relative to the largest value of an output, and absolute below 1."""
ROUNDINGS, LARGEST = 8, 1e-2
"""What is taken for rounding beyond it: so many times what one unit in the last place of the inputs
does to the output, and so much at most."""


class Unverifiable(NetspecError):
    """Nothing of an output is a number, so that there is nothing to compare."""


def verify(
    lowered: onnx.ModelProto,
    model: onnx.ModelProto,
    inputs: Mapping[str, Shape],
    batches: Sequence[int],
    probes: Sequence[str] = (),
    indices: Container[str] = (),
) -> float:
    """The largest difference between `lowered` without and `model` with onnxruntime's optimiser.

    One seeded batch, normal or of bytes, per entry of `batches`; `inputs` gives shapes without the
    batch axis. Where a layer refuses it, inputs that are no images hold places, and become zeros;
    `probes` are blobs to compare beside the outputs: the scores behind a softmax tell more than
    probabilities near 0 and 1. Inputs of `indices` are 0, which points at something in any table.
    NetspecError if one differs by more than 1e-4, and by more than rounding; Unverifiable if one is
    nothing but NaN.
    """
    inside = [set(_made(form)) for form in (lowered, model)]
    probes = [name for name in probes if all(name in made for made in inside)]
    sessions = (
        _session(lowered, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, probes),
        _session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, probes),
    )
    bytewise = {port.name for port in sessions[0].get_inputs() if port.type == "tensor(uint8)"}
    worst = 0.0
    for seed, batch in enumerate(batches):
        generator = np.random.default_rng(seed)
        feeds = {
            name: _sample(generator, (batch, *shape), bytewise=name in bytewise)
            for name, shape in inputs.items()
        }
        feeds.update({name: 0 * x for name, x in feeds.items() if name in indices})
        names = [output.name for output in sessions[0].get_outputs()]
        try:
            plain = sessions[0].run(names, feeds)
        except Fail:
            feeds = {n: x if x.ndim >= 4 else np.zeros_like(x) for n, x in feeds.items()}
            plain = sessions[0].run(names, feeds)
        optimised = sessions[1].run(names, feeds)
        for name, a, b in zip(names, plain, optimised, strict=True):
            if a.size and np.isnan(a).all():
                raise Unverifiable(
                    f"nothing of `{name}` is a number where the net is given noise, as with "
                    "weights that grew too large: it cannot be verified, and nothing was written"
                )
            difference = _difference(a, b)
            if not difference <= TOLERANCE and not _is_rounding(
                sessions[0], name, feeds, a, difference
            ):
                raise NetspecError(
                    f"the compiled model disagrees with the net: `{name}` differs by "
                    f"{difference:.2g}; nothing was written"
                )
            worst = max(worst, difference)
    return worst


def _is_rounding(
    session: ort.InferenceSession,
    name: str,
    feeds: Mapping[str, np.ndarray],
    output: np.ndarray,
    difference: float,
) -> bool:
    """Whether a deep net moves as much when its inputs move by one unit in the last place."""
    moved = {n: np.nextafter(x, np.float32(np.inf)) if x.dtype == np.float32 else x
             for n, x in feeds.items()}  # fmt: skip
    (again,) = session.run([name], moved)
    return difference <= min(ROUNDINGS * _difference(output, again), LARGEST)


def _sample(generator: np.random.Generator, shape: Shape, *, bytewise: bool) -> np.ndarray:
    if bytewise:
        return generator.integers(0, 256, shape, np.uint8)
    return generator.standard_normal(shape).astype(np.float32)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    # A logarithm of noise is no number in both; where nothing is a number, nothing was verified.
    told = ~(np.isnan(a) & np.isnan(b))
    if not told.any():
        return float("nan")
    a, b = a[told], b[told]
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is a difference too: nan
        return float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())))


def _made(model: onnx.ModelProto) -> list[str]:
    """What nodes make and do not put out."""
    outputs = {output.name for output in model.graph.output}
    return [name for node in model.graph.node for name in node.output if name not in outputs]


def _session(
    model: onnx.ModelProto, level: ort.GraphOptimizationLevel, probes: Sequence[str]
) -> ort.InferenceSession:
    options = quiet_options()
    options.graph_optimization_level = level
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in probes)
    data = model.SerializeToString()
    del model.graph.output[len(model.graph.output) - len(probes) :]
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
