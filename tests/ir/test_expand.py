"""`expand` prints a net as flat text that builds the same net again, in both phases."""

# ruff: noqa: E501 (a spec a line)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec import zoo
from netspec.compiler import Elaborated, elaborate, read
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.printer import flatten
from netspec.layers import LAYERS

Nets = Callable[..., Elaborated]

IMAGE = 'input "data" { shape: 3x16x16 }\n'
LIMIT = 40_000
"""Characters of a golden text."""


def expand(built: Elaborated) -> str:
    """The nets as flat text."""
    return to_text(flatten(built.test.net, built.train.net))


def equal(one: Elaborated, other: Elaborated) -> None:
    """Both nets are the same, to the last field."""
    for phase in ("test", "train"):
        before, after = (getattr(built, phase).net for built in (one, other))
        assert before.model_dump() == after.model_dump()


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo(name: str, nets: Nets, golden: Callable[[str, str], None]) -> None:
    built = elaborate(read(name))
    text = expand(built)
    equal(built, nets(text))
    assert expand(nets(text)) == text, "flat text stays as it is"
    if len(text) <= LIMIT:
        golden(f"{name}.expand.net", text)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_example_of_every_layer(name: str, nets: Nets) -> None:
    built = nets(LAYERS[name].example)
    equal(built, nets(expand(built)))


