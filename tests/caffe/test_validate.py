"""What protobuf refuses is a located error, what it accepts is written in one way."""

from __future__ import annotations

import pytest

from netspec.caffe.validate import validate_caffe
from netspec.diagnostics import MAX_ERRORS, Diagnostics, Source, Span, SpecError
from netspec.grammar import ast
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text

NET, SOLVER = "NetParameter", "SolverParameter"


def run(
    text: str, message: str = NET, *, lenient: bool = False, bvlc_only: bool = False
) -> tuple[ast.Message | None, Diagnostics]:
    found = Diagnostics()
    tree = parse(Source("x.prototxt", text))
    valid = validate_caffe(tree, message, lenient=lenient, diagnostics=found, bvlc_only=bvlc_only)
    return valid, found


def fault(text: str, message: str = NET, *, bvlc_only: bool = False) -> SpecError:
    valid, found = run(text, message, bvlc_only=bvlc_only)
    assert valid is None
    (error,) = found.errors
    assert not found.warnings
    return error


def written(text: str, message: str = NET, *, lenient: bool = False) -> str:
    valid, found = run(text, message, lenient=lenient)
    assert not found.errors, found.errors[0]
    assert valid is not None
    return " ".join(to_text(valid).split())


def in_layer(block: str) -> str:
    return f'layer {{ name: "a" {block} }}'


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("convolution_param { num_outputs: 1 }",
         "convolution_param has no field `num_outputs`; did you mean `num_output`?",
         "num_outputs"),
        ('botom: "x"', "layer has no field `botom`; did you mean `bottom`?", "botom"),
        ("polling_param { }", "layer has no field `polling_param`; did you mean `pooling_param`?",
         "polling_param"),
        ("pooling_param { pool: AVG }",
         "pooling_param: `pool` must be MAX, AVE or STOCHASTIC, not AVG; did you mean `AVE`?",
         "AVG"),
        ("pooling_param { pool: 3 }",
         "pooling_param: `pool` must be MAX, AVE or STOCHASTIC, not 3", "3"),
        ("pooling_param { pool: -1 }",
         "pooling_param: `pool` must be MAX, AVE or STOCHASTIC, not -1", "-1"),
        ("pooling_param { pool: 1.0 }",
         "pooling_param: `pool` must be MAX, AVE or STOCHASTIC, not 1.0", "1.0"),
        ("pooling_param { stride: 2 stride: 1 }", "pooling_param: `stride` is given twice",
         "stride: 1"),
        ("pooling_param { } pooling_param { }", "layer: `pooling_param` is given twice",
         "pooling_param { } }"),
        ("pooling_param { stride: [2, 2] }",
         "pooling_param: `stride` takes one value, not a list", "[2, 2]"),
        ("convolution_param { num_output: '64' }",
         "convolution_param: `num_output` takes an integer, not '64'", "'64'"),
        ("convolution_param { pad: -1 }",
         "convolution_param: `pad` takes an integer from 0 to 4294967295, not -1", "-1"),
        ("convolution_param { pad: -0 }",
         "convolution_param: `pad` takes an integer from 0 to 4294967295, not -0", "-0"),
        ("convolution_param { pad: 4294967296 }",
         "convolution_param: `pad` takes an integer from 0 to 4294967295, not 4294967296",
         "4294967296"),
        ("convolution_param { axis: 2147483648 }",
         "convolution_param: `axis` takes an integer from -2147483648 to 2147483647, "
         "not 2147483648", "2147483648"),
        ("convolution_param { pad: 1.0 }",
         "convolution_param: `pad` takes an integer, not 1.0", "1.0"),
        ("convolution_param { pad: 1f }", "convolution_param: `pad` takes an integer, not 1f",
         "1f"),
        ("convolution_param { pad: x }", "convolution_param: `pad` takes an integer, not x", "x }"),
        ("convolution_param { pad: - - 1 }",
         "convolution_param: `pad` takes an integer, not - - 1", "- - 1"),
        ("convolution_param { pad: (1) }",
         "convolution_param: `pad` takes a plain value in a Caffe file, not the expression `(1)`",
         "(1)"),
        ("convolution_param { kernel_size: 3x3 }",
         "convolution_param: `kernel_size` takes no sizes in a Caffe file, and `3x3` is one",
         "3x3"),
        ("convolution_param { pad: [1, 2 # ,\n ,] }",
         "convolution_param: `pad` has a comma after its last value", " # ,"),
        ("param: [{ }, ]", "layer: `param` has a comma after its last value", ", ]"),
        ("convolution_param { pad: { } }", "convolution_param: `pad` takes a value, `pad: …`",
         "pad: { } }"),
        ("convolution_param { pad: [{ }] }",
         "convolution_param: `pad` takes values, not messages", "{ }]"),
        ("convolution_param { pad }", "convolution_param: `pad` takes a value, `pad: …`", "pad }"),
        ("convolution_param { bias_term: 2 }",
         "convolution_param: `bias_term` takes true or false, not 2", "2 }"),
        ("convolution_param { bias_term: TRUE }",
         "convolution_param: `bias_term` takes true or false, not TRUE", "TRUE"),
        ("convolution_param { bias_term: 'true' }",
         "convolution_param: `bias_term` takes true or false, not 'true'", "'true'"),
        ("convolution_param { bias_term: -1 }",
         "convolution_param: `bias_term` takes true or false, not -1", "-1"),
        ("convolution_param { weight_filler: 1 }",
         "convolution_param: `weight_filler` takes a message, `weight_filler { … }`", "1 }"),
        ("convolution_param { weight_filler }",
         "convolution_param: `weight_filler` takes a message, `weight_filler { … }`",
         "weight_filler }"),
        ("convolution_param { weight_filler: [{ }] }",
         "convolution_param: `weight_filler` takes a message, `weight_filler { … }`", "[{ }]"),
        ("param: [1]", "layer: `param` takes messages, not 1", "1]"),
        ("transform_param { scale: 1/255 }",
         "transform_param: `scale` takes a plain value in a Caffe file, not the expression "
         "`1/255`", "1/255"),
        ("transform_param { scale: '1' }", "transform_param: `scale` takes a number, not '1'",
         "'1'"),
        ("transform_param { scale: 0x1F }",
         "transform_param: `scale` takes a decimal number, and 0x1F is hexadecimal", "0x1F"),
        ("transform_param { scale: -010 }",
         "transform_param: `scale` takes a decimal number, and -010 is octal", "-010"),
        ("transform_param { scale: -(inf) }", "transform_param: `scale` takes a number, not -(inf)",
         "-(inf)"),
        ("transform_param { scale: in.height }",
         "transform_param: `scale` takes a number, not in.height", "in.height"),
        ("top: x", "layer: `top` takes text in quotes, not x", "x }"),
        ("top: 1", "layer: `top` takes text in quotes, not 1", "1 }"),
        ('top "x"', "layer: `top` stands without a colon before its value", 'top "x"'),
        ("clip_param { min: 0 }", "clip_param needs `max`", "{ min"),
        ("relu(1)", "`relu` is netspec's own: a Caffe file holds fields and messages only",
         "relu(1)"),
        ("repeat 2 { }", "`repeat` is netspec's own: a Caffe file holds fields and messages only",
         "repeat"),
        ("let a = 1", "`let` is netspec's own: a Caffe file holds fields and messages only",
         "let a"),
        ("when 1 < 2 { }", "`when` is netspec's own: a Caffe file holds fields and messages only",
         "when 1"),
    ],
)  # fmt: skip
def test_faults(text: str, message: str, place: str) -> None:
    text = in_layer(text)
    error = fault(text)
    assert error.message == message
    assert error.span.start == text.index(place)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('layer "conv1" { }', 'the name is a field: `layer { name: "conv1" … }`'),
        ("layer { top: x }", 'write `top: "x"`'),
        ('layer { top "x" }', 'write `top: "x"`'),
        ("layer { type: INNER_PRODUCT }", 'write `type: "InnerProduct"`'),
        ('layers { type: "ReLU" }', 'a type in quotes belongs to `layer { type: "…" }`'),
        ('layer { pooling_param { pool: "MAX" } }', "write `MAX`"),
        ("layer { crop_param { offset: 3x4 } }", "a list does: `[3, 4]`"),
        ('layer { type: "Convolution" num_output: 3 }',
         "`num_output` is a field of `convolution_param`"),
        ('layer { pooling_param { top: "x" } }',
         "`top` is a field of layer: is a `}` missing above?"),
        ("layer { layer { } }", "`layer` is a field of a Caffe net: is a `}` missing above?"),
        ("layer { quux: 1 }", "`--lenient` reads the file without it"),
        ('conv "a" { }', 'a layer of a Caffe net is written `layer { name: "…"  type: "…"  … }`'),
    ],
)  # fmt: skip
def test_hints(text: str, hint: str) -> None:
    assert fault(text).hint == hint


