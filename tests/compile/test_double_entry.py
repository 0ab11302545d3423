"""What `infer` says equals what ONNX says, and what onnxruntime returns, for every blob."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from netspec import zoo
from netspec.codegen.emit import emit
from netspec.codegen.lower import lower
from netspec.compiler import Spec, elaborate
from netspec.ir.layer import Phase


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", zoo.names())
def test_every_blob(name: str, phase: Phase, batch: int, small: Callable[[str], Spec]) -> None:
    net = elaborate(small(name), batch=batch)[phase].net
    lowered = lower(net)
    said = {
        top: type
        for node in net.nodes
        for top, type in zip(node.tops, node.top_types, strict=True)
        if top not in net.inputs
    }
    values = {lowered.blobs[top]: top for top in said}  # of two names for one value, one is enough
    assert all(value.type == said[top] for value, top in values.items())
    assert all(lowered.blobs[top].type == type for top, type in said.items())

    model = emit(lowered.op.graph(list(values), name=net.name), names=values, check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        i.name: np.zeros(i.shape, {"tensor(float)": np.float32, "tensor(int64)": np.int64}[i.type])
        for i in session.get_inputs()
    }
    returned = session.run(list(values.values()), feeds)
    for (value, top), array in zip(values.items(), returned, strict=True):
        assert (array.shape, str(array.dtype)) == (value.type.shape, value.type.dtype), top
