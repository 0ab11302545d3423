"""Caffe's losses and metrics: normalisation, ignored labels, ties, labels as floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_accuracy_ties_count_against_the_label(net: Any) -> None:
    scores = np.array([[1, 1, 1], [2, 2, 1], [3, 2, 1], [1, 2, 3]])
    text = """
        input "data" { shape: 3 }
        accuracy "one" { bottom: "data"  bottom: "label" }
        accuracy "two" { bottom: "data"  bottom: "label"  top_k: 2 }
    """
    one, two = net.whole(text, {"data": scores, "label": np.zeros(4)}, ["one", "two"])
    assert (float(one), float(two)) == (0.25, 0.5)


def test_accuracy_of_each_class(net: Any) -> None:
    scores = np.eye(4)[[0, 1, 2, 0, 1, 1]]
    label = np.array([0, 1, 1, 2, 1, -1])
    text = """
        input "data" { shape: 4 }
        accuracy "a" { bottom: "data"  bottom: "label"  top: ["a", "each"]  ignore_label: -1 }
    """
    a, each = net.whole(text, {"data": scores, "label": label}, ["a", "each"])
    assert float(a) == pytest.approx(3 / 5)
    np.testing.assert_allclose(each, [1, 2 / 3, 0, 0])


NORMALS = {"VALID": 11.0, "FULL": 12.0, "BATCH_SIZE": 2.0, "NONE": 1.0}


@pytest.mark.parametrize(
    ("fields", "by"),
    [(f"normalization: {name}", by) for name, by in NORMALS.items()]
    + [("", 11.0), ("normalize: false", 2.0), ("normalize: true", 11.0),
       ("normalize: false  normalization: FULL", 12.0)],
)  # fmt: skip
def test_softmax_loss_normalisation_and_ignored_labels(
    fields: str, by: float, net: Any, drawn: Any
) -> None:
    scores = drawn(2, 4, 2, 3)
    label = np.arange(12).reshape(2, 2, 3) % 4
    label[1, 0, 2] = 9
    text = f"""
        input "data" {{ shape: 4x2x3 }}
        input "label" {{ shape: 2x3 }}
        softmax_loss "l" {{ bottom: "data"  bottom: "label"  ignore_label: 9  {fields}
                           top: ["l", "prob"] }}
    """
    loss, prob = net.whole(text, {"data": scores, "label": label}, ["l", "prob"])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(prob, p, rtol=1e-5)
    own = np.take_along_axis(p, np.minimum(label, 3)[:, None], 1)[:, 0]
    assert float(loss) == pytest.approx(-np.log(own)[label != 9].sum() / by, rel=1e-5)


def test_all_labels_ignored_is_no_loss(net: Any, drawn: Any) -> None:
    text = """
        input "data" { shape: 3 }
        softmax_loss "l" { bottom: ["data", "label"]  ignore_label: 1 }
    """
    (loss,) = net.whole(text, {"data": drawn(4, 3), "label": np.ones(4)}, ["l"])
    assert float(loss) == 0


def test_a_sample_is_what_lies_before_the_classes(net: Any, drawn: Any) -> None:
    scores, label = drawn(5, 2, 3), np.arange(10).reshape(5, 2) % 3
    text = """
        input "data" { shape: 2x3 }
        input "label" { shape: 2 }
        softmax_loss "l" { bottom: "data"  bottom: "label"  axis: 2  normalization: BATCH_SIZE }
    """
    (loss,) = net.whole(text, {"data": scores, "label": label}, ["l"])
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    own = np.take_along_axis(p, label[..., None], 2)
    assert float(loss) == pytest.approx(-np.log(own).sum() / 10, rel=1e-5)


def test_labels_may_be_floats(net: Any, drawn: Any) -> None:
    scores, label = drawn(4, 3), np.array([0, 2, 1, 2])
    text = """
        input "data" { shape: 3 }
        input "target" { shape: 1 }
        softmax_loss "l" { bottom: "data"  bottom: "target" }
        accuracy "a" { bottom: "data"  bottom: "target" }
    """
    loss, right = net.whole(text, {"data": scores, "target": label[:, None]}, ["l", "a"])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(p[np.arange(4), label]).mean(), rel=1e-5)
    assert float(right) == pytest.approx((scores.argmax(1) == label).mean())


def test_labels_may_be_counted(net: Any, drawn: Any) -> None:
    x, label = drawn(4, 1), np.array([[0, 2], [1, 1], [3, 0], [2, 2]])
    head = """
        input "data" { shape: 1 }
        input "label" { shape: 2 }
        slice { bottom: "label"  top: ["first", "second"] }
    """
    loss = 'euclidean_loss "l" { bottom: "data"  bottom: "first" } silence { bottom: "second" }'
    (loss,) = net.whole(head + loss, {"data": x, "label": label}, ["l"])
    assert float(loss) == pytest.approx(((x - label[:, :1]) ** 2).sum() / 8, rel=1e-5)
    text = (
        head
        + """
        concat "both" { bottom: ["data", "second"] }
        power "half" { bottom: "label"  scale: 0.5 }
        eltwise "sum" { bottom: ["first", "second"] }
        flatten "flat" { bottom: "label" }
    """
    )
    wanted = ["both", "half", "sum", "flat"]
    both, half, total, flat = net.whole(text, {"data": x, "label": label}, wanted)
    np.testing.assert_allclose(both, np.concatenate([x, label[:, 1:]], 1))
    np.testing.assert_allclose(half, label / 2)
    np.testing.assert_allclose(total, label.sum(1, keepdims=True))
    np.testing.assert_array_equal(flat, label)


def test_sigmoid_loss_divides_by_the_batch_and_ignores(net: Any, drawn: Any) -> None:
    x, target = drawn(4, 3), np.array([[0, 1, 1], [1, 0, -1], [0, 0, 1], [1, 1, 1]], float)
    each = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * target
    for fields, by in (("", 4), ("normalization: VALID", 11), ("normalize: true", 11)):
        text = f"""
            input "data" {{ shape: 3 }}
            input "target" {{ shape: 3 }}
            sigmoid_loss "l" {{ bottom: "data"  bottom: "target"  ignore_label: -1  {fields} }}
        """
        (loss,) = net.whole(text, {"data": x, "target": target}, ["l"])
        assert float(loss) == pytest.approx(each[target >= 0].sum() / by, rel=1e-5)


@pytest.mark.parametrize("each", [False, True])
def test_infogain_of_a_third_bottom(each: bool, net: Any, drawn: Any) -> None:
    scores, label, h = drawn(2, 3), np.array([2, 0]), np.abs(drawn(2 if each else 1, 3, 3))
    shape = "2x3x3" if each else "1x1x3x3"
    text = f"""
        input "data" {{ shape: 3 }}
        parameter "h" {{ shape: {shape} }}
        infogain_loss "l" {{ bottom: ["data", "label", "h"] }}
    """
    given = {"h.weight": h.reshape(tuple(map(int, shape.split("x"))))}
    (loss,) = net.whole(text, {"data": scores, "label": label}, ["l"], given=given)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    rows = np.stack([h[i if each else 0, label[i]] for i in range(2)])
    assert float(loss) == pytest.approx(-(rows * logs).sum() / 2, rel=1e-5)


def test_contrastive_loss_of_either_version(net: Any, drawn: Any) -> None:
    a, b, alike = drawn(6, 3), drawn(6, 3), np.array([1, 0, 0, 1, 0, 0])
    square = ((a - b) ** 2).sum(1)
    for legacy, far in (
        (False, np.maximum(2 - np.sqrt(square), 0) ** 2),
        (True, np.maximum(2 - square, 0)),
    ):
        text = f"""
            input "a" {{ shape: 3 }}
            input "b" {{ shape: 3 }}
            contrastive_loss "l" {{ bottom: ["a", "b", "label"]  margin: 2
                                   legacy_version: {str(legacy).lower()} }}
        """
        (loss,) = net.whole(text, {"a": a, "b": b, "label": alike}, ["l"])
        assert float(loss) == pytest.approx(np.where(alike, square, far).sum() / 12, rel=1e-5)


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_loss_is_one_against_all(norm: str, net: Any, drawn: Any) -> None:
    x, label = drawn(4, 3), np.array([0, 2, 1, 2])
    text = (
        f'input "data" {{ shape: 3 }} hinge_loss "l" {{ norm: {norm}  bottom: ["data", "label"] }}'
    )
    (loss,) = net.whole(text, {"data": x, "label": label}, ["l"])
    sign = np.where(np.eye(3)[label] > 0, 1, -1)
    term = np.maximum(0, 1 - sign * x)
    assert float(loss) == pytest.approx((term ** (1 if norm == "L1" else 2)).sum() / 4, rel=1e-5)
