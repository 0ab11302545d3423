"""The rules of flow, names, groups and phases, each by a spec that needs it."""

# ruff: noqa: E501 (specs as they would be written)

from __future__ import annotations

from collections.abc import Callable

import pytest

from netspec.compiler import Elaborated
from netspec.diagnostics import Diagnostics, SpecErrors
from netspec.ir.analysis import cost
from netspec.ir.backward import ways_back
from netspec.ir.layer import Phase
from netspec.ir.net import Net, Node

Nets = Callable[..., Elaborated]

IMAGE = 'input "data" { shape: 3x32x32 }\n'


def node(net: Net, name: str) -> Node:
    """The node of this name."""
    (found,) = (n for n in net.nodes if n.name == name)
    return found


def names(net: Net) -> list[str]:
    """The nodes in order."""
    return [n.name for n in net.nodes]


def edges(net: Net) -> dict[str, tuple[str, ...]]:
    """What each node reads."""
    return {n.name: n.bottoms for n in net.nodes}


def shape(net: Net, name: str) -> tuple[int, ...]:
    """The first top's shape without the batch."""
    return node(net, name).top_types[0].sample


class TestFlow:
    def test_a_layer_reads_the_current_blob_and_its_top_becomes_it(self, nets: Nets) -> None:
        net = nets(IMAGE + 'conv "c" { num_output: 8  kernel_size: 3 }\nrelu\nfc { num_output: 2 }')
        assert edges(net.test.net) == {
            "data": (), "c": ("data",), "relu1": ("c",), "fc1": ("relu1",),
        }  # fmt: skip

    def test_losses_metrics_and_heads_leave_the_flow_alone(self, nets: Nets) -> None:
        net = nets(IMAGE + "fc { num_output: 2 } accuracy softmax_loss head { relu } tanh").test.net
        assert edges(net)["tanh1"] == ("fc1",)
        assert edges(net)["head1/relu1"] == ("fc1",)
        assert edges(net)["softmax_loss1"] == ("fc1", "label")

    def test_bottom_and_top_name_edges(self, nets: Nets) -> None:
        net = nets(
            IMAGE + 'relu "r" { top: "x" }  tanh { bottom: "data"  top: "y" }\n'
            'eltwise { bottom: "x"  bottom: "y" }'
        ).test.net
        assert edges(net)["eltwise1"] == ("x", "y")
        assert node(net, "r").tops == ("x",)

    def test_a_list_of_bottoms(self, nets: Nets) -> None:
        net = nets(IMAGE + 'relu "a"  relu "b"  concat { bottom: ["a", "b"] }').test.net
        assert shape(net, "concat1") == (6, 32, 32)

    def test_an_in_place_top_stands_for_its_bottom_from_then_on(self, nets: Nets) -> None:
        net = nets(
            IMAGE + 'conv "c" { num_output: 8  kernel_size: 1 }\n'
            'relu "r" { bottom: "c"  top: "c" }\nfc { num_output: 2 }\ntanh { bottom: "c" }'
        ).test.net
        assert node(net, "r").in_place
        assert edges(net)["fc1"] == ("c",)
        assert net.outputs == ("fc1", "tanh1")

    def test_several_inputs(self, nets: Nets) -> None:
        net = nets(
            'input "image" { shape: 1x8x8 }\ninput "size" { shape: 4 }\nfc "a" { num_output: 6 }\n'
            'fc "b" { bottom: "size"  num_output: 6 }\neltwise { bottom: "a"  bottom: "b" }'
        ).test.net
        assert edges(net)["a"] == ("image",), "the first input begins the flow"
        assert list(net.inputs) == ["image", "size"]

    def test_the_label_is_implicit_or_declared(self, nets: Nets) -> None:
        implicit = nets(IMAGE + "fc { num_output: 2 } softmax_loss", batch=5).test.net
        assert implicit.label is not None
        assert implicit.inputs["label"].shape == (5,)
        declared = nets(
            'input "label" { shape: 1x8x8 }\ninput "data" { shape: 3x8x8 }\n'
            "conv { num_output: 2  kernel_size: 1 } softmax_loss"
        ).test.net
        assert declared.label is None
        assert declared.inputs["label"].shape == (1, 1, 8, 8)
        assert declared.inputs["label"].dtype == "int64"
        assert edges(declared)["conv1"] == ("data",), "a declared label does not begin the flow"

    def test_what_only_ends_a_chain_needs_a_head(self, nets: Nets) -> None:
        head = 'head "box" { bottom: "a"  fc { num_output: 4 } }'
        net = nets(IMAGE + f'fc "a" {{ num_output: 2 }}\n{head}\nsoftmax_loss').test.net
        assert edges(net)["box/fc1"] == ("a",)
        idle = 'fc "a" { num_output: 2 } fc "b" { num_output: 4 } relu { bottom: "a" } softmax_loss'
        with pytest.raises(SpecErrors, match="nothing reads `b`"):
            nets(IMAGE + idle)


