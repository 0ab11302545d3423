"""Running a graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.ir.graph import Value

Arrays: TypeAlias = list[npt.NDArray[Any]]
Run: TypeAlias = Callable[[Builder, Sequence[Value], Mapping[str, npt.NDArray[Any]]], Arrays]


@pytest.fixture(scope="session")
def run() -> Run:
    """`run(op, outputs, feeds)`: the outputs, as onnxruntime computes them."""

    def run(op: Builder, outputs: Sequence[Value], feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        model = emit(op.graph(outputs, name="test"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        wanted = {info.name for info in session.get_inputs()}
        return list(session.run(None, {k: np.asarray(v) for k, v in feeds.items() if k in wanted}))

    return run
