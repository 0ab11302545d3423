"""Caffe's older forms, word by word: what each becomes, and what is said of faulty ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from netspec.caffe import v0
from netspec.caffe.forms import upgrade_net, upgrade_solver
from netspec.caffe.schema import v1_types
from netspec.diagnostics import Diagnostics, Source, SpecError
from netspec.grammar.ast import Element, Message
from netspec.grammar.parser import parse


def words(text: str) -> dict[str, str]:
    """`OLD New / OLD New` → {OLD: New, …}."""
    plain = text.replace("/", " ").split()
    return dict(zip(plain[::2], plain[1::2], strict=True))


V1_TYPE = words("""
    ABSVAL AbsVal / ACCURACY Accuracy / ARGMAX ArgMax / BNLL BNLL / CONCAT Concat
    CONTRASTIVE_LOSS ContrastiveLoss / CONVOLUTION Convolution / DATA Data
    DECONVOLUTION Deconvolution / DROPOUT Dropout / DUMMY_DATA DummyData / ELTWISE Eltwise
    EUCLIDEAN_LOSS EuclideanLoss / EXP Exp / FLATTEN Flatten / HDF5_DATA HDF5Data
    HDF5_OUTPUT HDF5Output / HINGE_LOSS HingeLoss / IM2COL Im2col / IMAGE_DATA ImageData
    INFOGAIN_LOSS InfogainLoss / INNER_PRODUCT InnerProduct / LRN LRN / MEMORY_DATA MemoryData
    MULTINOMIAL_LOGISTIC_LOSS MultinomialLogisticLoss / MVN MVN / POOLING Pooling / POWER Power
    RELU ReLU / SIGMOID Sigmoid / SIGMOID_CROSS_ENTROPY_LOSS SigmoidCrossEntropyLoss
    SILENCE Silence / SLICE Slice / SOFTMAX Softmax / SOFTMAX_LOSS SoftmaxWithLoss / SPLIT Split
    TANH TanH / THRESHOLD Threshold / WINDOW_DATA WindowData
""")

V0_TYPE = words("""
    accuracy Accuracy bnll BNLL concat Concat conv Convolution data Data dropout Dropout
    euclidean_loss EuclideanLoss flatten Flatten hdf5_data HDF5Data hdf5_output HDF5Output
    im2col Im2col images ImageData infogain_loss InfogainLoss innerproduct InnerProduct lrn LRN
    multinomial_logistic_loss MultinomialLogisticLoss pool Pooling relu ReLU sigmoid Sigmoid
    softmax Softmax softmax_loss SoftmaxWithLoss split Split tanh TanH window_data WindowData