def test_a_field_given_twice_shows_the_first() -> None:
    error = fault("base_lr: 1\nmax_iter: 2\nbase_lr: 3", SOLVER)
    assert error.message == "a Caffe solver: `base_lr` is given twice"
    assert error.span.line == 3
    ((_, first),) = error.trail
    assert first.line == 1


def test_v1_types_are_words() -> None:
    message = "layers: `type` must be one of 45 words such as ABSVAL, not CONVOLUTON"
    error = fault("layers { type: CONVOLUTON }")
    assert error.message.partition(";")[0].split("must")[0] == message.split("must")[0]
    assert error.message.endswith("not CONVOLUTON; did you mean `CONVOLUTION`?")


def test_all_faults_are_reported() -> None:
    text = 'nam: "x" layer { top: 1 pooling_param { pool: NO stride: -1 } include { phase: A } }'
    _, found = run(text)
    assert len(found.errors) == 5


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("convolution_param { bias_term: 1 }", "convolution_param { bias_term: true }"),
        ("convolution_param { bias_term: f }", "convolution_param { bias_term: false }"),
        ("convolution_param { bias_term: True }", "convolution_param { bias_term: true }"),
        ("convolution_param { bias_term: 0x0 }", "convolution_param { bias_term: false }"),
        ("pooling_param { pool: 1 }", "pooling_param { pool: AVE }"),
        ("pooling_param { pool: 0x2 }", "pooling_param { pool: STOCHASTIC }"),
        ("hinge_loss_param { norm: 2 }", "hinge_loss_param { norm: L2 }"),
        ("convolution_param { pad: 010 }", "convolution_param { pad: 8 }"),
        ("convolution_param { pad: 0x1F }", "convolution_param { pad: 31 }"),
        ("convolution_param { axis: -0x2 }", "convolution_param { axis: -2 }"),
        ("convolution_param { axis: - 2 }", "convolution_param { axis: -2 }"),
        ("convolution_param { pad: [1, 2] }", "convolution_param { pad: 1 pad: 2 }"),
        ("convolution_param { pad: [] }", "convolution_param {}"),
        ("param: [{ lr_mult: 1 }, <lr_mult: 2>]", "param { lr_mult: 1 } param { lr_mult: 2 }"),
        ("param [{ lr_mult: 1 }]", "param { lr_mult: 1 }"),
        ("param [] top: 'x'", 'top: "x"'),
        ("pooling_param: { pool: AVE }", "pooling_param { pool: AVE }"),
        ("pooling_param < pool: AVE; stride: 1, >", "pooling_param { pool: AVE stride: 1 }"),
        ("top: 'a' \"b\"\n 'd'", 'top: "abd"'),
        (r"top: '\141\x62\'\"'", r'''top: "ab'\""'''),
        ("lrn_param { alpha: 1.5f beta: 2F k: .5 }", "lrn_param { alpha: 1.5 beta: 2 k: .5 }"),
        ("lrn_param { alpha: -1.f }", "lrn_param { alpha: -1. }"),
        ("lrn_param { alpha: 1e-4 beta: 5. k: 3 }", "lrn_param { alpha: 1e-4 beta: 5. k: 3 }"),
        ("lrn_param { alpha: Inf beta: -INFINITY k: nan }",
         "lrn_param { alpha: inf beta: -infinity k: nan }"),
        ("loss_weight: [1, .5]", "loss_weight: 1 loss_weight: .5"),
        ("propagate_down: [1, f]", "propagate_down: true propagate_down: false"),
        ("blobs { shape { dim: [1, 2] } data: [0.5, 1] }",
         "blobs { shape { dim: 1 dim: 2 } data: 0.5 data: 1 }"),
        ("clip_param { min: 0 max: 1 }", "clip_param { min: 0 max: 1 }"),
        ("pooling_param { ceil_mode: 0 }", "pooling_param { ceil_mode: false }"),
    ],
)  # fmt: skip
def test_one_way_to_write(text: str, canonical: str) -> None:
    assert written(f"layer {{ {text} }}\r\n") == f"layer {{ {canonical} }}"


