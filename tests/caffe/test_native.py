"""Caffe's layers, data and solvers in native words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from netspec.caffe.upgrade import Wishes
from netspec.caffe_files import upgrade
from netspec.compiler import Elaborated, elaborate, read
from netspec.diagnostics import Diagnostics, NetspecError, UsageError
from netspec.ir.layer import Phase

INPUT = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
LABELLED = """
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
            transform_param { crop_size: 8  mirror: true }
            data_param { source: "train_lmdb" batch_size: 4 backend: LMDB } }
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
            transform_param { crop_size: 8 }
            data_param { source: "val" batch_size: 2 backend: LMDB } }
"""
"""What a train_val file begins with."""


class Files:
    """Writes Caffe files and reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def write(self, text: str, name: str = "net.prototxt") -> str:
        path = self.folder / name
        path.write_text(dedent(text))
        return str(path)

    def native(self, text: str, **wishes: object) -> str:
        """The native text; what was told is kept."""
        found = Diagnostics()
        given = Wishes(**wishes) if wishes else None  # type: ignore[arg-type]
        native = upgrade(self.write(text), wishes=given, diagnostics=found)
        self.told = [lint.message for lint in found.warnings]
        return native

    def nets(self, text: str, phase: Phase = Phase.TEST, **wishes: object) -> Elaborated:
        found = Diagnostics()
        given = Wishes(**wishes) if wishes else None  # type: ignore[arg-type]
        spec = read(self.write(text), wishes=given, diagnostics=found, phase=phase)
        nets = elaborate(spec, diagnostics=found)
        self.told = [lint.message for lint in found.warnings]
        return nets


@pytest.fixture
def caffe(tmp_path: Path) -> Files:
    return Files(tmp_path)


def layer(body: str) -> Callable[[Files], str]:
    return lambda caffe: caffe.native(f"{INPUT} layer {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "native"),
    [
        (
            'name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_size: 3 stride: 1 bias_term: true }",
            'conv "c" { num_output: 4  kernel_size: 3 }',
        ),
        (
            'name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 5 pad: 0 pad: 1 "
            "engine: CUDNN axis: 1 }",
            'conv "c" { num_output: 4  kernel_size: 3x5  pad: [0, 1] }',
        ),
        (
            'name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { pool: AVE kernel_size: 2 stride: 2 ceil_mode: false }",
            'pool "p" { pool: AVE  kernel_size: 2  stride: 2  round_mode: FLOOR }',
        ),
        (
            'name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { pool: MAX kernel_size: 2 ceil_mode: true }",
            'pool "p" { kernel_size: 2 }',
        ),
        (
            'name: "b" type: "BatchNorm" bottom: "data" top: "b" '
            "param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 }",
            'batch_norm "b" { affine: false  moving_average_fraction: 0.999 }',
        ),
        (
            'name: "b" type: "BatchNorm" bottom: "data" top: "b" '
            "batch_norm_param { moving_average_fraction: 0.9 eps: 0.001 use_global_stats: true }",
            'batch_norm "b" { affine: false  moving_average_fraction: 0.9  eps: 0.001  '
            "use_global_stats: true }",
        ),
        (
            'name: "r" type: "ReLU" bottom: "data" top: "data" relu_param { negative_slope: 0.1 }',
            'relu "r" { top: "data"  negative_slope: 0.1 }',
        ),
        (
            'name: "j" type: "Concat" bottom: "data" bottom: "data" top: "j" '
            "concat_param { concat_dim: 2 }",
            'concat "j" { bottom: "data"  bottom: "data"  axis: 2 }',
        ),
        (
            'name: "f" type: "InnerProduct" bottom: "data" top: "g" '
            'param { name: "w" lr_mult: 2 } param { lr_mult: 1 decay_mult: 1 } '
            'inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } }',
            'fc "f" {\n'
            '  top: "g"  num_output: 3  weight_filler { type: gaussian  std: 0.1 }\n'
            '  param { name: "w"  lr_mult: 2 }\n}',
        ),
        (
            'name: "d" type: "DepthwiseConvolution" bottom: "data" top: "d" '
            "convolution_param { num_output: 3 kernel_size: 3 group: 3 }",
            'depthwise_conv "d" { num_output: 3  kernel_size: 3  group: 3 }',
        ),
        ('name: "s" type: "Split" bottom: "data" top: "a" top: "b"',
         'split "s" { top: "a"  top: "b" }'),
    ],
)  # fmt: skip
def test_a_layer_in_our_words(caffe: Files, body: str, native: str) -> None:
    text = layer(body)(caffe)
    assert text == f'input "data" {{ shape: 3x8x8 }}\n{native}\n'