""")

V0_FIELDS = [
    ("conv", "num_output: 2", "convolution_param { num_output: 2 }"),
    ("innerproduct", "num_output: 2", "inner_product_param { num_output: 2 }"),
    ("conv", "biasterm: false", "convolution_param { bias_term: false }"),
    ("innerproduct", "biasterm: false", "inner_product_param { bias_term: false }"),
    ("conv", "weight_filler { std: 1 }", "convolution_param { weight_filler { std: 1 } }"),
    ("innerproduct", "weight_filler {}", "inner_product_param { weight_filler {} }"),
    ("conv", "bias_filler { value: 1 }", "convolution_param { bias_filler { value: 1 } }"),
    ("innerproduct", "bias_filler {}", "inner_product_param { bias_filler {} }"),
    ("conv", "pad: 2", "convolution_param { pad: 2 }"),
    ("pool", "pad: 2", "pooling_param { pad: 2 }"),
    ("conv", "kernelsize: 2", "convolution_param { kernel_size: 2 }"),
    ("pool", "kernelsize: 2", "pooling_param { kernel_size: 2 }"),
    ("conv", "stride: 2", "convolution_param { stride: 2 }"),
    ("pool", "stride: 2", "pooling_param { stride: 2 }"),
    ("conv", "group: 2", "convolution_param { group: 2 }"),
    ("pool", "pool: AVE", "pooling_param { pool: AVE }"),
    ("dropout", "dropout_ratio: 0.2", "dropout_param { dropout_ratio: 0.2 }"),
    ("lrn", "local_size: 3", "lrn_param { local_size: 3 }"),
    ("lrn", "alpha: 0.1", "lrn_param { alpha: 0.1 }"),
    ("lrn", "beta: 0.1", "lrn_param { beta: 0.1 }"),
    ("lrn", "k: 2", "lrn_param { k: 2 }"),
    ("data", 'source: "a"', 'data_param { source: "a" }'),
    ("hdf5_data", 'source: "a"', 'hdf5_data_param { source: "a" }'),
    ("images", 'source: "a"', 'image_data_param { source: "a" }'),
    ("window_data", 'source: "a"', 'window_data_param { source: "a" }'),
    ("infogain_loss", 'source: "a"', 'infogain_loss_param { source: "a" }'),
    ("data", "batchsize: 2", "data_param { batch_size: 2 }"),
    ("hdf5_data", "batchsize: 2", "hdf5_data_param { batch_size: 2 }"),
    ("images", "batchsize: 2", "image_data_param { batch_size: 2 }"),
    ("window_data", "batchsize: 2", "window_data_param { batch_size: 2 }"),
    ("data", "rand_skip: 2", "data_param { rand_skip: 2 }"),
    ("images", "rand_skip: 2", "image_data_param { rand_skip: 2 }"),
    ("images", "shuffle_images: true", "image_data_param { shuffle: true }"),
    ("images", "new_height: 2", "image_data_param { new_height: 2 }"),
    ("images", "new_width: 2", "image_data_param { new_width: 2 }"),
    ("concat", "concat_dim: 2", "concat_param { concat_dim: 2 }"),
    ("window_data", "det_fg_threshold: 0.2", "window_data_param { fg_threshold: 0.2 }"),
    ("window_data", "det_bg_threshold: 0.2", "window_data_param { bg_threshold: 0.2 }"),
    ("window_data", "det_fg_fraction: 0.2", "window_data_param { fg_fraction: 0.2 }"),
    ("window_data", "det_context_pad: 2", "window_data_param { context_pad: 2 }"),
    ("window_data", 'det_crop_mode: "square"', 'window_data_param { crop_mode: "square" }'),
    ("data", "scale: 0.2", "transform_param { scale: 0.2 }"),
    ("relu", 'meanfile: "a"', 'transform_param { mean_file: "a" }'),
    ("images", "cropsize: 2", "transform_param { crop_size: 2 }"),
    ("window_data", "mirror: true", "transform_param { mirror: true }"),
    ("hdf5_output", 'hdf5_output_param { file_name: "a" }', 'hdf5_output_param { file_name: "a" }'),
    ("conv", "blobs { num: 1 }", "blobs { num: 1 }"),
    ("conv", "blobs_lr: 1  blobs_lr: 2", "param { lr_mult: 1 } param { lr_mult: 2 }"),
    ("conv", "weight_decay: 0", "param { decay_mult: 0 }"),
]


def tree(text: str) -> Message:
    return parse(Source("net.prototxt", text))


def upgraded(text: str, *, lenient: bool = False) -> tuple[Message, Diagnostics]:
    found = Diagnostics()
    net = upgrade_net(tree(text), diagnostics=found, lenient=lenient)
    again = Diagnostics()
    if not found.errors:
        assert upgrade_net(net, diagnostics=again) == net
        assert not again.errors
        assert not again.warnings
    return net, found


def clean(text: str) -> Message:
    net, found = upgraded(text)
    assert not found.errors
    assert not found.warnings
    return net


def one(faults: list[SpecError], at: str) -> SpecError:
    """The one fault, which stands where the text says `at`."""
    (fault,) = faults
    text = fault.span.source.text
    assert text[fault.span.start : fault.span.end].startswith(at)
    return fault


def test_every_word_is_tried() -> None:
    assert set(V1_TYPE) == set(v1_types())
    assert len(v1_types()) == 39
    assert set(V0_TYPE) == set(v0.TYPES)
    tried = {field.split(":")[0].split()[0] for _, field, _ in V0_FIELDS}
    kinds = {(kind, field.split(":")[0].split()[0]) for kind, field, _ in V0_FIELDS}
    assert tried >= set(v0.BLOCKS) | set(v0.TRANSFORM)
    for field, (_, blocks) in v0.BLOCKS.items():
        assert {(kind, field) for kind in blocks} <= kinds


@pytest.mark.parametrize(("word", "name"), list(V1_TYPE.items()))
def test_v1_word(word: str, name: str) -> None:
    net = clean(f'layers {{ name: "x" type: {word} bottom: "a" top: "b" }}')
    assert net == tree(f'layer {{ name: "x" type: "{name}" bottom: "a" top: "b" }}')


@pytest.mark.parametrize(("word", "name"), list(V0_TYPE.items()))
def test_v0_word(word: str, name: str) -> None:
    net = clean(f'layers {{ layer {{ name: "x" type: "{word}" }} bottom: "a" top: "b" }}')
    assert net == tree(f'layer {{ name: "x" type: "{name}" bottom: "a" top: "b" }}')


@pytest.mark.parametrize(("kind", "field", "expected"), V0_FIELDS)
def test_v0_field(kind: str, field: str, expected: str) -> None:
    net = clean(f'layers {{ layer {{ type: "{kind}" {field} }} top: "b" }}')
    assert net == tree(f'layer {{ type: "{V0_TYPE[kind]}" {expected} top: "b" }}')


@pytest.mark.parametrize("field", ["num_output: 2", "pool: MAX", "source: 'a'", "new_num: 1"])
def test_v0_field_of_another_type(field: str) -> None:
    net, found = upgraded(f'layers {{ layer {{ type: "relu" {field} }} }}')
    assert net == tree('layer { type: "ReLU" }')
    assert "Caffe passes over" in one(found.warnings, field).message


def test_v0_passes_over_what_only_later_forms_have() -> None:
    text = "state { level: 1 } layers { layer { type: 'relu' } include { phase: TRAIN } }"
    net, found = upgraded(text)
    assert net == tree('layer { type: "ReLU" }')
    assert [fault.message for fault in found.warnings] == [
        "Caffe passes over `state` in a net of V0 layers",
        "Caffe passes over `include` in a V0 layer",
    ]


PADDED = """
layers { layer { name: "data" type: "data" } top: "data" }
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "pad" }
"""


def test_padding_is_folded() -> None:
    net = clean(
        PADDED
        + 'layers { layer { type: "conv" pad: 1 stride: 1 } bottom: "pad" top: "c" }'
        + 'layers { layer { type: "pool" } bottom: "pad" top: "p" }'
    )
    assert net == tree(
        'layer { name: "data" type: "Data" top: "data" }'
        'layer { type: "Convolution" convolution_param { stride: 1 pad: 2 }'
        ' bottom: "data" top: "c" }'
        'layer { type: "Pooling" pooling_param { pad: 2 } bottom: "data" top: "p" }'
    )


def test_padding_without_a_pad_is_zero() -> None:
    text = PADDED.replace("pad: 2", "") + 'layers { layer { type: "conv" } bottom: "pad" top: "c" }'
    assert "pad: 0" not in text
    (_, conv) = clean(text).items
    assert (
        conv
        == tree(
            'layer { type: "Convolution" convolution_param { pad: 0 } bottom: "data" top: "c" }'
        ).items[0]
    )


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            'layer { type: "relu" } bottom: "pad"',
            "pads for `conv` and `pool`; this layer is `relu`",
        ),
        ('layer { type: "conv" } bottom: "pad" bottom: "data"', "one bottom, this one 2"),
        ('layer { type: "conv" } bottom: "data" bottom: "pad"', "one bottom, this one 2"),
    ],
)
def test_padding_that_cannot_be_folded(layer: str, said: str) -> None:
    _, found = upgraded(f"{PADDED} layers {{ {layer} }}")
    (fault,) = found.errors
    assert said in fault.message
    assert fault.span.line == 4


def test_padding_of_two_blobs() -> None:
    text = PADDED.replace('top: "pad"', 'top: "pad" top: "pad2"')
    _, found = upgraded(text + 'layers { layer { type: "conv" } bottom: "pad" }')
    assert (
        found.errors[0].message
        == "a `padding` layer has one bottom and one top, this one has 1 and 2"
    )
    assert found.errors[0].span.line == 3


@pytest.mark.parametrize(
    ("layers", "at", "said"),
    [
        (
            'layers { layer { type: "cnov" } }',
            '"cnov"',
            "no V0 layer type `cnov`; did you mean `conv`",
        ),
        ('layers { layer { name: "x" } }', "layers", "a layer has no `type`"),
        ("layers { name: 'x' }", "layers", "a layer has no `type`"),
        ("layers { type: NONE }", "NONE", "a layer has no `type`"),
        ("layer { name: 'x' }", "layer", "a layer has no `type`"),
        ("layer { type: '' }", "''", "a layer has no `type`"),
        ("layers { type: CONVOLUTOIN }", "CONV", "did you mean `CONVOLUTION`?"),
        ("layers { type: 4 }", "4", "is a word, such as `CONVOLUTION`"),
        ("layers { type: 'Softmax' }", "'Soft", "a word without quotes, not `Softmax`"),
        ("layer { type: SOFTMAX_LOSS }", "SOFT", "a quoted text, not `SOFTMAX_LOSS`"),
    ],
)
def test_faulty_types_are_located(layers: str, at: str, said: str) -> None:
    _, found = upgraded(layers)
    assert said in one(found.errors, at).message


def test_hints_for_types() -> None:
    current = 'write each layer in the current form: `layer { type: "PReLU" … }`'
    hints = {
        "layers { type: 'Softmax' }": "write `type: SOFTMAX`",
        "layers { type: 'PReLU' }": current,
        "layers { type: PRELU }": current,
        "layer { type: SOFTMAX_LOSS }": 'write `type: "SoftmaxWithLoss"`',
    }
    for text, hint in hints.items():
        assert one(upgraded(text)[1].errors, "").hint == hint


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ("layers { type: 'Softmax' }", "Softmax"),
        ("layers { type: 'MyOwn' }", "MyOwn"),
        ("layers { type: CROP }", "Crop"),
        ("layers { type: PRELU }", "PReLU"),
        ("layers { type: VIDEO_DATA }", "VideoData"),
        ("layer { type: SOFTMAX_LOSS }", "SoftmaxWithLoss"),
        ("layer { type: Softmax }", "Softmax"),
    ],
)
def test_lenient_types(layers: str, name: str) -> None:
    net, found = upgraded(layers, lenient=True)
    assert not found.errors
    assert len(found.warnings) == 1
    assert net == tree(f'layer {{ type: "{name}" }}')


def test_both_forms() -> None:
    text = 'layers { type: RELU }\nlayer { type: "TanH" }\nlayers { type: BNLL }'
    _, found = upgraded(text)
    fault = one(found.errors, "layers")
    assert "this one has both" in fault.message
    assert [span.line for _, span in fault.trail] == [2]
    net, found = upgraded(text, lenient=True)
    assert not found.errors
    assert len(found.warnings) == 1
    assert net == tree('layer { type: "ReLU" } layer { type: "TanH" } layer { type: "BNLL" }')


def test_three_forms() -> None:
    text = "layers { layer { type: 'relu' } }\nlayers { type: BNLL }"
    _, found = upgraded(text)
    fault = one(found.errors, "layers")
    assert fault.span.line == 2
    net, found = upgraded(text, lenient=True)
    assert not found.errors
    assert net == tree('layer { type: "ReLU" } layer { type: "BNLL" }')


def test_params_of_v1() -> None:
    net = clean(
        "layers { type: CONVOLUTION blobs_lr: [1, 2] weight_decay: 1 weight_decay: 0"
        ' param: "w" blob_share_mode: PERMISSIVE loss_weight: 1'
        " include { phase: TRAIN } exclude { stage: 'a' } }"
    )
    assert net == tree(
        'layer { type: "Convolution"'
        ' param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 }'
        " param { lr_mult: 2 decay_mult: 0 }"
        " loss_weight: 1 include { phase: TRAIN } exclude { stage: 'a' } }"
    )


def test_short_lists_of_layers() -> None:
    net = clean("layers: [{ type: RELU }, { type: BNLL }]")
    assert net == tree('layer { type: "ReLU" } layer { type: "BNLL" }')


@pytest.mark.parametrize(
    ("word", "name", "block"),
    [
        ("DATA", "Data", "data_param"),
        ("IMAGE_DATA", "ImageData", "image_data_param"),
        ("WINDOW_DATA", "WindowData", "window_data_param"),
    ],
)
def test_transform_of_v1(word: str, name: str, block: str) -> None:
    moved = 'scale: 2 mean_file: "m" crop_size: 3 mirror: true'
    net = clean(f'layers {{ type: {word} {block} {{ source: "a" {moved} }} }}')
    assert net == tree(
        f'layer {{ type: "{name}" {block} {{ source: "a" }} transform_param {{ {moved} }} }}'
    )
    net = clean(
        f"layers {{ transform_param {{ scale: 1 mean_value: 5 }} type: {word}"
        f" {block} {{ scale: 2 }} }}"
    )
    assert net == tree(
        f'layer {{ transform_param {{ mean_value: 5 scale: 2 }} type: "{name}" {block} {{}} }}'
    )


def test_transform_of_the_current_form_does_nothing() -> None:
    text = 'layer { type: "Data" data_param { source: "a" crop_size: 3 } }'
    net, found = upgraded(text)
    assert net == tree('layer { type: "Data" data_param { source: "a" } }')
    fault = one(found.warnings, "crop_size")
    assert fault.hint == "it takes effect in `transform_param { crop_size: … }`"


INPUTS = {
    "dims": (
        'input: "a"  input_dim: 1  input_dim: 3  input_dim: 5  input_dim: 7',
        'top: "a" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } }',
    ),
    "list": (
        'input: "a"  input_dim: [1, 3, 5, 7]',
        'top: "a" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } }',
    ),
    "two": (
        'input: "a"  input: "b"  input_dim: [1, 3, 5, 7, 1, 2, 1, 1]',
        'top: "a" top: "b" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 }'
        " shape { dim: 1 dim: 2 dim: 1 dim: 1 } }",
    ),
    "shape": (
        'input: "a"  input_shape { dim: 1  dim: 3 }',
        'top: "a" input_param { shape { dim: 1 dim: 3 } }',
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(name: str) -> None:
    head, expected = INPUTS[name]
    layer = 'layer { name: "x" type: "ReLU" }'
    made = f'layer {{ name: "input" type: "Input" {expected} }}'
    assert clean(f'{head} name: "net" {layer}') == tree(f'{made} name: "net" {layer}')
    assert clean(f'name: "net" {layer} {head}') == tree(f'name: "net" {made} {layer}')
    assert clean(f"layers {{ name: 'x' type: RELU }} {head}") == tree(f"{made} {layer}")


@pytest.mark.parametrize(
    ("head", "at", "said"),
    [
        ('input: "a"', "input", "neither `input_shape` nor `input_dim`"),
        ("input_dim: 1", "input_dim", "no `input` names a blob"),
        ("input_shape { dim: 1 }", "input_shape", "no `input` names a blob"),
        ('input: "a" input_dim: [1, 2, 3, 4, 5]', "5", "beyond the 4 of 1 `input`"),
        ('input: "a" input_shape {} input_shape { dim: 2 }', "input_shape { dim", "beyond the 1"),
        ('input: "a" input_dim: 1 input_shape {}', "input_dim", "where `input_shape` is given"),
    ],
)
def test_inputs_passed_over(head: str, at: str, said: str) -> None:
    _, found = upgraded(head)
    assert not found.errors
    assert said in one(found.warnings, at).message


@pytest.mark.parametrize(
    ("head", "at", "said"),
    [
        (
            'input: "a" input_dim: [1, 2, 3]',
            "3",
            "1 `input` need 4 `input_dim`, 4 each; there are 3",
        ),
        (
            'input: "a" input: "b" input_shape {}',
            'input: "b"',
            "2 `input` need as many `input_shape`",
        ),
    ],
)
def test_inputs_without_a_shape(head: str, at: str, said: str) -> None:
    _, found = upgraded(head)
    assert said in one(found.errors, at).message


def test_statistics_are_not_trained() -> None:
    net = clean('layer { type: "BatchNorm" param { name: "m" lr_mult: 0 } param {} param {} }')
    zero = "lr_mult: 0 decay_mult: 0"
    assert net == tree(
        f'layer {{ type: "BatchNorm" param {{ name: "m" {zero} }} param {{ {zero} }}'
        f" param {{ {zero} }} }}"
    )
    net, found = upgraded('layer { type: "BatchNorm" param { lr_mult: 1 } param {} param {} }')
    assert "to 0, not 1" in one(found.warnings, "param { lr_mult").message


@pytest.mark.parametrize(
    ("params", "number", "hint"),
    [
        ("param { lr_mult: 2 }", "2", None),
        ("param { lr_mult: 0 } param {}", "1", "write `lr_mult: 0`: left out, it is 1"),
    ],
)
def test_statistics_that_would_be_trained(params: str, number: str, hint: str | None) -> None:
    _, found = upgraded(f'layer {{ type: "BatchNorm" {params} }}')
    (fault,) = found.errors
    assert fault.message == f"the statistics of a BatchNorm have `lr_mult` 0, not {number}"
    assert fault.hint == hint


def test_two_params_of_statistics_stay() -> None:
    text = 'layer { type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 0.0 } }'
    assert clean(text) == tree(text)


def test_comments_and_places_stay() -> None:
    net = tree(
        "# the net\n"
        "layers { # outer\n"
        "  # about the layer\n"
        "  layer {\n"
        '    type: "conv"\n'
        "    kernelsize: 3  # small\n"
        "    # the end\n"
        "  }\n"
        "}\n"
        'input: "a"  # the image\n'
        "input_dim: [1, 3, 5, 5]\n"
    )
    inputs, conv = upgrade_net(net, diagnostics=Diagnostics()).items
    assert isinstance(conv, Element)
    assert conv.body is not None
    assert conv.comments.before == ("the net",)
    assert conv.body.head == "outer"
    kind, block = conv.body.items
    assert kind.comments.before == ("about the layer",)
    assert isinstance(block, Element)
    assert block.body is not None
    (kernel,) = block.body.items
    assert kernel.comments.after == "small"
    assert kernel.span.line == 6
    assert conv.body.tail == ("the end",)
    assert isinstance(inputs, Element)
    assert inputs.body is not None
    assert inputs.body.items[2].comments.after == "the image"
    assert inputs.span.line == 10


SOLVERS = words(
    "SGD SGD / NESTEROV Nesterov / ADAGRAD AdaGrad"
    " / RMSPROP RMSProp / ADADELTA AdaDelta / ADAM Adam"
)


@pytest.mark.parametrize(("word", "name"), list(SOLVERS.items()))
def test_solver_type(word: str, name: str) -> None:
    found = Diagnostics()
    solver = upgrade_solver(tree(f"base_lr: 1 solver_type: {word}"), diagnostics=found)
    assert solver == tree(f'base_lr: 1 type: "{name}"')
    assert upgrade_solver(solver, diagnostics=found) == solver
    assert not found.errors


def test_faulty_solver_types() -> None:
    found = Diagnostics()
    upgrade_solver(tree('type: "SGD"\nsolver_type: SGD'), diagnostics=found)
    fault = one(found.errors, "solver_type")
    assert fault.message == "a solver has a `type` or a `solver_type`, not both"
    found = Diagnostics()
    upgrade_solver(tree("solver_type: ADAMM"), diagnostics=found)
    assert "did you mean `ADAM`?" in one(found.errors, "ADAMM").message


def test_nets_in_a_solver() -> None:
    found = Diagnostics()
    text = "net_param { layers { type: RELU } }  test_net_param { layer { type: 'ReLU' } }"
    solver = upgrade_solver(tree(text), diagnostics=found)
    layer = 'layer { type: "ReLU" }'
    assert solver == tree(f"net_param {{ {layer} }} test_net_param {{ {layer} }}")
    assert "Caffe reads the current form alone" in one(found.warnings, "net_param").message
    assert upgrade_solver(solver, diagnostics=found) == solver


CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"


@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.prototxt")), ids=lambda p: str(p.name))
def test_corpus(path: Path) -> None:
    net = parse(Source(path.name, path.read_text("utf-8", "replace")))
    found = Diagnostics()
    current = upgrade_net(net, diagnostics=found, lenient=True)
    assert not found.errors
    assert upgrade_net(current, diagnostics=found) == current
    solver = upgrade_solver(net, diagnostics=found, lenient=True)
    assert upgrade_solver(solver, diagnostics=found) == solver
    assert not found.errors