def test_a_comma_in_a_comment_ends_no_list() -> None:
    valid, found = run("layer { loss_weight: [1, 2 # ,\n] }")
    assert valid is not None
    assert not found.errors


def test_v1_words_stay() -> None:
    text = "layers { type: SOFTMAX_LOSS } layers { type: 4 } layers { type: CROP }"
    expected = text.replace("4", "CONVOLUTION")
    assert written(text) == expected


def test_enum_words_of_the_solver() -> None:
    text = "solver_mode: 0 snapshot_format: HDF5 solver_type: 5 random_seed: 5000000000"
    expected = "solver_mode: CPU snapshot_format: HDF5 solver_type: ADAM random_seed: 5000000000"
    assert written(text, SOLVER) == expected


def test_a_file_in_canonical_form_is_given_back() -> None:
    text = '# a net\nname: "n"\nlayer { name: "a" param { lr_mult: 1 } } # behind\n# the end'
    tree = parse(Source("x.prototxt", text))
    assert validate_caffe(tree, NET, lenient=False, diagnostics=Diagnostics()) is tree


def test_spans_and_comments_are_kept() -> None:
    text = "# above\nlayer { # head\n  crop_param { offset: [0x1, 2] } # behind\n  # tail\n}"
    valid, _ = run(text)
    assert valid is not None
    (layer,) = valid.items
    assert isinstance(layer, ast.Element)
    assert layer.comments.before == ("above",)
    assert layer.body is not None
    assert (layer.body.head, layer.body.tail) == ("head", ("tail",))
    (crop,) = layer.body.items
    assert isinstance(crop, ast.Element)
    assert crop.body is not None
    assert crop.comments.after == "behind"
    first, second = crop.body.items
    assert isinstance(first, ast.Field)
    assert isinstance(second, ast.Field)
    assert first.value.span.start == text.index("0x1")
    assert second.value.span.start == text.index("2]")


