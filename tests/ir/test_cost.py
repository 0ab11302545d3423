"""What `check` counts, against numbers made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from netspec.codegen.solvers import update_rule
from netspec.compiler import Elaborated, elaborate, read
from netspec.ir.analysis import cost
from netspec.ir.folding import folded
from netspec.ir.sections import Solver
from netspec.ir.training_memory import SLOTS, training_memory

Nets = Callable[[str], Elaborated]
FLOAT = 4
KIB = 1024


@pytest.fixture
def nets(tmp_path: Path) -> Nets:
    def make(text: str) -> Elaborated:
        path = tmp_path / "test.net"
        path.write_text(text)
        return elaborate(read(str(path)))

    return make


LENET = [
    # name, shape, parameters, MACs, activations: LeCun's arithmetic by hand
    ("data", (1, 28, 28), 0, 0, 784),
    ("conv1", (20, 24, 24), 20 * 25 + 20, 20 * 24 * 24 * 25, 11_520),
    ("pool1", (20, 12, 12), 0, 0, 2_880),
    ("conv2", (50, 8, 8), 50 * 20 * 25 + 50, 50 * 8 * 8 * 20 * 25, 3_200),
    ("pool2", (50, 4, 4), 0, 0, 800),
    ("ip1", (500,), 800 * 500 + 500, 800 * 500, 500),
    ("relu1", (500,), 0, 0, 500),
    ("ip2", (10,), 500 * 10 + 10, 500 * 10, 10),
    ("softmax_loss1", (), 0, 0, 1),
    ("accuracy1", (), 0, 0, 1),
]


def test_lenet() -> None:
    counted = cost(elaborate(read("lenet")).test.net)
    found = [
        (layer.name, layer.tops[0][1], layer.parameters, layer.macs, layer.activations)
        for layer in counted.layers
    ]
    assert found == LENET
    batch = counted.batch
    assert batch == 100
    alone = {"softmax_loss1", "accuracy1"}  # one value for the whole batch
    for layer, (name, *_, values) in zip(counted.layers, LENET, strict=True):
        assert layer.activation_bytes == FLOAT * values * (1 if name in alone else batch)
    assert (counted.parameters, counted.frozen, counted.statistics) == (431_080, 0, 0)
    assert (counted.macs, counted.flops) == (2_293_000, 4_586_000)
    assert counted.activations == 20_196
    # The worst moment: pool1 is made from conv1, and the labels lie there from the start.
    labels = 8 * batch
    assert counted.forward_bytes == FLOAT * (431_080 + batch * (11_520 + 2_880)) + labels


def test_lenet_in_training() -> None:
    net = elaborate(read("lenet")).train.net
    batch, parameters = net.batch, 431_080
    assert batch == 64
    # The convolutions' bottoms are kept, and the tops of pool and relu. The worst moment is that
    # of pool1's gradient, when conv1's is made from it, and all that lies above is given back.
    pool1 = FLOAT * batch * (784 + 2_880 + 11_520 + 2_880) + 8 * batch
    sgd = training_memory(net, net.solver)
    assert sgd is not None
    parts = (sgd.weights, sgd.gradients, sgd.solver, sgd.statistics, sgd.activations, sgd.workspace)
    assert parts == (*[FLOAT * parameters] * 3, 0, pool1, 0)
    assert (sgd.batch, sgd.total, sgd.exact) == (batch, sum(parts), False)
    adam = training_memory(net, net.solver, optimizer="Adam")
    assert adam is not None
    assert adam.total == sgd.total + FLOAT * parameters


def test_half_precision_keeps_a_copy_of_the_weights() -> None:
    net = elaborate(read("lenet")).train.net
    one, half = (training_memory(net, None, value_bytes=n) for n in (4, 2))
    assert one is not None
    assert half is not None
    assert half.weights == 431_080 * (2 + 4)
    assert (half.gradients, half.solver) == (one.gradients // 2, one.solver)
    labels = 8 * 64
    assert half.activations - labels == (one.activations - labels) // 2


def test_a_net_without_loss_is_not_trained(nets: Nets) -> None:
    net = nets('input "data" { shape: 4 }\nfc { num_output: 3 }').train.net
    assert training_memory(net, None) is None


def test_shared_weights_count_once(nets: Nets) -> None:
    both = """
        input "data" { shape: 8 }
        fc "a" { num_output: 8  param { name: "w" }  param { name: "b" } }
        fc "b" { num_output: 8  param { name: "w" }  param { name: "b" } }
    """
    counted = cost(nets(both).test.net)
    assert counted.parameters == 72
    assert [layer.parameters for layer in counted.layers] == [0, 72, 0]
    assert counted.macs == 128


def test_frozen_weights_are_parameters_but_not_trained(nets: Nets) -> None:
    text = """
        input "data" { shape: 8 }
        fc "a" { num_output: 4  param { lr_mult: 0 }  param { lr_mult: 0 } }
        fc "b" { num_output: 2 }
        softmax_loss
    """
    net = nets(text).train.net
    counted = cost(net)
    assert (counted.parameters, counted.frozen, counted.trained) == (46, 36, 10)
    free = nets(text.replace("lr_mult: 0", "lr_mult: 1")).train.net
    more = training_memory(free, None)
    less = training_memory(net, None)
    assert more is not None
    assert less is not None
    assert (more.gradients, less.gradients) == (FLOAT * 46, FLOAT * 10)
    assert (more.solver, less.solver) == (FLOAT * 46, FLOAT * 10)
    assert more.weights == less.weights


def test_in_place_tops_count_once(nets: Nets) -> None:
    text = """
        input "data" { shape: 2x4x4 }
        conv "c" { num_output: 3  kernel_size: 1 }
        relu "r" { bottom: "c"  top: "c" }
        pool { pool: MAX  kernel_size: 2  stride: 2 }
    """
    counted = cost(nets(text).test.net)
    assert counted.activations == 32 + 48 + 12
    assert [layer.activation_bytes for layer in counted.layers] == [128, 192, 0, 48]
    apart = cost(nets(text.replace('top: "c"', "")).test.net)
    assert apart.activations == counted.activations + 48


def test_statistics_stand_apart(nets: Nets) -> None:
    text = 'input "data" { shape: 3x4x4 }\nbatch_norm\nfc { num_output: 2 }\nsoftmax_loss'
    counted = cost(nets(text).test.net)
    assert counted.parameters == 2 * 3 + 48 * 2 + 2
    assert counted.statistics == 2 * 3
    weights = FLOAT * (counted.parameters + counted.statistics)
    assert counted.forward_bytes == weights + FLOAT * (48 + 48) + 8  # the input is the caller's


def forward(text: str, nets: Nets) -> int:
    """The most values alive at once."""
    counted = cost(nets(text).test.net)
    held = FLOAT * (counted.parameters + counted.statistics)
    return (counted.forward_bytes - held) // FLOAT


def test_forward_memory_is_that_of_the_blobs_alive(nets: Nets) -> None:
    image = 'input "data" { shape: 1x8x8 }\n'
    normal = "lrn { local_size: 3 }\n"
    assert forward(image + normal * 50, nets) == 2 * 64
    wide = image + f"inception {{ branch {{ {normal} }} branch {{ {normal} }} branch {{ }} }}"
    assert forward(wide, nets) == 64 + 2 * 64 + 3 * 64


def test_an_activation_takes_the_place_of_what_nothing_else_reads(nets: Nets) -> None:
    image = 'input "data" { shape: 1x8x8 }\n'
    assert forward(image + "relu\n" * 50, nets) == 2 * 64  # but not that of the data
    normal = 'lrn "a" { local_size: 3 }\nlrn "b" { local_size: 3 }\n'
    assert forward(image + normal + "relu\nflatten\nrelu", nets) == 2 * 64
    again = normal + 'relu "r"\neltwise { bottom: "b"  bottom: "r" }'
    assert forward(image + again, nets) == 3 * 64


def test_a_folded_normalisation_and_a_fused_sum_take_nothing(nets: Nets) -> None:
    conv = "conv { num_output: 8  kernel_size: 3  pad: 1  bias_term: false }\n"
    start = 'input "data" { shape: 8x8x8 }\n' + conv + "relu\n"
    block = f"residual {{ {conv} batch_norm relu {conv} batch_norm }} relu\n"
    assert forward(start + block * 3, nets) == 2 * 512
    apart = start + f"residual {{ {conv} batch_norm relu {conv} lrn {{ }} }}"
    assert forward(apart, nets) == 3 * 512


def test_in_blocks_of_channels_a_convolution_is_copied(nets: Nets) -> None:
    net = nets('input "data" { shape: 1x6x6 }\nconv { num_output: 12  kernel_size: 3 }').test.net
    apart = cost(net, block=0).forward_bytes
    assert cost(net, block=4).forward_bytes == apart
    assert cost(net, block=8).forward_bytes - apart == FLOAT * 16 * 4 * 4
    assert cost(net, block=16).forward_bytes - apart == FLOAT * 16 * 4 * 4


@pytest.mark.parametrize("batch", [1, 7])
def test_only_bytes_hang_on_the_batch(batch: int) -> None:
    one = cost(elaborate(read("resnet20"), batch=1).test.net)
    other = cost(elaborate(read("resnet20"), batch=batch).test.net)
    assert (one.macs, one.parameters, one.activations) == (
        other.macs, other.parameters, other.activations,
    )  # fmt: skip
    weights = FLOAT * (one.parameters + one.statistics)
    assert other.forward_bytes - weights == batch * (one.forward_bytes - weights)


CSC321 = [
    # name, units, connections, weights: LeNet as the lecture tabulates it
    ("C1", 4_704, 117_600, 150),
    ("S2", 1_176, 4_704, 0),
    ("C3", 1_600, 240_000, 2_400),
    ("S4", 400, 1_600, 0),
    ("C5/fc1", 120, 48_000, 48_000),
    ("F6/fc1", 84, 10_080, 10_080),
    ("output", 10, 840, 840),
]
"""University of Toronto, CSC321, lecture on the sizes of convolutional networks: a layer of J maps
of W x H from I maps by K x K has WHJ units, WHJ·K²·I connections and K²·IJ weights; pooling has
connections, but no weights; biases are left out. An activation is part of the layer before it."""


def test_units_connections_and_weights() -> None:
    counted = cost(elaborate(read("lenet5")).test.net)
    found = [(x.name, x.units, x.connections, x.weights) for x in counted.layers if x.units]
    assert found == CSC321
    assert (counted.units, counted.connections) == (8_094, 422_824)


def test_backward_multiplies_twice_but_where_nothing_is_wanted(nets: Nets) -> None:
    text = """
        input "data" { shape: 1x6x6 }
        conv "first" { num_output: 2  kernel_size: 3  param { lr_mult: A } }
        conv "second" { num_output: 2  kernel_size: 3  param { lr_mult: B } }
        fc "score" { num_output: 3 }
        softmax_loss
        fc "aside" { num_output: 3 }
    """
    first, second, score = 2 * 16 * 9, 2 * 4 * 18, 8 * 3

    def macs(a: int, b: int) -> list[int]:
        net = nets(text.replace("A", str(a)).replace("B", str(b))).train.net
        return [x.backward_macs for x in cost(net).layers if x.macs]

    assert macs(1, 1) == [first, 2 * second, 2 * score, 0]
    # The bias of the first is trained still: its gradient comes through the second.
    assert macs(0, 1) == [0, 2 * second, 2 * score, 0]
    assert macs(1, 0) == [first, second, 2 * score, 0]
    frozen = text.replace("lr_mult: A", "lr_mult: 0 } param { lr_mult: 0")
    frozen = frozen.replace("lr_mult: B", "lr_mult: 1")
    counted = [x.backward_macs for x in cost(nets(frozen).train.net).layers if x.macs]
    assert counted == [0, second, 2 * score, 0]


def test_metrics_ask_for_no_gradient(nets: Nets) -> None:
    text = 'input "data" { shape: 8 }\nfc "a" { num_output: 4 }\nsoftmax_loss\n'
    more = 'head "h" { fc "b" { num_output: 4 } accuracy }'
    counted = cost(nets(text + more).train.net)
    assert [x.backward_macs for x in counted.layers if x.macs] == [32, 0]


@pytest.mark.parametrize(
    ("name", "bytes"), [("lenet", 5_169_924), ("cifar10_quick", 31_978_804)]
)  # fmt: skip
def test_caffe_memory(name: str, bytes: int) -> None:
    """What Caffe's log says of its own `lenet_train_test` and `cifar10_quick_train_test`.

    In TEST there is an accuracy, which reads the scores and the labels too: Caffe splits both.
    """
    nets = elaborate(read(name))
    assert cost(nets.train.net).caffe_bytes == bytes
    test = nets.test.net
    batch = test.batch
    same = cost(elaborate(read(name), batch=batch).train.net).caffe_bytes
    assert cost(test).caffe_bytes - same == FLOAT * (1 + 2 * 10 * batch + 2 * batch)


def test_what_is_kept_for_the_way_back(nets: Nets) -> None:
    text = """
        input "data" { shape: 3x8x8 }
        conv "a" { num_output: 4  kernel_size: 3  pad: 1  bias_term: false }
        batch_norm "b"
        relu "c"
        conv "d" { num_output: 4  kernel_size: 1 }
        flatten "e"
        fc "f" { num_output: 10 }
        softmax_loss "g"
    """
    counted = cost(nets(text).train.net)
    kept = {x.name: x.kept_bytes // FLOAT for x in counted.layers}
    image = 4 * 64
    assert kept == {
        "data": 3 * 64, "a": image, "b": 0, "c": image, "d": 0, "e": image, "f": 10, "g": 0,
    }  # fmt: skip


def test_where_a_layer_was_written(nets: Nets) -> None:
    text = """
        input "data" { shape: 3x8x8 }
        block b() {
          relu
        }
        b() b()
    """
    built = nets(text).test
    counted = cost(built.net, built.places)
    lines = [x.place.span.line for x in counted.layers if x.place]
    assert lines == [2, 4, 4]
    folded_rows = folded(counted, 1).layers
    assert [x.place.span.line for x in folded_rows if x.place] == [2, 6, 6]


def test_solver_state_is_what_the_solvers_keep() -> None:
    for type in SLOTS:
        more = ["solver.momentum=0"] if type in ("AdaGrad", "RMSProp") else []
        sets = [f"solver.type={type}", *more]
        net = elaborate(read("lenet", sets=sets)).train.net
        assert net.solver is not None
        assert len(update_rule(net.solver).slots) == SLOTS[type]
        net = elaborate(read("lenet", sets=[*sets, "solver.arithmetic=PYTORCH"])).train.net
        assert net.solver is not None
        held = training_memory(net, net.solver)
        assert held is not None
        assert held.solver == len(update_rule(net.solver).slots) * held.gradients
    sets = ["solver.iter_size=2", "solver.ema_decay=0.99"]
    plain, *others = (
        elaborate(read("resnet20", sets=given)).train.net
        for given in ([], sets[:1], sets[1:], sets)
    )
    memory = [training_memory(net, net.solver) for net in (plain, *others)]
    one, several, averaged, both = (m for m in memory if m is not None)
    weights = averaged.solver - one.solver
    assert weights == one.solver == one.gradients
    statistics = several.statistics - one.statistics
    assert averaged.statistics - one.statistics == statistics == one.statistics / 2
    assert both.statistics == 4 * statistics
    assert set(SLOTS) == set(get_args(Solver.model_fields["type"].annotation))


def test_only_images_are_made_in_blocks(nets: Nets) -> None:
    conv = 'conv "c" { bottom: ["a", "b"]  top: ["x", "y"]  num_output: 5  kernel_size: 1 }'
    for shape, blocked in (("2x4x4", True), ("2x4x4x4", False)):
        text = f'input "a" {{ shape: {shape} }}\ninput "b" {{ shape: {shape} }}\n{conv}'
        net = nets(text).test.net
        assert (cost(net, block=8).forward_bytes > cost(net, block=0).forward_bytes) == blocked