def test_the_phases_stand_beside_each_other(caffe: Files) -> None:
    text = caffe.native(
        LABELLED
        + """
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f"
                inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
        layer { name: "acc" type: "Accuracy" bottom: "f" bottom: "label" top: "acc"
                include { phase: TEST } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" }
        """
    )
    assert text == dedent(
        """\
        data "train" {
          source: "train_lmdb"  batch_size: 4  backend: LMDB  shuffle: false
          transform { crop_size: 8  mirror: true }
        }
        data "test" { source: "val"  batch_size: 2  backend: LMDB  transform { crop_size: 8 } }
        input "data" { shape: 3x8x8 }
        fc "f" { num_output: 3  weight_filler { type: xavier } }
        accuracy "acc" { include { phase: TEST } }
        softmax_loss "loss"
        """
    )
    assert all("`data` is taken for 3x8x8" in told for told in caffe.told)
    assert len(caffe.told) == 2


def test_what_data_are_called(caffe: Files) -> None:
    text = caffe.native(
        """
        layer { name: "d" type: "Data" top: "pair" top: "sim" transform_param { crop_size: 4 }
                data_param { source: "x" batch_size: 2 force_encoded_color: true } }
        """
    )
    assert 'arrays: ["pair", "sim"]' in text
    assert "transform { crop_size: 4  force_color: true }" in text
    assert 'input "sim" { shape: [] }' in text
    net = caffe.nets(text).test.net
    assert (net.inputs["pair"].shape, net.inputs["sim"].shape) == ((2, 3, 4, 4), (2,))


def test_comments_stay(caffe: Files) -> None:
    text = caffe.native(
        """
        # the title
        name: "n"  # its name
        input: "data"  # what is fed
        input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        # above the layer
        layer {  # at the brace
          name: "c" type: "Convolution"
          bottom: "data" top: "c"
          # about the filters
          convolution_param {
            num_output: 4  # four
            kernel_size: 3
            stride: 1  # usual
          }
        }
        # the end
        """
    )
    for comment in ("the title", "its name", "what is fed", "above the layer", "at the brace",
                    "about the filters", "four", "usual", "the end"):  # fmt: skip
        assert text.count(f"# {comment}") == 1, comment


@pytest.mark.parametrize("lenient", [False, True])
def test_a_word_that_is_not_known(caffe: Files, lenient: bool) -> None:
    text = (
        INPUT
        + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c"'
        + " convolution_param { num_outputs: 4 num_output: 4 kernel_size: 3 } }"
    )
    said = "convolution_param has no field `num_outputs`; did you mean `num_output`?"
    if lenient:
        nets = caffe.nets(text, lenient=True)
        assert nets.test.net.nodes[-1].name == "c"
        assert any("num_outputs" in told for told in caffe.told)
    else:
        with pytest.raises(NetspecError) as error:
            caffe.nets(text)
        assert said in str(error.value)


UNKNOWN = (
    INPUT
    + """
    layer { name: "x" type: "Convolutoin" bottom: "data" top: "x" }
    layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 4 kernel_size: 3 } }
    """
)


def test_an_unknown_type_is_an_error(caffe: Files) -> None:
    with pytest.raises(NetspecError) as error:
        caffe.nets(UNKNOWN)
    assert "unknown layer type `Convolutoin`; did you mean `Convolution`?" in str(error.value)
    assert str(error.value).count("error[") == 1, "what hangs on it keeps silent"


def test_a_lenient_reading_leaves_out_what_has_no_shape(caffe: Files) -> None:
    nets = caffe.nets(UNKNOWN, lenient=True)
    assert [node.name for node in nets.test.net.nodes] == ["data", "c"]


def test_a_shape_keeps_an_unknown_layer(caffe: Files) -> None:
    nets = caffe.nets(UNKNOWN, lenient=True, shapes={"x": (1, 7, 5, 5)})
    names = [node.name for node in nets.test.net.nodes]
    assert names == ["data", "x", "r", "c"]
    assert nets.test.net.nodes[1].top_types[0].shape == (1, 7, 5, 5)


def test_an_unknown_layer_in_place_keeps_the_shape(caffe: Files) -> None:
    nets = caffe.nets(
        INPUT + 'layer { name: "x" type: "Odd" bottom: "data" top: "data" }', lenient=True
    )
    assert nets.test.net.nodes[-1].top_types[0].sample == (3, 8, 8)


def test_what_an_empty_message_lacks_is_said_where_it_stands(caffe: Files) -> None:
    with pytest.raises(NetspecError, match=r":1:\d+: error\[field\]: shape needs `dim`"):
        caffe.nets(
            'layer { name: "y" type: "DummyData" top: "y"'
            " dummy_data_param { shape { dim: 2 } shape { } } }"
        )


