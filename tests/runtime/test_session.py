"""Sessions: order of execution, company of other sessions, and what a user is told."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from netspec.codegen.accumulate import accumulate_graph
from netspec.codegen.emit import emit
from netspec.codegen.solvers import SOLVERS, update_rule
from netspec.codegen.update import StatisticGroup, WeightGroup, update_graph
from netspec.diagnostics import NetspecError
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session, session_options, translated_errors
from netspec.runtime.state import Binding, FlatBuffer, Layout

CPU = Device("cpu")
GROUPS = [WeightGroup("0", 64), WeightGroup("1", 128, 2.0, 0.0)]


STATISTICS = [StatisticGroup("0", 64, 0.1)]


def update_model(kind: str) -> onnx.ModelProto:
    """A solver's update, or that of SGD with clipping, or what adds up batches before it."""
    clipped = kind not in SOLVERS
    momentum = None if kind in ("AdaGrad", "RMSProp") else 0.9
    fields = {"clip_gradients": 1, "iter_size": 2} if clipped else {"type": kind}
    given = {"base_lr": 0.1, "momentum": momentum, "max_iter": 1, **fields}
    step = update_graph(GROUPS, STATISTICS, update_rule(Solver.model_validate(given)))
    if kind == "accumulation":
        step = accumulate_graph(GROUPS, STATISTICS, 2, first=False)
    return emit(step.graph, names=step.names)


@pytest.mark.parametrize("kind", [*SOLVERS, "clipped", "accumulation"])
def test_an_update_runs_in_the_order_of_the_file(kind: str, tmp_path: Path) -> None:
    """The proof of `assert_in_place` is worth nothing in another order."""
    model = update_model(kind)
    options = session_options(CPU)
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ports = [p.name for p in (*model.graph.input, *model.graph.output)]
    buffer = FlatBuffer(Layout.of({"all": dict.fromkeys(ports, (128,))}), CPU)
    Binding(session, CPU, {name: buffer.pointer(name) for name in ports}).run()
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    ran = [e["name"].removesuffix("_kernel_time") for e in sorted(nodes, key=lambda e: e["ts"])]
    assert ran == [node.name for node in model.graph.node]


def test_other_sessions_of_the_process_load_as_before() -> None:
    """A global thread pool would make onnxruntime refuse them."""
    model = update_model("SGD")
    make_session(model, CPU)
    ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_device_that_is_full_is_no_fault_of_ours() -> None:
    with pytest.raises(NetspecError, match="a smaller batch_size"), translated_errors():
        raise RuntimeError("[ONNXRuntimeError] : 1 : Failed to allocate memory for buffer of 4")
    with pytest.raises(RuntimeError, match="broken"), translated_errors():
        raise RuntimeError("broken")
