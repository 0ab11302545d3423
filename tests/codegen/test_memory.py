"""The memory of a run: counted by hand on small graphs, and against what a process takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.memory import peak, timeline, workspace
from netspec.ir.graph import Graph, Value
from netspec.ir.types import TensorType

TYPE = TensorType((1, 4, 8, 8))
B = TYPE.nbytes


def made(write: Callable[[Builder, Value], Value]) -> Graph:
    """The graph of one function of one input."""
    op = Builder()
    return op.graph([write(op, op.input("x", TYPE))], name="test")


def turned(op: Builder, x: Value, times: int = 1) -> Value:
    """Transposed: an operator that never works in place."""
    for _ in range(times):
        x = op.Transpose(x, perm=(0, 1, *range(len(x.type.shape) - 1, 1, -1)))
    return x


def lives(graph: Graph, *, reuse: bool = False) -> list[float]:
    """The timeline in buffers of `TYPE`."""
    return [bytes / B for bytes in timeline(graph, reuse=reuse)]


def test_in_a_chain_two_are_alive_and_the_last_one_is_an_output() -> None:
    graph = made(lambda op, x: turned(op, x, 4))
    assert lives(graph) == [1, 2, 2, 1]
    found = peak(graph)
    assert (found.activations, found.inputs, found.outputs, found.constants) == (2 * B, B, B, 0)
    assert found.operator is graph.ops[1]
    assert found.allocated == 2 * B


def test_in_a_diamond_the_first_stays_for_the_second_branch() -> None:
    def diamond(op: Builder, x: Value) -> Value:
        first = turned(op, x)
        return op.Add(turned(op, first, 2), turned(op, first))

    assert lives(made(diamond)) == [1, 2, 3, 3, 2]


def test_an_activation_takes_the_place_of_what_nothing_else_reads() -> None:
    assert lives(made(lambda op, x: turned(op, op.Relu(op.Sigmoid(turned(op, x)))))) == [1] * 4


def test_arithmetic_takes_no_place() -> None:
    assert lives(made(lambda op, x: turned(op, op.Exp(op.Add(turned(op, x), x))))) == [1, 2, 2, 1]


def test_what_has_another_reader_stays() -> None:
    def read_twice(op: Builder, x: Value) -> Value:
        y = turned(op, x)
        return op.Add(op.Sqrt(op.Relu(y)), turned(op, y))

    assert lives(made(read_twice)) == [1, 2, 3, 3, 2]


def test_the_input_is_never_overwritten() -> None:
    assert lives(made(lambda op, x: turned(op, op.Relu(x)))) == [1, 1]


def test_a_reshape_is_the_same_memory_and_keeps_it() -> None:
    def reshaped(op: Builder, x: Value) -> Value:
        y = turned(op, x)
        flat = op.Relu(op.Reshape(y, op.ints(4, 64)))
        return op.Add(turned(op, y), op.Reshape(flat, op.ints(*TYPE.shape)))

    assert lives(made(reshaped)) == [1, 1, 2, 3, 2, 2]
    assert peak(made(reshaped)).constants == (2 + 4) * 8
    through = made(lambda op, x: turned(op, op.Relu(op.Reshape(turned(op, x), op.ints(4, 1, 64)))))
    assert lives(through) == [1] * 4


def test_a_reshape_of_the_input_takes_nothing() -> None:
    assert lives(made(lambda op, x: turned(op, op.Reshape(x, op.ints(4, 1, 64))))) == [0, 0]


def test_what_nothing_reads_stays_to_the_end() -> None:
    def split(op: Builder, x: Value) -> Value:
        _, rest = op.Split(turned(op, x), op.ints(1, 3), outputs=2, axis=1)
        return turned(op, rest, 2)

    assert lives(made(split)) == [1, 2, 1.75, 1]


def test_with_reuse_a_buffer_is_held_between_its_values() -> None:
    def gap(op: Builder, x: Value) -> Value:
        y = turned(op, x, 3)
        other = op.Transpose(op.Reshape(y, op.ints(8, 32)), perm=(1, 0))
        for _ in range(3):
            other = op.Transpose(other, perm=(1, 0))
        return turned(op, op.Reshape(other, op.ints(*TYPE.shape)), 3)

    graph = made(gap)
    assert max(lives(graph)) == 2
    assert max(lives(graph, reuse=True)) == 4
    assert peak(graph, reuse=True).activations == 4 * B


def test_an_empty_graph_takes_nothing() -> None:
    op = Builder()
    found = peak(op.graph([op.input("x", TYPE)], name="test"))
    assert (found.operator, found.allocated) == (None, 0)


@pytest.mark.parametrize(
    ("channels", "cells", "expected"),
    [
        (64, 8, 0),  # in strips
        (65, 8, 4 * 64 * 4 * 9),  # unrolled: 64 cells of 4 channels by 3 x 3
    ],
)
def test_convolutions_unroll_where_there_are_more_filters_than_cells(
    channels: int, cells: int, expected: int
) -> None:
    op = Builder()
    x = op.input("x", TensorType((2, 4, cells, cells)))
    w = op.input("w", TensorType((channels, 4, 3, 3)))
    op.Conv(x, w, kernel_shape=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    assert workspace(op.ops[0]) == expected


def test_transposed_convolutions_make_columns_of_one_image() -> None:
    op = Builder()
    x, w = op.input("x", TensorType((2, 5, 8, 8))), op.input("w", TensorType((5, 7, 3, 3)))
    op.ConvTranspose(x, w, kernel_shape=(3, 3))
    assert workspace(op.ops[0]) == 4 * 7 * 9 * 64


_RUN = """
import numpy as np, onnxruntime as ort
from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.memory import peak
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import elaborate, read
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.session import session_options

net = elaborate(read("resnet20"), batch=32).train.net
types = {n: TensorType((32, *t.shape[1:]), t.dtype) for n, t in net.inputs.items()}
step = gradient_graph(net, types, Transform(), CPU_PLAIN, grad)
options = session_options(Device("cpu"))
options.enable_cpu_mem_arena = False
options.enable_mem_reuse = REUSE
model = emit(step.graph, names=step.names).SerializeToString()
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
feeds = {step.names[v]: np.full(v.type.shape, 1e-3).astype(v.type.dtype) for v in step.graph.inputs}

def kibibytes(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

before = kibibytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forget the high-water mark
kept = session.run(None, feeds)
taken = (kibibytes("VmHWM") - before) * 1024
predicted = peak(step.graph, reuse=REUSE)
print(predicted.allocated + predicted.outputs, taken)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("reuse", [False, True])
def test_a_process_takes_what_is_predicted(reuse: bool) -> None:
    """Within 2 % and 4 MiB: stacks of threads, MLAS's strips and packed panels, tables.

    Without the arena and with every block of its own pages, a block that is freed is gone.
    """
    done = subprocess.run(
        [sys.executable, "-c", _RUN.replace("REUSE", str(reuse))],
        env={
            **os.environ,
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    predicted, taken = map(int, done.stdout.split())
    assert predicted > 32 << 20
    assert abs(taken - predicted) < predicted / 50 + (4 << 20), (predicted, taken)