class TestNames:
    def test_unnamed_layers_are_counted_named_ones_too(self, nets: Nets) -> None:
        net = nets(IMAGE + 'relu  relu "mine"  relu  tanh').test.net
        assert names(net) == ["data", "relu1", "mine", "relu3", "tanh1"]

    def test_a_block_and_a_group_are_scopes(self, nets: Nets) -> None:
        net = nets(
            IMAGE + 'block b() { relu relu }\nb() b() "x" b()\nresidual { relu }\nrelu'
        ).test.net
        assert names(net) == [
            "data", "b1/relu1", "b1/relu2", "x/relu1", "x/relu2", "b3/relu1", "b3/relu2",
            "residual1/relu1", "residual1/eltwise1", "relu1",
        ]  # fmt: skip

    def test_repeat_and_when_are_not(self, nets: Nets) -> None:
        net = nets(IMAGE + "repeat 2 { relu } when 1 < 2 { relu }").test.net
        assert names(net) == ["data", "relu1", "relu2", "relu3"]

    def test_names_are_the_same_in_both_phases(self, nets: Nets) -> None:
        both = nets(IMAGE + "relu { include { phase: TRAIN } } relu head { exclude { phase: TEST } tanh } "
                    "head { tanh } relu")  # fmt: skip
        assert names(both.test.net) == ["data", "relu2", "head2/tanh1", "relu3"]
        assert names(both.train.net) == [
            "data", "relu1", "relu2", "head1/tanh1", "head2/tanh1", "relu3",
        ]  # fmt: skip

    def test_a_label_may_be_a_path(self, nets: Nets) -> None:
        net = nets(IMAGE + 'relu "stage/one"  tanh { bottom: "stage/one" }').test.net
        assert edges(net)["tanh1"] == ("stage/one",)

    def test_bottoms_are_found_from_the_innermost_scope_outward(self, nets: Nets) -> None:
        net = nets(
            IMAGE + 'relu "a"\nblock b() { tanh "a"  sigmoid { bottom: "a" } }\nb() "x"\n'
            'block c() { sigmoid { bottom: "a" } }\nc() "y"\nelu { bottom: "x/a" }'
        ).test.net
        assert edges(net)["x/sigmoid1"] == ("x/a",)
        assert edges(net)["y/sigmoid1"] == ("a",)
        assert edges(net)["elu1"] == ("x/a",)

    def test_the_label_of_a_block_or_group_is_its_result(self, nets: Nets) -> None:
        net = nets(
            IMAGE
            + 'block b() { relu tanh }\nb() "x"\ninception "i" { branch { relu } branch {} }\n'
            'head "h" { sigmoid }\nelu { bottom: "x" }\nelu { bottom: "i" }\nelu { bottom: "h" }'
        ).test.net
        assert edges(net)["elu1"] == ("x/tanh1",)
        assert edges(net)["elu2"] == ("i/concat1",)
        assert edges(net)["elu3"] == ("h/sigmoid1",)


