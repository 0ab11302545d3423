"""Receptive fields: by hand, as published, and as gradients show them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod

import numpy as np
import pytest

from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.lower import lower
from netspec.codegen.simplify import simplify
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Elaborated, elaborate, read
from netspec.ir.layer import Layer, Role
from netspec.ir.net import Net
from netspec.ir.receptive import Receptive, receptive_fields
from netspec.layers import LAYERS
from netspec.runtime.device import Device
from netspec.runtime.session import make_session

Nets = Callable[..., Elaborated]


def fields(net: Net) -> dict[str, Receptive]:
    """The receptive fields that are known, by layer."""
    return {name: seen for name, seen in receptive_fields(net).items() if seen is not None}


def square(seen: Receptive) -> tuple[int, int, Fraction]:
    """Size, jump and offset of a field that is the same on both axes."""
    (size,), (jump,), (offset,) = map(set, (seen.size, seen.jump, seen.offset))
    return int(size), int(jump), offset


PUBLISHED = [
    # Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, distill.pub
    # 2019, table of models: field, effective stride and padding; VGG-16 at conv5_3 as well.
    ("alexnet", "pool5", 195, 32),
    ("vgg16", "stage5/conv3", 196, 16),
    ("vgg16", "stage5/pool1", 212, 32),
    # Their ResNet-50 has 483, since it strides at the end of a stage; with the stride in the first
    # 3x3 of a stage, as here, each of the three that stride sees cells that lie half as far apart:
    # 2 · (8 - 4) + 2 · (16 - 8) + 2 · (32 - 16) = 56 less.
    ("resnet50", "conv5/bottleneck3/relu1", 483 - 56, 32),
    ("lenet5", "S2", 6, 2),
    ("lenet5", "S4", 16, 4),
    ("lenet5", "C5/fc1", 32, 4),
]


@pytest.mark.parametrize(("name", "layer", "size", "jump"), PUBLISHED)
def test_published(name: str, layer: str, size: int, jump: int) -> None:
    assert square(fields(elaborate(read(name)).test.net)[layer])[:2] == (size, jump)


def test_by_hand(nets: Nets) -> None:
    text = """
        input "data" { shape: 3x32x48 }
        conv "a" { num_output: 4  kernel_size: 3x5  stride: [1, 2]  pad: [1, 0] }
        conv "b" { num_output: 4  kernel_size: 3  dilation: 2 }
        pool "c" { kernel_size: 2  stride: 2 }
        batch_norm "d"
        flatten "e"
        fc "f" { num_output: 10 }
        softmax_loss "loss"
    """
    found = fields(nets(text).test.net)
    assert found["data"] == Receptive((1, 1), (1, 1), (0, 0), (32, 48))
    assert found["a"] == Receptive((3, 5), (1, 2), (-1, 0), (32, 22))
    assert found["b"] == Receptive((7, 13), (1, 2), (-1, 0), (28, 18))
    assert found["c"] == found["d"] == Receptive((8, 15), (2, 4), (-1, 0), (14, 9))
    assert found["e"] == found["d"]
    assert found["f"].size == (8 + 13 * 2, 15 + 8 * 4)
    assert found["a"].offset == (0, 2)
    assert "loss" not in found


def test_over_a_volume(nets: Nets) -> None:
    """Milletari, Navab, Ahmadi: V-Net, 2016 (arXiv:1606.04797), table 1, its compression path."""
    stages = [
        f"""
        when {stage} > 1 {{ conv {{ num_output: 1  kernel_size: 2  stride: 2 }} }}
        repeat {min(stage, 3)} {{ conv {{ num_output: 1  kernel_size: 5  pad: 2 }} }}
        relu "stage{stage}"
        """
        for stage in range(1, 6)
    ]
    found = fields(nets('input "data" { shape: 1x128x128x64 }' + "".join(stages)).test.net)
    sizes = [found[f"stage{stage}"].size for stage in range(1, 6)]
    assert sizes == [(n, n, n) for n in (5, 22, 72, 172, 372)]
    assert found["stage5"].jump == (16, 16, 16)


def test_branches_see_what_the_widest_sees(nets: Nets) -> None:
    text = """
        input "data" { shape: 3x32x32 }
        inception {
          branch { conv { num_output: 4  kernel_size: 1 } }
          branch { conv { num_output: 4  kernel_size: 5  pad: 2 } }
          branch { pool { pool: MAX  kernel_size: 3  stride: 1  pad: 1 } }
        }
        residual { conv { num_output: 11  kernel_size: 3  pad: 1 } }
    """
    found = fields(nets(text).test.net)
    assert square(found["inception1/concat1"]) == (5, 1, 0)
    assert square(found["residual1/eltwise1"]) == (7, 1, 0)


def test_vectors_see_no_image(nets: Nets) -> None:
    net = nets('input "data" { shape: 8 }\nfc { num_output: 4 }\nsoftmax_loss').test.net
    assert fields(net) == {}


def test_what_enlarges_an_image_halves_the_jump() -> None:
    """A transposed 4x4 window with stride 2 and pad 1: each value sees two cells of its bottom."""
    from netspec.ir.receptive import _enlarged
    from netspec.ir.window import Window

    one = Receptive((Fraction(1),), (Fraction(1),), (Fraction(0),), (8,))
    seen = _enlarged(one, Window((4,), (2,), (1,), (1,), transposed=True))
    assert (seen.size, seen.jump, seen.offset) == ((2,), (Fraction(1, 2),), (Fraction(-1, 4),))


SPECS = ("lenet", "lenet5", "cifar10_quick", "resnet20", "alexnet", "vgg16", "googlenet",
         "resnet18", "resnet50", "squeezenet1_1")  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_as_gradients_show_them(name: str) -> None:
    """With positive weights, and only means, a centre value's gradient is non-zero exactly there.

    Looked at are the deepest layer that sees a part of the image only, and two before it.
    """
    net = _linear(elaborate(read(name), batch=1).test.net)
    found = fields(net)
    (image,) = (type for fed, type in net.inputs.items() if fed != "label")
    partial = [
        node.name
        for node in net.nodes
        if node.name in found and node.layer.window(node.bottom_types) and node.top_types[0].spatial
        and min(_inside(found[node.name], image.spatial)[1]) < min(image.spatial)
    ]  # fmt: skip
    for layer in (partial[0], partial[len(partial) // 2], partial[-1]):
        first, count = _inside(found[layer], image.spatial)
        expected = np.zeros(image.spatial, bool)
        expected[tuple(slice(a, a + n) for a, n in zip(first, count, strict=True))] = True
        assert np.array_equal(_seen(net, layer) != 0, expected), layer


def _inside(seen: Receptive, extent: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The first cell that the centre value sees, and how many, within the image."""
    begins, counts = [], []
    axes = zip(seen.first, seen.jump, seen.size, seen.cells, extent, strict=True)
    for first, jump, size, cells, n in axes:
        begin = first + (cells // 2) * jump
        begins.append(int(max(begin, 0)))
        counts.append(int(min(begin + size, n) - max(begin, 0)))
    return begins, counts


def _linear(net: Net) -> Net:
    """The net without activations and normalisation, with means for maxima."""
    kept = tuple(
        node.model_copy(update=_mean(node.layer))
        for node in net.nodes
        if node.layer.role in (Role.HIDDEN, Role.INPUT)
    )
    return net.model_copy(update={"nodes": kept, "label": None})


def _mean(layer: Layer) -> dict[str, object]:
    if layer.keyword == "pool":
        return {"layer": layer.model_copy(update={"pool": "AVE"})}
    if layer.keyword == "lrn" or layer.in_place:
        nothing = LAYERS["dropout"]()  # in TEST
        return {"layer": nothing, "parameters": (), "statistics": ()}
    return {}


def _seen(net: Net, layer: str) -> np.ndarray:
    """The gradient of one channel of the centre value, summed over the channels of the image."""
    lowered = lower(net)
    op = lowered.op
    (top,) = (node.tops[0] for node in net.nodes if node.name == layer)
    y = lowered.blobs[top]
    one = np.zeros(y.type.shape, np.float32)
    one[(0, 0, *(n // 2 for n in y.type.spatial))] = 1
    (data,) = lowered.inputs.values()
    (bar,) = grad(op, tuple(op.ops), {y: op.constant(one)}, [data])
    assert bar is not None
    graph = formulate(simplify(op.graph([bar], name="field")), CPU_PLAIN).graph
    feeds = {data.name: np.zeros(data.type.shape, np.float32)}
    for name, value in lowered.parameters.items():
        fan = prod(value.type.shape[1:])
        filled = 0 if name.endswith("bias") else 1 / fan
        feeds[value.name] = np.full(value.type.shape, filled, np.float32)
    names = {value: value.name for value in graph.inputs}
    session = make_session(emit(graph, names=names), Device("cpu"))
    wanted = {entry.name for entry in session.get_inputs()}
    (gradient,) = session.run(None, {n: a for n, a in feeds.items() if n in wanted})
    seen: np.ndarray = np.abs(gradient).sum(axis=(0, 1))
    return seen
