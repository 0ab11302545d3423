"""Caffe's schema holds together, and says what Caffe's documentation and source say."""

from __future__ import annotations

import pytest

from netspec.caffe.schema import layer_type_of_v1, layer_types, schema, suggest_layer_type
from netspec.layers import LAYERS

BVLC = """
    AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution
    Crop Data Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten
    HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit
    Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN ReLU
    Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
    SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData
"""
"""What REGISTER_LAYER_CLASS and REGISTER_LAYER_CREATOR name in BVLC/caffe @ 9b8915401."""

SCALARS = {"int32", "uint32", "int64", "float", "double", "bool", "string"}


def test_every_type_is_known() -> None:
    messages, enums = schema().messages, schema().enums
    assert not messages.keys() & enums.keys()
    for message in messages.values():
        assert message.fields
        for name, field in message.fields.items():
            assert field.name == name
            assert field.type in SCALARS | messages.keys() | enums.keys(), (message.name, field)
            assert not (field.repeated and field.required)


def test_every_message_and_enum_is_used() -> None:
    used = {"NetParameter", "SolverParameter"}
    used |= {f.type for m in schema().messages.values() for f in m.fields.values()}
    assert schema().messages.keys() | schema().enums.keys() <= used


def test_defaults_are_of_their_type() -> None:
    kinds = {"int32": int, "uint32": int, "int64": int, "float": float, "double": float}
    kinds |= {"bool": bool, "string": str}
    for message in schema().messages.values():
        for field in message.fields.values():
            if field.default is None:
                continue
            if field.type in SCALARS:
                assert type(field.default) is kinds[field.type], (message.name, field)
            else:
                assert field.default in schema().enums[field.type].words, (message.name, field)


def test_what_replaces_a_deprecated_field_exists() -> None:
    for message in schema().messages.values():
        for field in message.fields.values():
            if field.deprecated:
                layer = schema().messages["LayerParameter"].fields
                assert field.deprecated in message.fields or field.deprecated in layer


def test_numbers_of_bvlcs_words_are_distinct() -> None:
    for enum in schema().enums.values():
        numbers = [number for number in enum.words.values() if number is not None]
        assert len(numbers) == len(set(numbers)), enum.name


def test_layer_types() -> None:
    own = [kind.name for kind in layer_types().values() if kind.fork is None]
    assert len(BVLC.split()) == 61
    assert sorted(own) == sorted(BVLC.split())
    blocks = schema().messages["LayerParameter"].fields
    words = schema().enums["V1LayerType"].words
    for kind in layer_types().values():
        assert all(blocks[name].type in schema().messages for name in kind.blocks), kind
        assert kind.v1 is None or kind.v1 in words, kind
    apart = {kind.name for kind in layer_types().values() if not kind.in_place}
    assert apart == {"AbsVal", "Flatten", "Reshape", "Split"}


def test_what_our_layers_say_of_caffe() -> None:
    for layer in LAYERS.values():
        if layer.caffe is None:
            continue
        kind = layer_types()[layer.caffe.type]
        assert set(layer.caffe.also) <= layer_types().keys(), layer.keyword
        assert layer.caffe.v1 == kind.v1 or layer.caffe.v1 is None, layer.keyword
        if layer.caffe.param:
            block = schema().messages["LayerParameter"].fields[layer.caffe.param]
            assert block.type in schema().messages, layer.keyword


def test_v1_words_name_a_layer_type() -> None:
    enum = schema().enums["V1LayerType"]
    for word in enum.words:
        kind = layer_type_of_v1(word)
        assert (kind is None) == (word == "NONE"), word
    assert sum(word not in enum.forks for word in enum.words) == 40
    assert layer_type_of_v1("SOFTMAX_LOSS") is layer_types()["SoftmaxWithLoss"]
    assert enum.word(4) == "CONVOLUTION"
    assert enum.word(40) is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Convoluton", "Convolution"),
        ("InnerProdct", "InnerProduct"),
        ("relu", "ReLU"),
        ("SOFTMAX_WITH_LOSS", "SoftmaxWithLoss"),
        ("batchnorm", "BatchNorm"),
        ("RoIPooling", "ROIPooling"),
    ],
)
def test_a_mistyped_layer_type_finds_its_own(name: str, known: str) -> None:
    assert suggest_layer_type(name) == f"; did you mean `{known}`?"


def test_an_unlike_layer_type_finds_none() -> None:
    assert suggest_layer_type("Quux") == ""


@pytest.mark.parametrize(
    ("message", "field", "kind", "repeated", "default"),
    [
        ("ConvolutionParameter", "kernel_size", "uint32", True, None),
        ("ConvolutionParameter", "bias_term", "bool", False, True),
        ("ConvolutionParameter", "group", "uint32", False, 1),
        ("PoolingParameter", "kernel_size", "uint32", False, None),
        ("PoolingParameter", "round_mode", "RoundMode", False, "CEIL"),
        ("LRNParameter", "alpha", "float", False, 1.0),
        ("LRNParameter", "beta", "float", False, 0.75),
        ("BatchNormParameter", "moving_average_fraction", "float", False, 0.999),
        ("BatchNormParameter", "eps", "float", False, 1e-5),
        ("MVNParameter", "eps", "float", False, 1e-9),
        ("FlattenParameter", "end_axis", "int32", False, -1),
        ("CropParameter", "axis", "int32", False, 2),
        ("BlobShape", "dim", "int64", True, None),
        ("DataParameter", "prefetch", "uint32", False, 4),
        ("NetState", "phase", "Phase", False, "TEST"),
        ("WindowDataParameter", "fg_fraction", "float", False, 0.25),
        ("SolverParameter", "momentum2", "float", False, 0.999),
        ("SolverParameter", "clip_gradients", "float", False, -1.0),
        ("SolverParameter", "snapshot_format", "SnapshotFormat", False, "BINARYPROTO"),
        ("SolverParameter", "random_seed", "int64", False, -1),
        ("SolverParameter", "type", "string", False, "SGD"),
    ],
)
def test_fields_of_caffe(
    message: str, field: str, kind: str, repeated: bool, default: object
) -> None:
    known = schema().messages[message].fields[field]
    assert (known.type, known.repeated, known.default) == (kind, repeated, default)
    assert known.fork is None


def test_required_deprecated_and_foreign_fields() -> None:
    messages = schema().messages
    clip, concat = messages["ClipParameter"].fields, messages["ConcatParameter"].fields
    assert clip["min"].required
    assert clip["max"].required
    assert concat["concat_dim"].deprecated == "axis"
    assert messages["PoolingParameter"].fields["ceil_mode"].fork is not None
    assert messages["PriorBoxParameter"].fields["min_size"].fork == "SSD"
    assert schema().enums["V1LayerType"].forks["CROP"] == "FCN"
    assert schema().enums["NormalizationMode"].words["PRE_FIXED"] is None