class TestGroups:
    def test_residual_adds_the_identity(self, nets: Nets) -> None:
        net = nets(IMAGE + 'residual "r" { conv { num_output: 3  kernel_size: 1 } relu }').test.net
        assert edges(net)["r/eltwise1"] == ("r/relu1", "data")

    def test_residual_adds_its_shortcut(self, nets: Nets) -> None:
        conv = "conv { num_output: 8  kernel_size: 1 }"
        net = nets(IMAGE + f'residual "r" {{ {conv} shortcut {{ {conv} }} relu }}').test.net
        assert edges(net)["r/conv2"] == ("data",)
        assert edges(net)["r/relu1"] == ("r/conv1",), "the shortcut leaves the body's flow alone"
        assert edges(net)["r/eltwise1"] == ("r/relu1", "r/conv2")

    def test_a_branch_without_layers_is_the_identity(self, nets: Nets) -> None:
        """DenseNet's unit; Huang et al. 2017: the maps of all that came before stay."""
        unit = "conv { num_output: 12  kernel_size: 3  pad: 1 }"
        dense = f"block unit() {{ inception {{ branch {{}} branch {{ {unit} }} }} }}\nrepeat 3 {{ unit() }}"
        net = nets(IMAGE + dense).test.net
        assert [shape(net, f"unit{i}/inception1/concat1")[0] for i in (1, 2, 3)] == [15, 27, 39]
        assert edges(net)["unit2/inception1/concat1"] == (
            "unit1/inception1/concat1", "unit2/inception1/conv1",
        )  # fmt: skip

    def test_groups_nest(self, nets: Nets) -> None:
        net = nets(IMAGE + "residual { inception { branch { residual { relu } } } }").test.net
        assert edges(net)["residual1/eltwise1"] == ("residual1/inception1/concat1", "data")

    def test_groups_may_begin_elsewhere(self, nets: Nets) -> None:
        net = nets(
            IMAGE
            + 'relu "a" tanh inception { bottom: "a" branch {} branch { bottom: "data" relu } }'
        ).test.net
        assert edges(net)["inception1/concat1"] == ("a", "inception1/relu1")
        assert edges(net)["inception1/relu1"] == ("data",)

    def test_a_part_may_be_chosen_by_when(self, nets: Nets) -> None:
        text = IMAGE + (
            "block b(wide) { residual { relu when wide { shortcut { tanh } } } }\nb(true)\nb(false)"
        )
        net = nets(text).test.net
        assert edges(net)["b1/residual1/eltwise1"] == ("b1/residual1/relu1", "b1/residual1/tanh1")
        assert edges(net)["b2/residual1/eltwise1"] == (
            "b2/residual1/relu1", "b1/residual1/eltwise1",
        )  # fmt: skip


