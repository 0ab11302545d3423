"""`netspec time`: which operator belongs where, and the arithmetic beside the clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from netspec.autodiff import grad
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Elaborated, elaborate, read
from netspec.diagnostics import UsageError
from netspec.ir.net import Net
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import Transform
from netspec.runtime.device import Device
from netspec.runtime.roofline import Roofline, measure_roofline
from netspec.training.execution.machine import Machine
from netspec.training.trials.timing import OTHER, Share, forward_part, time_net

SPEC = """
input "data" { shape: 2x6x6 }
conv "conv" { num_output: 3  kernel_size: 3 }
batch_norm "norm"
relu "relu"
dropout "drop"
fc "score" { num_output: 4 }
softmax_loss "loss"
accuracy "accuracy"
"""
ROOFLINE = Roofline(flops=1e9, bandwidth=1e9)
PLAIN = Machine(Device("cpu", threads=1), CPU_PLAIN)


@pytest.fixture
def nets(tmp_path: Path) -> Elaborated:
    path = tmp_path / "x.net"
    path.write_text(SPEC)
    return elaborate(read(str(path)), batch=5)


@pytest.fixture
def train(nets: Elaborated) -> Net:
    return nets.train.net


def test_the_forward_part_is_what_losses_hang_on(train: Net) -> None:
    step = gradient_graph(train, stored_inputs(train), Transform(), CPU_PLAIN, grad)
    front = forward_part(step)
    assert set(front.ops) < set(step.graph.ops)
    assert {op.scope for op in front.ops} >= {"conv", "norm", "relu", "drop", "score", "loss"}
    backward = set(step.graph.ops) - set(front.ops)
    made = {value for op in backward for value in op.outputs}
    assert set(step.gradients.values()) <= made
    assert not made & {step.loss, *step.losses.values(), *step.observed.values()}


def test_training_has_a_row_for_each_layer_in_both_directions(train: Net) -> None:
    timing = time_net(train, PLAIN, ROOFLINE, iterations=2)
    rows = {row.name: row for row in timing.layers}
    assert list(rows) == [*(node.name for node in train.nodes), OTHER]
    for name in ("conv", "norm", "score", "loss"):
        assert rows[name].forward.seconds
        assert rows[name].backward.seconds
    assert rows["data"].backward.seconds is None
    assert rows["accuracy"].backward.seconds is None
    assert timing.forward.seconds
    assert timing.backward is not None
    assert timing.update
    assert timing.step
    assert timing.step > timing.update
    assert timing.shards == 1  # its statistics are of the whole batch
    assert timing.profiled


def test_a_step_is_timed_as_training_takes_it() -> None:
    net = elaborate(read("cifar10_full"), batch=8).train.net
    assert time_net(net, PLAIN, ROOFLINE, iterations=1).shards == 2


def test_arithmetic_is_that_of_the_whole_batch(train: Net) -> None:
    timing = time_net(train, PLAIN, ROOFLINE, iterations=1)
    rows = {row.name: row for row in timing.layers}
    macs = 3 * 4 * 4 * 2 * 9
    assert rows["conv"].forward.flops == 2 * 5 * macs
    assert rows["conv"].backward.flops == 2 * 5 * macs  # the data want no gradient
    assert rows["score"].backward.flops == 2 * 5 * 2 * 4 * 48
    assert timing.forward.flops == 2 * 5 * (macs + 4 * 48)
    moved = 4 * 2 * 5 * 3 * 4 * 4
    assert rows["relu"].forward.least == pytest.approx(moved / 1e9)
    assert rows["relu"].backward.least == pytest.approx(1.5 * moved / 1e9)


def test_testing_is_forward_alone(nets: Elaborated) -> None:
    timing = time_net(nets.test.net, PLAIN, ROOFLINE, iterations=2)
    assert timing.backward is None
    assert timing.update is timing.step is None
    assert all(row.backward.seconds is None for row in timing.layers)
    assert timing.forward.seconds


def test_a_net_without_a_loss_cannot_be_timed_in_training(tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text('input "data" { shape: 4 }\nfc { num_output: 2 }')
    nets = elaborate(read(str(path)))
    with pytest.raises(UsageError, match="no loss in phase TRAIN"):
        time_net(nets.train.net, PLAIN, ROOFLINE, iterations=1)
    assert time_net(nets.test.net, PLAIN, ROOFLINE, iterations=1).forward.seconds


def test_the_roofline_is_the_higher_of_two_limits() -> None:
    roofline = Roofline(flops=100.0, bandwidth=10.0)
    assert roofline.least(200, 5) == 2
    assert roofline.least(0, 50) == 5
    assert Share(4.0, 200, 2.0).roofline == 0.5
    assert Share(4.0, 200, 2.0).rate == 50
    assert Share(None, 200, 2.0).roofline is None


def test_the_roofline_is_measured() -> None:
    roofline = measure_roofline(Device("cpu", threads=1), scale=16)
    assert roofline.flops > 0
    assert roofline.bandwidth > 0
