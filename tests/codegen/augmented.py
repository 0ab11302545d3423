"""Runs the graph of a transform on given images with given lots."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.target import CUDA
from netspec.codegen.transform import Transforming
from netspec.ir.transform import MEAN, Transform
from netspec.ir.types import TensorType

Array = npt.NDArray[Any]


def augmented(
    images: Array,
    lots: dict[str, Array] | None = None,
    *,
    training: bool = True,
    drawn: bool = True,
    labels: Array | None = None,
    outside: int = 0,
    mean: Array | None = None,
    order: Any = "RGB",
    **fields: Any,
) -> Any:
    """The images as a transform of these fields makes them, and the labels if there are any.

    Every operator is one that CUDA has, too, and no lot is asked for but those given.
    """
    op = Builder()
    inputs = {"x": images, "labels": labels, "mean": mean}
    values = {
        name: op.input(name, TensorType(array.shape, str(array.dtype)))
        for name, array in inputs.items()
        if array is not None
    }
    measured = {MEAN: values["mean"]} if mean is not None else {}
    transforming = Transforming(op, Transform(**fields), training, measured, drawn, order=order)
    made = [transforming("data", values["x"])]
    if labels is not None:
        made.append(transforming.labels(values["labels"], outside))
    assert all(map(CUDA.runs, op.ops)), {o.op_type for o in op.ops if not CUDA.runs(o)}
    graph = op.graph(made, name="g")
    names = {v: v.name for v in graph.inputs} | {v: f"y{i}" for i, v in enumerate(made)}
    session = ort.InferenceSession(
        emit(graph, names=names, check=True).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    fed = {name: array for name, array in inputs.items() if array is not None}
    fed |= {f"random:transform#{name}": u.astype(np.float32) for name, u in (lots or {}).items()}
    wanted = {port.name for port in session.get_inputs()}
    assert wanted == fed.keys(), wanted ^ fed.keys()
    found = session.run(None, fed)
    return found if labels is not None else found[0]