@pytest.mark.parametrize(
    ("text", "canonical", "warning"),
    [
        ("quux: 1 top: 'x'", 'top: "x"', "layer has no field `quux`, so it is left out"),
        ("botom: 'x'", "", "layer has no field `botom`, so it is left out; did you mean `bottom`?"),
        ("quux { a { b: c } } ", "", "layer has no field `quux`, so it is left out"),
        ("type: 'A' type: 'B'", 'type: "B"', "layer: `type` is given twice; the last one counts"),
        ("crop_param { axis: 1 } crop_param { offset: 2 }", "crop_param { offset: 2 }",
         "layer: `crop_param` is given twice; the last one counts"),
        ("pooling_param { pool: NO }", "pooling_param {}",
         "pooling_param: `pool` must be MAX, AVE or STOCHASTIC, not NO; MAX counts instead"),
        ("include { phase: DEPLOY }", "include {}",
         "include: `phase` must be TRAIN or TEST, not DEPLOY; left out"),
        ("pooling_param { pool: 'AVE' }", "pooling_param { pool: AVE }",
         "pooling_param: `pool` takes a word without quotes, not 'AVE'; read as `AVE`"),
        ("pooling_param { stride: 2.0 }", "pooling_param { stride: 2 }",
         "pooling_param: `stride` takes an integer, not 2.0; read as `2`"),
        ("pooling_param { stride: '2' }", "pooling_param { stride: 2 }",
         "pooling_param: `stride` takes an integer, not '2'; read as `2`"),
        ("convolution_param { bias_term: FALSE }", "convolution_param { bias_term: false }",
         "convolution_param: `bias_term` takes true or false, not FALSE; read as `false`"),
        ("crop_param { offset: [1,] }", "crop_param { offset: 1 }",
         "crop_param: `offset` has a comma after its last value"),
        ("top: x", 'top: "x"', 'layer: `top` takes text in quotes, not x; read as `"x"`'),
        ("top 'x'", 'top: "x"', "layer: `top` stands without a colon before its value"),
        ("type: RELU", 'type: "ReLU"',
         'layer: `type` takes text in quotes, not RELU; read as `"ReLU"`'),
        ("power_param { power: 010 }", "power_param { power: 8 }",
         "power_param: `power` takes a decimal number, and 010 is octal; read as `8`"),
    ],
)  # fmt: skip
def test_lenient(text: str, canonical: str, warning: str) -> None:
    valid, found = run(f"layer {{ {text} }}", lenient=True)
    assert not found.errors
    (lint,) = found.warnings
    assert lint.message == warning
    assert valid is not None
    inner = f"{{ {canonical} }}" if canonical else "{}"
    assert " ".join(to_text(valid).split()) == f"layer {inner}"


