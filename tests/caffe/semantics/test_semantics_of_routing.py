"""Caffe's layers that move cells, and the axes of `fc`, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.diagnostics import NetspecError, SpecErrors


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("flatten", (2, 60)),
        ("flatten { axis: 2 }", (2, 3, 20)),
        ("flatten { axis: -3  end_axis: -2 }", (2, 12, 5)),
        ("flatten { axis: 0  end_axis: 1 }", (6, 4, 5)),
        ("flatten { axis: 0 }", (120,)),
        ("reshape { shape { dim: [0, -1] } }", (2, 60)),
        ("reshape { shape { dim: [-1, 20] } }", (6, 20)),
        ("reshape { shape { dim: [0, 0, 20] } }", (2, 3, 20)),
        ("reshape { axis: 1  shape { dim: [5, -1] } }", (2, 5, 12)),
        ("reshape { axis: 1  num_axes: 1  shape { dim: [1, 3] } }", (2, 1, 3, 4, 5)),
        ("reshape { axis: -2  num_axes: 1  shape { dim: [5, 1] } }", (2, 3, 4, 5, 1)),
        ("reshape { axis: -1  shape { dim: 1 } }", (2, 3, 4, 5, 1)),
        ("reshape { axis: 0  num_axes: 2  shape { dim: 6 } }", (6, 4, 5)),
        ("reshape { shape { dim: [4, 0, -1] } }", (4, 3, 10)),
        ("reshape { shape { dim: [1, -1] } }", (1, 120)),
    ],
)
def test_axes_of_reshape_and_flatten(layer: str, expected: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 4, 5)
    (y,) = net.compiled(f'input "data" {{ shape: 3x4x5 }} {layer}', {"data": x}, fixed=True)
    np.testing.assert_array_equal(y, x.reshape(expected))


def test_a_shape_that_holds_the_batch_wants_a_fixed_one(net: Any, drawn: Any) -> None:
    text = 'input "data" { shape: 12 } reshape { shape { dim: [6, 4] } }'
    with pytest.raises(SpecErrors, match="12 cells, 1x12, do not make 6x4"):
        net.shapes(text, 1)
    assert net.shapes(text, 2)["reshape1"] == (6, 4)
    text = 'input "data" { shape: 12 } reshape { shape { dim: [3, 4] } }'
    with pytest.raises(
        NetspecError, match="`reshape1` hangs on the batch size: fix it with --batch 1"
    ):
        net.compiled(text, {"data": drawn(1, 12)})


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("axis", "kept"), [(1, (2,)), (2, (2, 3)), (-1, (2, 3, 4))])
def test_inner_product_sums_from_an_axis_on(
    axis: int, kept: Any, transpose: bool, net: Any, drawn: Any
) -> None:
    x = drawn(2, 3, 4, 5)
    rows = x.reshape(*kept, -1)
    w, b = drawn(rows.shape[-1], 6), drawn(6)
    word = "true" if transpose else "false"
    text = f"""
        input "data" {{ shape: 3x4x5 }}
        fc "f" {{ num_output: 6  axis: {axis}  transpose: {word} }}
    """
    weights = {"f.weight": np.ascontiguousarray(w if transpose else w.T), "f.bias": b}
    (y,) = net.compiled(text, {"data": x}, weights=weights)
    np.testing.assert_allclose(y, rows @ w + b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ("", (2, 2, 2)),
        ("slice_point: [1, 5]", (1, 4, 1)),
        ("axis: -3  slice_point: [3, 4]", (3, 1, 2)),
    ],
)
def test_slice_points_cut_and_none_divide(fields: str, parts: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 6, 2, 2)
    text = f'input "data" {{ shape: 6x2x2 }} slice {{ top: ["a", "b", "c"]  {fields} }}'
    made = net.compiled(text, {"data": x}, outputs=["a", "b", "c"])
    assert tuple(part.shape[1] for part in made) == parts
    np.testing.assert_array_equal(np.concatenate(made, 1), x)


def test_slice_may_cut_the_batch(net: Any, drawn: Any) -> None:
    x = drawn(6, 3)
    text = 'input "data" { shape: 3 } slice { axis: 0  top: ["a", "b"] }'
    made = net.compiled(text, {"data": x}, outputs=["a", "b"], fixed=True)
    np.testing.assert_array_equal(np.stack(made), x.reshape(2, 3, 3))


def test_concat_of_one_and_along_the_batch(net: Any, drawn: Any) -> None:
    x = drawn(2, 3)
    text = """
        input "data" { shape: 3 }
        concat "one" { bottom: "data" }
        concat "two" { bottom: ["data", "one"]  axis: 0 }
    """
    one, two = net.whole(text, {"data": x}, ["one", "two"])
    np.testing.assert_array_equal(one, x)
    np.testing.assert_array_equal(two, np.concatenate([x, x]))


@pytest.mark.parametrize(
    ("fields", "starts"),
    [
        ("", (0, 0)),
        ("offset: 2", (2, 2)),
        ("offset: [1, 3]", (1, 3)),
        ("axis: 3  offset: 2", (None, 2)),
    ],
)
def test_crop_offsets(fields: str, starts: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 7, 8)
    text = f"""
        input "data" {{ shape: 3x7x8 }}
        input "like" {{ shape: 1x4x5 }}
        crop {{ bottom: "data"  bottom: "like"  {fields} }}
    """
    (y,) = net.whole(text, {"data": x, "like": drawn(2, 1, 4, 5)}, ["crop1"])
    rows = slice(None) if starts[0] is None else slice(starts[0], starts[0] + 4)
    np.testing.assert_array_equal(y, x[:, :, rows, starts[1] : starts[1] + 5])


def test_batch_reindex_picks_samples(net: Any, drawn: Any) -> None:
    x = drawn(3, 2, 2)
    text = """
        input "data" { shape: 2x2 }
        input "order" { shape: 1 }
        batch_reindex { bottom: "data"  bottom: "order" }
    """
    (y,) = net.compiled(text, {"data": x, "order": np.array([[2], [0], [2]])})
    np.testing.assert_array_equal(y, x[[2, 0, 2]])
