"""Layers that are counted but never run: what they say, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import compile_spec, compile_step, elaborate, read
from netspec.diagnostics import NetspecError, SpecErrors
from netspec.ir.analysis import cost
from netspec.ir.layer import Phase, ShapeError
from netspec.ir.types import Shape, TensorType
from netspec.layers.filter import Filter
from netspec.layers.opaque import Opaque
from netspec.report.summary import summarise

DETECTOR = """
opaque "video" {
  type: "VideoData"  top: "clip"  top: "target"
  shape { dim: [1, 3, 16, 16] }  shape { dim: [1, 10] }
}
conv "rpn" { bottom: "clip"  num_output: 8  kernel_size: 3 }
opaque "mask" { type: "Mask"  bottom: "rpn"  top: "rpn" }
opaque "proposal" { type: "Python"  shape { dim: [300, 5] } }
opaque "anchors" { type: "Anchors"  bottom: []  shape { dim: [9, 4] } }
"""

Specs = Callable[[str], Any]


@pytest.fixture
def spec(tmp_path: Path) -> Specs:
    def write(text: str) -> Any:
        path = tmp_path / "x.net"
        path.write_text(text)
        return read(str(path))

    return write


def test_it_is_counted_by_its_shapes(spec: Specs) -> None:
    net = elaborate(spec(DETECTOR)).test.net
    counted = {layer.name: layer for layer in cost(net).layers}
    assert [node.bottoms for node in net.nodes] == [(), ("clip",), ("rpn",), ("rpn",), ()]
    assert counted["video"].tops == (("clip", (3, 16, 16)), ("target", (10,)))
    assert counted["rpn"].macs == 8 * 14 * 14 * 27
    assert counted["mask"].in_place
    assert counted["proposal"].receptive is None
    assert counted["proposal"].activation_bytes == 4 * 300 * 5
    assert [counted[name].type for name in ("video", "mask", "anchors")] == [
        "VideoData", "Mask", "Anchors",
    ]  # fmt: skip
    assert not any(layer.parameters for name, layer in counted.items() if name != "rpn")


def test_what_is_behind_it_sees_nobody_knows_what(spec: Specs) -> None:
    text = """
        input "data" { shape: 3x9x9 }
        conv "near" { num_output: 3  kernel_size: 3  pad: 1 }
        opaque "far" { type: "Python" }
        eltwise "both" { bottom: "near"  bottom: "far" }
        conv "behind" { num_output: 3  kernel_size: 3 }
    """
    known = {layer.name: layer.receptive for layer in cost(elaborate(spec(text)).test.net).layers}
    assert [name for name, seen in known.items() if seen is None] == ["far", "both", "behind"]


def test_what_does_not_need_it_runs(spec: Specs) -> None:
    text = 'input "data" { shape: 4 }  fc "ip" { num_output: 2 }  opaque "p" { type: "Python" }'
    assert compile_spec(spec(text), outputs=["ip"], seed=1).difference < 1e-4
    message = "`p` is a Python layer: netspec counts it but does not run it"
    with pytest.raises(NetspecError, match=f"^{re.escape(message)}$"):
        compile_spec(spec(text), seed=1)


def test_training_says_so_too(spec: Specs) -> None:
    text = (
        'input "data" { shape: 4 }  fc "ip" { num_output: 2 }  opaque "a" { type: "InnerDistance" }'
        '  opaque "b" { type: "Python" }  softmax_loss'
    )
    message = (
        "`a` is an InnerDistance layer: netspec counts it but does not run it; "
        "the same goes for 1 more"
    )
    with pytest.raises(NetspecError, match=f"^{re.escape(message)}$"):
        compile_step(spec(text), CPU_PLAIN)
    training = summarise(elaborate(spec(text)), Phase.TRAIN, exact=True).training
    assert training is not None
    assert not training.exact, "what does not run is estimated"


def test_a_number_for_the_batch_is_a_loss_if_it_has_a_weight(spec: Specs) -> None:
    text = 'input "data" { shape: 4 }  opaque "l" { type: "Python"  shape {}  loss_weight: 2 }'
    (_, loss) = elaborate(spec(text)).train.net.nodes
    assert (loss.top_types, loss.loss_weight) == ((TensorType(()),), 2)


@pytest.mark.parametrize(
    ("dims", "bottoms", "expected"),
    [
        ([[0, 64, 7, 7]], [(2, 3, 8, 8)], [(2, 64, 7, 7)]),
        ([[0, 4, 0]], [(2, 3, 8, 8), (5,)], [(2, 4, 8)]),
        ([[300, 5], []], [(2, 3)], [(300, 5), ()]),
        ([], [(2, 3)], [(2, 3)]),
    ],
)
def test_shapes(dims: Any, bottoms: list[Shape], expected: list[Shape]) -> None:
    layer = Opaque.model_validate({"type": "Python", "shape": [{"dim": dim} for dim in dims]})
    tops = layer.infer([TensorType(shape) for shape in bottoms])
    assert [top.shape for top in tops] == expected


def test_like_its_bottoms_labels_stay_labels() -> None:
    bottoms = (TensorType((2, 3)), TensorType((2,), "int64"))
    assert Opaque(type="Python").with_tops(2).infer(bottoms) == bottoms


@pytest.mark.parametrize(
    ("dims", "bottoms", "message"),
    [
        ([[0, 0, 0]], [(2, 3)], "dim: 0 copies axis 2, but 2x3 has 2 axes"),
        ([[0]], [], "dim: 0 copies axis 0, but nothing is read"),
        ([], [(2, 3), (2,)], "1 top of 2 bottoms: the shape of each top must be given"),
        ([], [], "1 top of 0 bottoms: the shape of each top must be given"),
        ([[2**30, 2**30]], [], "more than 2^40"),
    ],
)
def test_refused(dims: Any, bottoms: list[Shape], message: str) -> None:
    layer = Opaque.model_validate({"type": "Python", "shape": [{"dim": dim} for dim in dims]})
    with pytest.raises(ShapeError, match=re.escape(message)):
        layer.infer([TensorType(shape) for shape in bottoms])


@pytest.mark.parametrize(
    ("layer", "line", "column", "message"),
    [
        ('opaque { type: "P"  top: "a"  top: "b"  shape { dim: 0 } }', 2, 36,
         "opaque makes 1 blob, not 2"),
        ('opaque { type: "P"  top: "data"  bottom: "data"  shape { dim: [0, 5] } }', 2, 26,
         "opaque makes 1x5 of `data`, which is 1x4"),
        ('opaque { type: "P"  shape { dim: [0, -1] } }', 2, 38, "must be at least 0, not -1"),
        ('opaque { shape { dim: 0 } }', 2, 1, "opaque needs `type`"),
        ('opaque { type: "P"  shape { dim: [0, 3, 0] } }', 2, 21, "dim: 0 copies axis 2"),
    ],
)  # fmt: skip
def test_faults_are_located(layer: str, line: int, column: int, message: str, spec: Specs) -> None:
    text = f'input "data" {{ shape: 4 }}\n{layer}'
    with pytest.raises(SpecErrors) as caught:
        elaborate(spec(text))
    fault, *_ = caught.value.faults
    assert message in fault.message
    assert (fault.span.line, fault.span.column) == (line, column)


def test_filter_keeps_at_most_all() -> None:
    data, label, selector = TensorType((4, 3, 8, 8)), TensorType((4,), "int64"), TensorType((4, 1))
    assert Filter().infer([data, label, selector]) == (data, label)
    with pytest.raises(ShapeError, match="one value per sample, not 3x8x8"):
        Filter().infer([label, data])
    with pytest.raises(ShapeError, match="4 samples, but a selector for 2"):
        Filter().infer([data, TensorType((2,))])


def test_hdf5_output_writes_nothing_and_leaves_the_flow(spec: Specs) -> None:
    text = """
        input "data" { shape: 4x8x8 }
        slice { top: "kept"  top: "dropped"  slice_point: 3 }
        hdf5_output "out" { bottom: "dropped"  bottom: "label"  file_name: "x.h5" }
        relu { bottom: "kept" }
    """
    assert elaborate(spec(text)).test.net.outputs == ("relu1",)
    assert compile_spec(spec(text), seed=1).outputs == ("relu1",)