def test_a_python_layer_wants_a_shape(caffe: Files) -> None:
    text = (
        INPUT
        + 'layer { name: "p" type: "Python" bottom: "data" top: "rois"'
        + ' python_param { module: "m" layer: "L" } }'
    )
    with pytest.raises(NetspecError, match="--shape rois=… says it"):
        caffe.nets(text)
    net = caffe.nets(text, shapes={"rois": (300, 5)}).test.net
    assert net.nodes[-1].top_types[0].shape == (300, 5)


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ('type: "ImageData" image_data_param { source: "l.txt" new_height: 9 new_width: 7 }',
         (3, 9, 7)),
        ('type: "ImageData" transform_param { crop_size: 5 } image_data_param { source: "l.txt" '
         "new_height: 9 new_width: 7 is_color: false }", (1, 5, 5)),
        ('type: "MemoryData" memory_data_param { batch_size: 2 channels: 4 height: 3 width: 2 }',
         (4, 3, 2)),
        ('type: "Data" transform_param { crop_size: 5 mean_value: 1 mean_value: 2 } '
         'data_param { source: "x" }', (2, 5, 5)),
        ('type: "Data" transform_param { crop_size: 5 force_gray: true } '
         'data_param { source: "x" }', (1, 5, 5)),
        ('type: "WindowData" transform_param { crop_size: 6 } window_data_param { source: "w" }',
         (3, 6, 6)),
    ],
)  # fmt: skip
def test_the_shape_that_a_data_layer_tells(
    caffe: Files, source: str, shape: tuple[int, ...]
) -> None:
    net = caffe.nets(f'layer {{ name: "d" top: "data" top: "label" {source} }}').test.net
    assert net.inputs["data"].sample == shape


def test_data_without_a_shape_say_what_they_need(caffe: Files) -> None:
    text = 'layer { name: "d" type: "Data" top: "data" data_param { source: "x" batch_size: 2 } }'
    with pytest.raises(NetspecError, match="--shape data=3x224x224 says it"):
        caffe.nets(text)
    assert caffe.nets(text, shapes={"data": (1, 28, 28)}).test.net.inputs["data"].batch == 2


def test_a_phase_without_data_has_those_of_the_other(caffe: Files) -> None:
    text = """
        layer { name: "d" type: "Data" top: "data" include { phase: TRAIN }
                transform_param { crop_size: 8 } data_param { source: "x" batch_size: 2 } }
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f"
                inner_product_param { num_output: 3 } }
        """
    nets = caffe.nets(text)
    assert nets.test.net.inputs["data"].sample == (3, 8, 8)
    assert nets.test.net.data is None


def test_a_phase_alone_at_fault_is_left_out(caffe: Files) -> None:
    text = (
        INPUT
        + """
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { phase: TEST } }
        layer { name: "b" type: "TanH" bottom: "a" top: "b" }
        """
    )
    nets = caffe.nets(text)
    assert [n.name for n in nets.test.net.nodes] == ["data", "a", "b"]
    assert any(told.startswith("phase TRAIN is left out: there is no blob `a`")
               for told in caffe.told)  # fmt: skip
    with pytest.raises(NetspecError, match="there is no blob `a`"):
        caffe.nets(text, Phase.TRAIN)


def test_stages_and_levels_choose_layers(caffe: Files) -> None:
    text = (
        INPUT
        + """
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { stage: "s" } }
        layer { name: "b" type: "TanH" bottom: "data" top: "b" include { min_level: 2 } }
        layer { name: "c" type: "ELU" bottom: "data" top: "c" exclude { stage: "s" } }
        """
    )
    for wishes, names in (({}, "c"), ({"stages": ("s",)}, "a"), ({"level": 2}, "bc")):
        nets = caffe.nets(text, **wishes)  # type: ignore[arg-type]
        assert "".join(n.name for n in nets.test.net.nodes[1:]) == names


def test_names_may_be_repeated(caffe: Files) -> None:
    text = (
        INPUT
        + """
        layer { name: "r" type: "ReLU" bottom: "data" top: "data" }
        layer { name: "r" type: "TanH" bottom: "data" top: "data" }
        """
    )
    assert [n.name for n in caffe.nets(text).test.net.nodes] == ["data", "r", "r_2"]


def test_what_nothing_reads_is_an_output(caffe: Files) -> None:
    """Beside a loss our language would call it work for nothing."""
    text = (
        LABELLED
        + """
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f"
                inner_product_param { num_output: 3 } }
        layer { name: "prob" type: "Softmax" bottom: "f" top: "prob" include { phase: TEST } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" }
        """
    )
    assert 'head "end1" { include { phase: TEST }  bottom: "prob" }' in caffe.native(text)
    assert "prob" in caffe.nets(text).test.net.outputs


def test_a_loss_makes_fillers_count(caffe: Files) -> None:
    text = (
        'layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" '
        "inner_product_param { num_output: 3 } }\n"
    )
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "l" }'
    assert "weight_filler" not in caffe.native(INPUT + text)
    assert "weight_filler { type: constant }" in caffe.native(LABELLED + text + loss)


