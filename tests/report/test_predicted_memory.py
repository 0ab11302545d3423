"""Memory as `check` predicts it, beside what onnxruntime's arena allocates of the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from netspec.codegen.target import assumed_target
from netspec.compiler import elaborate, read
from netspec.ir.layer import Phase
from netspec.report.summary import summarise

NETS = [
    (name, batch)
    for name, batches in {
        "lenet": (16, 64),
        "resnet20": (16, 64),
        "squeezenet1_1": (2, 8),
        "resnet18": (2, 8),
    }.items()
    for batch in batches
]

_RUN = """
import os, re, sys, tempfile
import numpy as np, onnxruntime as ort
from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import compile_spec, elaborate, read
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import Transform
from netspec.runtime.device import Device
from netspec.runtime.session import session_options
from netspec.training.execution.targets import find_target

name, batch, phase, half = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["half"]
if phase == "TRAIN":
    net = elaborate(read(name), batch=batch).train.net
    target = CPU_PLAIN if half else find_target("cpu").target
    transform = net.data.transform if net.data else Transform()
    step = gradient_graph(net, stored_inputs(net), transform, target, grad, half=half)
    model, options = emit(step.graph, names=step.names), session_options(Device("cpu"))
else:
    model, options = compile_spec(read(name), batch=batch).model, ort.SessionOptions()
log = tempfile.TemporaryFile()
os.dup2(log.fileno(), 2)
ort.set_default_logger_severity(1)  # the allocator is the environment's, and so is its log
arena = ort.OrtArenaCfg({"max_mem": 0, "arena_extend_strategy": 1})
cpu = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
ort.create_and_register_allocator(cpu, arena)
options.enable_mem_pattern = False
options.add_session_config_entry("session.use_env_allocators", "1")
session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
binding = session.io_binding()
types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
for value in session.get_inputs():
    binding.bind_cpu_input(value.name, np.full(value.shape, 0.001).astype(types[value.type]))
outputs = [np.empty(value.shape, types[value.type]) for value in session.get_outputs()]
for value, array in zip(session.get_outputs(), outputs):
    binding.bind_output(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
log.seek(0, 2)
begin = log.tell()
session.run_with_iobinding(binding)
log.seek(begin)
print(sum(map(int, re.findall(r"Extended allocation by (\\d+) bytes", log.read().decode()))))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the arena's log goes to a file descriptor")
@pytest.mark.parametrize(("name", "batch"), NETS)
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_the_arena_takes_what_is_predicted(
    name: str, batch: int, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 10 %: the arena grows by what is requested, and keeps no memory pattern.

    Inference runs with onnxruntime's own optimisations, a step as training runs it. Weights,
    inputs and outputs are no part of either.
    """
    found = summarise(elaborate(read(name), batch=batch), Phase.TEST)
    assert found.training is not None
    learned = 4 * (found.cost.parameters + found.cost.statistics)
    forward = found.cost.forward_bytes - learned
    step = found.training.activations + found.training.workspace
    predicted = step if phase == "TRAIN" else forward
    taken = taken_by(name, batch, phase)
    with capsys.disabled():
        megabytes = f"predicted {predicted / 2**20:8.2f} MiB, taken {taken / 2**20:8.2f} MiB"
        print(f"\n{name:<14} batch {batch:<3} {phase:<5}  {megabytes}  {predicted / taken:.3f}")
    assert predicted == pytest.approx(taken, rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the arena's log goes to a file descriptor")
@pytest.mark.parametrize(("name", "batch"), [("lenet", 64), ("resnet20", 16)])
def test_half_precision_takes_what_is_predicted(name: str, batch: int) -> None:
    """On the CPU, where float16 is computed with in float32."""
    nets = elaborate(read(name, sets=["solver.precision=FP16"]), batch=batch)
    found = summarise(nets, Phase.TRAIN).training
    assert found is not None
    assert found.activations + found.workspace == pytest.approx(
        taken_by(name, batch, "TRAIN", "half"), rel=0.1
    )


def taken_by(name: str, batch: int, phase: str, *more: str) -> int:
    """What the arena took for one run, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, name, str(batch), phase, *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def test_targets_need_no_session() -> None:
    """What `cpu` probably is on this machine; onnxruntime itself is asked when it trains."""
    assert assumed_target("cpu").block in (8, 16)
    assert assumed_target("cpu-plain").block == 0
    assert assumed_target("cuda").kind == "cuda"