def test_a_word_of_any_length_makes_a_short_message() -> None:
    _, found = run(f"layers {{ type: {'RELU' * 1000} }}", lenient=True)
    assert found.warnings
    assert all(len(lint.message) < 200 for lint in found.warnings)
    fault = SpecError(f"there is no `{'RELU' * 1000}`", Span(Source("x", "a"), 0, 1), code="value")
    assert len(fault.message) < 300


@pytest.mark.parametrize(
    ("text", "kept"),
    [("VIDEO", "VIDEO"), ("'Softmax'", "SOFTMAX"), ("'Scale'", "Scale"), ("'My'", "My")],
)
def test_lenient_keeps_unknown_v1_types(text: str, kept: str) -> None:
    valid, found = run(f"layers {{ type: {text} }}", lenient=True)
    assert valid is not None
    assert " ".join(to_text(valid).split()) == f"layers {{ type: {kept} }}"
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    "text",
    [
        "layer { pooling_param { stride: -1 } }",
        "layer { pooling_param { stride: 1.5 } }",
        "layer { pooling_param { stride: 1 + 1 } }",
        "layer { pooling_param: 1 }",
        "layer { clip_param { } }",
        "layer { top: 1 }",
        "relu",
        "layer { repeat 2 { } }",
    ],
)
def test_lenient_passes_over_nothing_that_matters(text: str) -> None:
    valid, found = run(text, lenient=True)
    if text == "relu":
        assert valid is not None
        assert found.warnings
    else:
        assert valid is None
        assert found.errors


@pytest.mark.parametrize(
    "text",
    [
        "pooling_param { ceil_mode: false }",
        "permute_param { order: [0, 2, 3, 1] }",
        "prior_box_param { min_size: 30 variance: [0.1, 0.1, 0.2, 0.2] }",
        "bn_param { slope_filler { } frozen: true }",
        "roi_pooling_param { pooled_w: 6 pooled_h: 6 spatial_scale: 0.0625 }",
        "shuffle_channel_param { group: 3 }",
        "interp_param { zoom_factor: 8 }",
        "loss_param { normalization: PRE_FIXED }",
    ],
)
def test_fields_of_forks_can_be_refused(text: str) -> None:
    text = in_layer(text)
    valid, found = run(text)
    assert valid is not None
    assert not found.errors
    assert not found.warnings
    assert fault(text, bvlc_only=True).code in ("field", "value")


def test_many_faults_end_soon() -> None:
    _, found = run("layer { quux: 1 }\n" * 20_000)
    assert len(found.errors) == MAX_ERRORS
    assert found.full


def test_many_layers_and_warnings_are_read() -> None:
    valid, found = run("layer { quux: 1 top: 'x' }\n" * 20_000, lenient=True)
    assert valid is not None
    assert len(valid.items) == 20_000
    assert len(found.warnings) == MAX_ERRORS


@pytest.mark.parametrize("lenient", [False, True])
def test_deep_nesting_where_nothing_nests(lenient: bool) -> None:
    text = "layer { " * 63 + "}" * 63
    valid, _ = run(text, lenient=lenient)
    assert (valid is not None) == lenient