ODD = {
    "equal entries": 'input "a" { shape: [4, 4] }  fc "f" { num_output: 3 }  fc "g" { bottom: "a"  '
    'num_output: 3 }  eltwise { bottom: "f"  bottom: "g"  coeff: [2, 2] }',
    "phases": "relu { include { phase: TRAIN } } tanh { exclude { phase: TRAIN } } fc { num_output: 2 } softmax_loss",
    "one name, two layers": 'relu "a" { include { phase: TRAIN } } tanh "a" { include { phase: TEST } } elu',
    "two orders": 'relu "a" { include { phase: TRAIN } } relu "b" { include { phase: TRAIN } } '
    'relu "b" { include { phase: TEST } } relu "a" { include { phase: TEST } } tanh',
    "phase of a block": "block b() { relu { include { phase: TRAIN } } } b() fc { num_output: 2 } softmax_loss",
    "in place": 'conv "c" { num_output: 3  kernel_size: 1 } relu { bottom: "c"  top: "c" } fc { num_output: 2 }',
    "tops": 'slice { top: ["a", "b", "c"] } eltwise { bottom: "a"  bottom: "c"  coeff: [1, -0.5] }',
    "fillers": "conv { num_output: 3  kernel_size: 1  weight_filler { type: constant } "
    "bias_filler { type: constant  value: 0.5 } } fc { num_output: 2  bias_filler {} weight_filler {} }",
    "shared weights": 'fc "x" { num_output: 768  param {} param { name: "b"  decay_mult: 0 } } '
    'fc "y" { num_output: 768  param { name: "x.weight" } param { name: "b" } }',
    "weights of another shape": 'conv { num_output: 6  kernel_size: 1  bias_term: false  param { name: "w"  lr_mult: 2 } } '
    'conv { num_output: 3  kernel_size: 1  bias_term: false  param { name: "w"  share_mode: PERMISSIVE } }',
    "gradients stopped": 'relu "a" tanh "b" eltwise { bottom: "a"  bottom: "b"  propagate_down: [false, true] } '
    "fc { num_output: 2 } softmax_loss { propagate_down: true  propagate_down: false }",
    "all of a solver": "relu solver { type: Nesterov  arithmetic: CAFFE  base_lr: 0.5  momentum: 0  delta: 1e-6  rms_decay: 0.5 "
    "lr_policy: sigmoid  gamma: -0.1  stepsize: 9  clip_gradients: 35  iter_size: 4  max_iter: 0  test_interval: 0  test_iter: 7 "
    'test_initialization: true  display: 0  average_loss: 20  snapshot: 500  snapshot_prefix: "a/b"  snapshot_format: HDF5 '
    "snapshot_after_train: false  random_seed: -1  regularization_type: L1  weight_decay: 1 }",
    "Adam without momentum": "relu solver { type: Adam  arithmetic: PYTORCH  base_lr: 0.5  momentum: 0  max_epoch: 1 }",
    "share": 'block b() { fc { num_output: 768 } relu } b() "one" b(share: "one") "two"',
    "frozen": "fc { num_output: 2  param { lr_mult: 0 } } softmax_loss { loss_weight: 0 }",
    "windows": "conv { num_output: 3  kernel_size: 3x5  pad: [0, 2]  stride: [1, 2] } pool { kernel_size: 2 }",
    "dense": "repeat 3 { inception { branch {} branch { conv { num_output: 4  kernel_size: 1 } } } }",
    "shortcut": "residual { relu shortcut { tanh } } residual { conv { num_output: 3  kernel_size: 1 } }",
    "heads": 'relu "a" head "h" { fc { num_output: 2 } softmax_loss } fc { num_output: 3 } softmax_loss',
    "heads without a loss": 'relu "end1" head { fc { num_output: 4 } } head { fc { num_output: 2 } softmax_loss } tanh',
    "a head of one phase": "head { exclude { phase: TRAIN } tanh } fc { num_output: 2 } softmax_loss",
    "train head": "head { include { phase: TRAIN } fc { num_output: 2 } softmax_loss } fc { num_output: 3 }",
    "several inputs": 'input "more" { shape: 7 } relu head { bottom: "more"  fc { num_output: 3 } }',
    "two losses": "fc { num_output: 3 } softmax_loss softmax_loss { loss_weight: 1/3 } accuracy { top_k: 2 }",
    "declared label": 'input "label" { shape: 1x16x16 } conv { num_output: 2  kernel_size: 1 } softmax_loss',
    "reshape": "reshape { shape { dim: 0  dim: -1 } } fc { num_output: 3 } flatten",
    "numbers": "lrn { alpha: 1e-7  beta: 3/4 } dropout { dropout_ratio: 1/3 } relu { negative_slope: -1e20 }",
    "sections": 'data "train" { source: "a b/\\"c"  batch_size: 3  shuffle: false  transform { std: [1, 2, 3]  mean_value: [-1, 2.5, 0] } } '
    "relu solver { base_lr: 1e-3  max_iter: 9  lr_policy: multistep  gamma: 0.1  stepvalue: [1, 2] }",
    "caffe's sums": "batch_norm { affine: false  moving_average_fraction: 0.9 } relu",
    "loss weights": 'slice { top: ["a", "b", "c"]  loss_weight: [0, 2, 1/2] } fc { bottom: "a"  num_output: 2  loss_weight: 3 } '
    'silence { bottom: "b"  bottom: "c" }',
    "more tops": 'pool { kernel_size: 2  top: ["p", "mask"] } silence { bottom: "mask" } fc { bottom: "p"  num_output: 3 } '
    'softmax_loss { top: ["l", "prob"] } accuracy { bottom: "prob"  top: ["a", "each"] }',
    "no way back": 'relu "a" eltwise { bottom: "a"  bottom: "a"  propagate_down: [true, false] }',
    "another shape": 'fc { num_output: 4  param { name: "w" } } fc { num_output: 768  param { name: "w"  share_mode: PERMISSIVE } }',
    "sources": 'dummy_data "d" { top: ["x", "y"]  shape { dim: [2, 3] }  data_filler { value: 1 }  data_filler { type: gaussian  sparse: 1 } } '
    'parameter "p" { shape: 2x3 } eltwise { bottom: ["x", "y", "p"] }',
    "a name": 'name: "Größe \\"1\\""  relu',
}  # fmt: skip


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_ones(text: str, nets: Nets) -> None:
    built = nets(IMAGE + text)
    equal(built, nets(expand(built)))


def test_flat_text_holds_no_blocks(tmp_path: Path) -> None:
    text = expand(elaborate(read("resnet20")))
    words = {getattr(item, "word", type(item).__name__) for item in parse_text(text)}
    assert words <= {*LAYERS, "data", "solver", "Field"}
    assert tmp_path.exists()


def parse_text(text: str) -> tuple[object, ...]:
    """The items of a text."""
    from netspec.diagnostics import Source

    return parse(Source("x.net", text)).items