class TestWeights:
    def test_share_reuses_the_weights_of_an_expansion(self, nets: Nets) -> None:
        text = (
            'input "a" { shape: 10 }\ninput "b" { shape: 10 }\n'
            "block side(n) { fc { num_output: n } relu fc { num_output: n } }\n"
            'side(4) "left"\nhead "h" { bottom: "b"  side(4, share: "left") "right" }'
        )
        net = nets(text).test.net
        right = [p.name for p in node(net, "h/right/fc2").parameters]
        assert right == ["left/fc2.weight", "left/fc2.bias"]
        assert sum(p.numel for p in net.parameters) == 10 * 4 + 4 + 4 * 4 + 4

    def test_share_reaches_into_inner_expansions(self, nets: Nets) -> None:
        text = (
            'input "a" { shape: 10 }\nblock inner() { fc { num_output: 10 } }\n'
            'block outer() { inner() "in" }\nouter() "one"\nouter(share: "one") "two"'
        )
        net = nets(text).test.net
        assert node(net, "two/in/fc1").parameters[0].name == "one/in/fc1.weight"

    def test_param_shares_by_name_and_sets_multipliers(self, nets: Nets) -> None:
        text = (
            'input "a" { shape: 10 }\n'
            'fc "x" { num_output: 10  param { name: "w"  lr_mult: 0 }  param { lr_mult: 2  decay_mult: 0 } }\n'
            'fc "y" { num_output: 10  param { name: "w" } }'
        )
        net = nets(text).test.net
        assert [p.name for p in net.parameters] == ["w", "x.bias", "y.bias"]
        weight, bias, _ = net.parameters
        assert weight.frozen
        assert (bias.lr_mult, bias.decay_mult) == (2, 0)
        assert node(net, "y").parameters[0].lr_mult == 0

    def test_a_solver_is_plain_data(self, nets: Nets) -> None:
        text = (
            IMAGE
            + "fc { num_output: 2 }\nsolver { type: AdaDelta  base_lr: 1  max_iter: 0  average_loss: 3 }"
        )
        for said in (text, text.replace("average_loss: 3", "momentum: 0")):
            solver = nets(said).train.net.solver
            assert solver is not None
            assert type(solver).model_validate_json(solver.model_dump_json()) == solver
            assert solver.mu == (0.95 if said is text else 0)

    def test_who_names_no_multiplier_takes_that_of_another(self, nets: Nets) -> None:
        """Caffe, `Net::AppendParam`: the first layer may leave it to the second."""
        text = (
            'input "a" { shape: 10 }\n'
            'fc "x" { num_output: 10  param { name: "w"  decay_mult: 3 } }\n'
            'fc "y" { num_output: 10  param { name: "w"  lr_mult: 0 } }\n'
            'fc "z" { num_output: 10  param { name: "w" } }'
        )
        net = nets(text).train.net
        assert net.parameters[0].frozen
        shared = [node(net, name).parameters[0] for name in "xyz"]
        assert {(p.lr_mult, p.decay_mult) for p in shared} == {(0, 3)}
        assert [p.name for p in net.parameters] == ["w", "x.bias", "y.bias", "z.bias"]

    def test_a_permissive_weight_keeps_each_layers_shape(self, nets: Nets) -> None:
        text = (
            'input "a" { shape: 8x4x4 }\n'
            'conv "x" { num_output: 6  kernel_size: 1  bias_term: false  param { name: "w" } }\n'
            'conv "y" { num_output: 8  kernel_size: 1  bias_term: false'
            '  param { name: "w"  share_mode: PERMISSIVE } }\n'
        )
        net = nets(text).test.net
        assert [(p.name, p.shape) for p in net.parameters] == [("w", (6, 8, 1, 1))]
        assert node(net, "y").parameters[0].shape == (8, 6, 1, 1)
        assert cost(net).parameters == 48

    def test_propagate_down_is_kept_where_it_stops_something(self, nets: Nets) -> None:
        text = (
            'input "a" { shape: 10 }\nfc "x" { num_output: 10  propagate_down: true }\n'
            'fc "y" { num_output: 10 }\n'
            'eltwise "z" { bottom: "x"  bottom: "y"  propagate_down: true  propagate_down: false }'
            "\nsoftmax_loss { propagate_down: [1, 0] }"
        )
        net = nets(text).train.net
        assert [n.propagate_down for n in net.nodes[1:]] == [
            (), (), (True, False), (True, False)
        ]  # fmt: skip
        ways = ways_back(net)
        assert [ways[name].weights for name in "xy"] == [True, False]
        assert ways["x"].weights
        assert not ways["y"].bottoms

    def test_loss_weight(self, nets: Nets) -> None:
        net = nets(
            IMAGE + "fc { num_output: 2 } softmax_loss { loss_weight: 0.3 } accuracy"
        ).test.net
        assert [n.loss_weight for n in net.nodes] == [0, 0, 0.3, 0]


