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
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.graph import Value
from netspec.training.execution.targets import find_target

Arrays: TypeAlias = list[npt.NDArray[Any]]
Run: TypeAlias = Callable[[Builder, Sequence[Value], Mapping[str, npt.NDArray[Any]]], Arrays]


@pytest.fixture(scope="session", params=[CPU_PLAIN, CUDA, find_target("cpu").target], ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    """Each target in turn; what CUDA is given runs on the CPU too."""
    found: Target = request.param
    return found


@pytest.fixture(scope="session")
def run(target: Target) -> Run:
    """`run(op, outputs, feeds)`: the outputs, formulated for the target, by onnxruntime's CPU."""

    def run(op: Builder, outputs: Sequence[Value], feeds: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        model = emit(formulate(op.graph(outputs, name="test"), target).graph)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        wanted = {info.name for info in session.get_inputs()}
        return list(session.run(None, {k: np.asarray(v) for k, v in feeds.items() if k in wanted}))

    return run
