"""Trains a spec for some steps over the stand-in libraries.

Its words are the spec, the mode, `eager`, `graphs` or `checked`, and the precision, `FP32` or
`FP16`.

With FAKE_TRACE=1 the libraries say on stderr what is called; a line `=== …` begins each part.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import cuda_graphs
import numpy as np
import onnx

from netspec.compiler import elaborate, read
from netspec.ir.sections import DataSection, Solver
from netspec.runtime.device import Device
from netspec.training.execution import recorded
from netspec.training.execution.executor import Executor

STEPS = 4


def say(part: str) -> None:
    print(f"=== {part}", file=sys.stderr, flush=True)


def main(spec: str, mode: str, precision: str) -> None:
    net = elaborate(read(spec), batch=cuda_graphs.BATCH).train.net
    data = DataSection(source="noise", batch_size=net.batch, transform=cuda_graphs.transform(net))
    fields = {"base_lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "max_iter": 1}
    solver = Solver.model_validate({**fields, "precision": precision})
    net = net.model_copy(update={"data": data, "solver": solver})
    types = cuda_graphs.array_types(net)
    arrays = {name: np.zeros(t.shape, t.dtype) for name, t in types.items()}
    emit = recorded.emit

    def emit_without(graph: object, *, names: Mapping[object, str]) -> onnx.ModelProto:
        return cuda_graphs.without_cudnn(emit(graph, names=names), graph)  # type: ignore[arg-type]

    recorded.emit = emit_without  # type: ignore[assignment]
    device = Device("cuda", graphs=mode != "eager", checked=mode == "checked")
    warnings: list[str] = []
    executor = Executor(net, None, arrays, None, device=device, seed=1, warn=warnings.append)
    before = executor.state()
    for i in range(STEPS):
        say(f"step {i}")
        executor.step(i, np.arange(net.batch, dtype=np.int64), 0.1)
    say("end")
    assert not warnings, warnings
    after = executor.state()
    assert before.weights.keys() == after.weights.keys()
    # Kernels do nothing here, so what has changed was not brought back as it was.
    for name, weight in before.weights.items():
        assert np.array_equal(weight, after.weights[name]), name


if __name__ == "__main__":
    main(*sys.argv[1:])