class TestPhases:
    def test_layers_groups_and_parts_may_be_of_one_phase(self, nets: Nets) -> None:
        both = nets(
            IMAGE
            + "dropout { include { phase: TRAIN } } residual { exclude { phase: TEST } relu }\n"
            "inception { branch {} branch { include { phase: TEST } relu } } fc { num_output: 2 }"
        )
        assert names(both.test.net) == ["data", "inception1/relu1", "inception1/concat1", "fc1"]
        assert names(both.train.net) == [
            "data", "dropout1", "residual1/relu1", "residual1/eltwise1", "inception1/concat1", "fc1",
        ]  # fmt: skip
        assert shape(both.test.net, "inception1/concat1") == (6, 32, 32)

    def test_bodies_may_be_of_one_phase_and_names_stay_the_same(self, nets: Nets) -> None:
        both = nets(
            IMAGE
            + "block b() { include { phase: TRAIN } relu relu }\nrepeat 2 { include { phase: TRAIN } tanh "
            "when in.height > 1 { tanh } inception { branch {} } b() } b() tanh inception { branch {} branch {} }\n"
            "when 1 < 2 { exclude { phase: TRAIN } elu } elu"
        )
        assert names(both.test.net) == ["data", "tanh5", "inception3/concat1", "elu1", "elu2"]
        train = names(both.train.net)
        assert train[-3:] == ["tanh5", "inception3/concat1", "elu2"]
        assert "b3/relu2" in train

    def test_phases_are_filtered_before_flow(self, nets: Nets) -> None:
        both = nets(IMAGE + 'relu "a" { include { phase: TRAIN } } tanh "b"')
        assert edges(both.test.net)["b"] == ("data",)
        assert edges(both.train.net)["b"] == ("a",)

    def test_each_phase_has_its_section(self, nets: Nets) -> None:
        text = (
            'data "train" { source: "x"  batch_size: 64 }\ndata "test" { source: "y"  batch_size: 9 }\n'
            + IMAGE
            + "relu"
        )
        both = nets(text)
        assert both[Phase.TRAIN].net.data is not None
        assert (both.train.net.batch, both.test.net.batch) == (64, 9)
        assert nets(text, batch=3).train.net.batch == 3
        assert nets(IMAGE + "relu").train.net.batch == 1


def test_an_input_that_nothing_reads_gets_a_lint(nets: Nets) -> None:
    diagnostics = Diagnostics()
    text = 'input "more" { shape: 3 } fc { num_output: 2 } softmax_loss'
    nets(IMAGE + text, diagnostics=diagnostics)
    assert [lint.message for lint in diagnostics.warnings] == ["nothing reads the input `more`"]


class TestWindows:
    @pytest.mark.parametrize(
        ("fields", "rows"),
        [
            ("kernel_size: 3  stride: 2", 16), ("kernel_size: 3  stride: 2  round_mode: FLOOR", 15),
            ("kernel_size: 2  stride: 2", 16), ("kernel_size: 3  stride: 2  pad: 1", 17),
            ("kernel_size: 2  stride: 2  pad: 1", 17), ("kernel_size: 32", 1),
            ("global_pooling: true", 1),
        ],
    )  # fmt: skip
    def test_pooling_rounds_up_unless_told(self, nets: Nets, fields: str, rows: int) -> None:
        net = nets(IMAGE + f"pool {{ pool: MAX  {fields} }}").test.net
        assert shape(net, "pool1") == (3, rows, rows)

    def test_a_last_window_that_starts_in_the_padding_is_left_out(self, nets: Nets) -> None:
        """`pooling_layer.cpp`: 5 cells, window 2 by 2, pad 1: ceil gives 4 windows, the clip 3."""
        net = nets(
            'input "data" { shape: 1x5x5 } pool { kernel_size: 2  stride: 2  pad: 1 }'
        ).test.net
        assert shape(net, "pool1") == (1, 3, 3)

    @pytest.mark.parametrize(
        ("fields", "extent"),
        [
            ("kernel_size: 3  stride: 2", (15, 15)), ("kernel_size: 3x5", (30, 28)),
            ("kernel_h: 3  kernel_w: 5  pad_h: 1  stride_w: 2", (32, 14)),
            ("kernel_size: 3  dilation: 2", (28, 28)), ("kernel_size: 3  pad: [0, 1]", (30, 32)),
        ],
    )  # fmt: skip
    def test_convolution_rounds_down(
        self, nets: Nets, fields: str, extent: tuple[int, int]
    ) -> None:
        net = nets(IMAGE + f"conv {{ num_output: 8  {fields} }}").test.net
        assert shape(net, "conv1") == (8, *extent)

    def test_a_window_that_does_not_tile_its_input_gets_a_lint(self, nets: Nets) -> None:
        diagnostics = Diagnostics()
        nets(IMAGE + "conv { num_output: 8  kernel_size: 3  stride: 2 }", diagnostics=diagnostics)
        (lint,) = diagnostics.warnings
        assert lint.code == "window"
        assert lint.message == "conv1: the windows leave out the last 1 row and 1 column of 32x32"
