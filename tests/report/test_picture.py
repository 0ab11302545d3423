"""Pictures: what is drawn, that it stands apart from everything else, and that it is escaped."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import UsageError
from netspec.ir.net import Net
from netspec.report.layout import CELL, LINE, Placed, Rectangle, cells, name_places, place
from netspec.report.picture import MAX_NODES, Drawn, Picture, Wire, picture
from netspec.report.svg import draw

Built = Callable[[str], Net]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """`built(text)` is the net of a spec, in phase TEST."""

    def build(text: str) -> Net:
        path = tmp_path / "test.net"
        path.write_text(text)
        return elaborate(read(str(path))).test.net

    return build


def zoo(name: str) -> Net:
    return elaborate(read(name)).test.net


def shown(drawn: Picture) -> list[str]:
    return ["/".join([*node.box, node.lines[0]]) for node in drawn.nodes]


def test_a_chain_with_a_label_for_each_reader() -> None:
    drawn = picture(zoo("lenet"))
    assert shown(drawn)[:3] == ["data", "conv1", "pool1"]
    assert shown(drawn)[-2:] == ["label", "label"]
    assert drawn.nodes[1].lines == ("conv1", "conv 5x5")
    assert drawn.nodes[1].kind == "learned"
    assert "parameters 520" in drawn.nodes[1].note
    assert [(w.start, w.ends, w.text) for w in drawn.wires[:2]] == [
        (0, (1,), "1x28x28"),
        (1, (2,), "20x24x24"),
    ]


def test_a_blob_that_many_read_is_one_wire_with_many_ends() -> None:
    drawn = picture(zoo("googlenet"))
    pool2 = next(i for i, node in enumerate(drawn.nodes) if node.lines[0] == "pool2")
    (wire,) = [wire for wire in drawn.wires if wire.start == pool2]
    assert wire.text == "192x28x28"
    assert len(wire.ends) == 4


def test_layers_in_place_are_a_chain_and_what_is_read_twice_is_two_wires(built: Built) -> None:
    net = built(
        'input "x" { shape: 4 }  fc "a" { num_output: 4 }'
        '  relu "b" { bottom: "a"  top: "a" }  eltwise "c" { bottom: "a"  bottom: "a" }'
    )
    assert [(w.start, w.ends) for w in picture(net).wires] == [(0, (1,)), (1, (2,)), (2, (3, 3))]


def test_depth_draws_blocks_as_one_node() -> None:
    drawn = picture(zoo("googlenet"), depth=1)
    assert "3a" in shown(drawn)
    module = drawn.nodes[shown(drawn).index("3a")]
    assert module.kind == "block"
    assert module.lines[1] == "14 layers"
    assert "parameters 163,696" in module.note
    assert not any(wire.start in wire.ends for wire in drawn.wires)
    assert all(len(wire.ends) == len({*wire.ends}) for wire in drawn.wires)
    assert len(picture(zoo("googlenet"), depth=2).nodes) > len(drawn.nodes)


def test_a_net_too_large_to_draw_says_so(built: Built) -> None:
    net = built(f'input "x" {{ shape: 4 }}  repeat {MAX_NODES} {{ relu }}')
    with pytest.raises(UsageError, match=r"holds 1,000 nodes, and .* has 1,001; --depth 1"):
        picture(net)


def test_a_tangle_is_refused_before_it_takes_minutes(built: Built) -> None:
    def dense(layers: int) -> Net:
        text = 'input "l0" { shape: 1x4x4 }'
        for at in range(1, layers):
            read = " ".join(f'bottom: "l{i}"' for i in range(at))
            text += (
                f'\nconcat "c{at}" {{ {read} }}\nconv "l{at}" {{ num_output: 1  kernel_size: 1 }}'
            )
        return built(text)

    assert picture(dense(10)).wires
    with pytest.raises(UsageError, match="too tangled to draw: up to 400 wires side by side"):
        picture(dense(40))


@pytest.fixture(scope="module", params=["lenet", "googlenet", "resnet50", "densenet121"])
def placed(request: pytest.FixtureRequest) -> Placed:
    return place(picture(zoo(request.param)))


def meet(a: Rectangle, b: Rectangle) -> bool:
    return (
        a.x + 0.1 < b.x + b.width
        and b.x + 0.1 < a.x + a.width
        and a.y + 0.1 < b.y + b.height
        and b.y + 0.1 < a.y + a.height
    )


def test_nothing_overlaps(placed: Placed) -> None:
    names = [
        Rectangle(x, box.y + 2, CELL * cells(name), LINE)
        for (name, box), x in zip(placed.boxes, name_places(placed), strict=True)
    ]
    texts = [at for _, at in placed.texts]
    for a, b in combinations([*placed.nodes, *texts, *names], 2):
        assert not meet(a, b), (a, b)


def test_nothing_is_cut(placed: Placed) -> None:
    for at in [*placed.nodes, *(box for _, box in placed.boxes), *(at for _, at in placed.texts)]:
        assert at.x >= -0.1
        assert at.y >= -0.1
        assert at.x + at.width <= placed.width + 0.1
        assert at.y + at.height <= placed.height + 0.1


def test_a_box_holds_what_is_named_after_it(placed: Placed) -> None:
    for node, at in zip(placed.picture.nodes, placed.nodes, strict=True):
        around = [name for name, box in placed.boxes if meet(box, at)]
        assert "/".join(around) == "/".join(node.box)


def test_words_are_escaped() -> None:
    hostile = "<script>alert('&')</script>]]>\u0007"
    node = Drawn((hostile, hostile), hostile, "hidden", (hostile,))
    svg = draw(Picture(hostile, (node, node), (Wire(0, (1,), hostile),)))
    assert "<script" not in svg
    assert "\u0007" not in svg
    root = ElementTree.fromstring(svg)
    said = [element.text or "" for element in root.iter() if element.tag != f"{SVG}style"]
    assert sum("alert('&')" in text for text in said) == 9  # titles, the box, the wire, four lines


def test_a_picture_of_one_node() -> None:
    root = ElementTree.fromstring(draw(Picture("", (Drawn(("x",), "", "input"),), ())))
    assert len(root.findall(f"{SVG}g")) == 1


def test_a_picture_too_tall_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.report.layout._LARGEST", 3000)
    with pytest.raises(UsageError, match="more than 3,000 pixels; --depth 1"):
        place(picture(zoo("googlenet")))
    assert place(picture(zoo("googlenet"), depth=1)).height < 3000


def test_graphviz_says_nothing(built: Built, capfd: pytest.CaptureFixture[str]) -> None:
    place(picture(built('input "x" { shape: 4 }\nrepeat 600 { relu }')))
    assert capfd.readouterr() == ("", "")