SOLVER = """
    net: "net.prototxt"
    test_iter: 3 test_interval: 10 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 5
    max_iter: 20 momentum: 0.9 weight_decay: 0.0005 display: 7 snapshot: 10 snapshot_prefix: "x"
    solver_mode: CPU
"""


def test_a_solver_brings_its_net(caffe: Files) -> None:
    caffe.write(INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    path = caffe.write(SOLVER, "solver.prototxt")
    text = upgrade(path)
    assert text.startswith('input "data" { shape: 3x8x8 }\nrelu "r"\n')
    solver = elaborate(read(path)).train.net.solver
    assert solver is not None
    assert (solver.test_iter, solver.test_interval, solver.max_iter) == (3, 10, 20)
    assert solver.test_initialization, "as in Caffe, unless it says otherwise"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('type: "Adam"', {"momentum": 0.0, "type": "Adam"}),
        ("solver_type: ADAM momentum: 0.5", {"momentum": 0.5, "type": "Adam"}),
        ('type: "AdaDelta" momentum: 0.95', {"type": "AdaDelta", "mu": 0.95}),
        ("", {"test_interval": 0, "test_initialization": False}),
        ("test_interval: 5 test_iter: 1 test_initialization: false",
         {"test_interval": 5, "test_initialization": False}),
        ("clip_gradients: 35 iter_size: 2", {"clip_gradients": 35.0, "iter_size": 2}),
        ("random_seed: -1", {"random_seed": -1}),
        ('regularization_type: "L1"', {"regularization_type": "L1"}),
    ],
)  # fmt: skip
def test_what_a_solver_means(caffe: Files, said: str, meant: dict[str, object]) -> None:
    net = INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
    body = f'net_param {{ {net} }} base_lr: 0.1 lr_policy: "fixed" max_iter: 5 {said}'
    nets = elaborate(read(caffe.write(body, "solver.prototxt")))
    solver = nets.train.net.solver
    assert solver is not None
    assert {key: getattr(solver, key) for key in meant} == meant


def test_a_solver_whose_net_is_not_there(caffe: Files) -> None:
    path = caffe.write(SOLVER.replace("net.prototxt", "gone.prototxt"), "solver.prototxt")
    with pytest.raises(NetspecError, match=r"there is no `gone\.prototxt`"):
        read(path)
    found = Diagnostics()
    nets = elaborate(read(path, wishes=Wishes(lenient=True), diagnostics=found))
    assert nets.train.net.solver is not None
    assert not nets.train.net.nodes


def test_a_source_whose_name_no_file_can_have(caffe: Files) -> None:
    text = """
        layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 5 }
                data_param { source: "LONG" batch_size: 2 } }
        layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
        """
    for long in ("n" * 5000, "a\\0b"):
        assert caffe.nets(text.replace("LONG", long)).test.net.inputs["data"].batch == 2


def test_numbers_are_no_images(caffe: Files) -> None:
    text = """
        input "data" { shape: [] }
        data "train" { batch_size: 2  transform { WISH } }
        data "test" { batch_size: 2 }
        """
    for wish, said in (("crop_size: 3", "crop_size 3 does not give the 1 of `data`"),
                       ("pad: 1", "pad 1 leaves nothing of the input `data`")):  # fmt: skip
        with pytest.raises(NetspecError, match=said):
            caffe.nets(text.replace("WISH", wish) + "power\n")


def test_a_solver_shows_no_other_files(caffe: Files) -> None:
    (caffe.folder / "secret").write_text("password: 123")
    path = caffe.write(SOLVER.replace("net.prototxt", "secret"), "solver.prototxt")
    with pytest.raises(NetspecError, match="the file of a net ends in") as error:
        read(path)
    assert "123" not in str(error.value)


def test_data_that_cannot_be_read_tell_no_shape(caffe: Files) -> None:
    (caffe.folder / "data").mkdir()
    (caffe.folder / "data" / "data.mdb").write_bytes(b"nothing")
    text = """
        layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 5 }
                data_param { source: "data" batch_size: 2 } }
        layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
        """
    assert caffe.nets(text).test.net.inputs["data"].sample == (3, 5, 5)
    assert any("data.mdb" in told for told in caffe.told)


def test_files_in_the_wrong_place(caffe: Files) -> None:
    net = caffe.write(INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    solver = caffe.write(SOLVER, "solver.prototxt")
    native = caffe.write('input "data" { shape: 3 }\nrelu\n', "native.net")
    with pytest.raises(UsageError, match="in this order"):
        upgrade(solver, net)
    with pytest.raises(UsageError, match="is no Caffe file"):
        upgrade(native)
    with pytest.raises(UsageError, match="is no Caffe file"):
        read(native, wishes=Wishes(lenient=True))
