"""Three answers on shapes agree: `infer`, ONNX's inference, and what onnxruntime returns."""

from __future__ import annotations

from dataclasses import replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from netspec.autodiff import NON_DIFFERENTIABLE, RULES
from netspec.ir.fields import Fields
from netspec.ir.filler import Filler
from netspec.ir.labelled import Labelled
from netspec.ir.layer import Layer, Role, ShapeError
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS

PER_LAYER = 70
"""Random layers of each type: some thousand in all."""

AGREED = ("lstm", "rnn", "lstm_unit", "roi_pool")
"""Layers whose bottoms agree in ways that chance does not find: see tests/caffe/semantics, and
`test_detection.py`."""

LOWERED = [
    k
    for k, layer in LAYERS.items()
    if layer.role not in (Role.INPUT, Role.SOURCE, Role.SINK)
    and layer.lower is not Layer.lower
    and k not in AGREED
]


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type: small, often legal, not always."""
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        inner, *rest = get_args(kind)
        longest = 4 if rest == [Ellipsis] else 1 + len(rest)
        return st.lists(values(inner), min_size=1, max_size=longest)
    if args := [a for a in get_args(kind) if a is not NoneType]:
        return values(args[0])
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from([1, 2, 3, 2, 1, 0, -1, 4, 5])
    if kind is float:
        return st.sampled_from([0.5, 0.25, 1.0, 2.0, 0.0, -1.0])
    assert issubclass(kind, Fields), kind
    return fields(kind)


@st.composite
def fields(draw: st.DrawFn, kind: type[Fields]) -> dict[str, Any]:
    """A sub-message, whole."""
    return {name: draw(values(field.annotation)) for name, field in kind.model_fields.items()}


@st.composite
def compared(draw: st.DrawFn, kind: type[Layer], shape: Shape, place: int) -> TensorType:
    """What a loss or a metric compares the first bottom with: labels, numbers, or a matrix."""
    axis = draw(st.integers(1, len(shape) - 1))
    batch, classes = shape[0], shape[axis]
    label = draw(st.sampled_from([shape[:axis] + shape[axis + 1 :], shape[:1]]))
    if issubclass(kind, Labelled):
        matrix = TensorType((batch, classes, classes))
        return TensorType(label, "int64") if place == 1 else matrix
    return draw(st.sampled_from([TensorType(shape), TensorType(label), TensorType(label, "int64")]))


@st.composite
def bottoms(draw: st.DrawFn, kind: type[Layer]) -> list[TensorType]:
    """Bottoms of two to five axes; those after the first fit it more or less."""
    rank = draw(st.sampled_from([4, 4, 4, 2, 3, 5]))
    shape = (draw(st.integers(2, 3)), *draw(st.tuples(*[st.integers(1, 8)] * (rank - 1))))
    made = [TensorType(shape)]
    for _ in range(draw(st.integers(kind.bottoms.start, min(3, kind.bottoms.stop - 1))) - 1):
        if kind.role in (Role.LOSS, Role.METRIC):
            made.append(draw(compared(kind, shape, len(made))))
            continue
        axis = draw(st.integers(1, rank - 1))
        changed = (*shape[:axis], draw(st.integers(1, 8)), *shape[axis + 1 :])
        made.append(TensorType(draw(st.sampled_from([shape, changed, shape[:axis]]))))
    return [t.with_dtype("int64") if i in kind.labels else t for i, t in enumerate(made)]


def offer(
    kind: type[Layer], given: dict[str, Any], types: list[TensorType]
) -> tuple[Layer | None, set[str]]:
    """The layer if it takes the fields and the bottoms, else the fields that it blames."""
    try:
        layer = kind.model_validate({k: v for k, v in given.items() if k != "tops"})
        layer = layer.with_tops(given.get("tops", kind.tops.start))
        layer.infer(types)
    except ValidationError as error:
        faults = [e for e in error.errors() if e["type"] != "missing"]
        return None, {str(e["loc"][0]) if e["loc"] else "all" for e in faults}
    except ShapeError as error:
        return None, {error.field or ""}
    return layer, set()


@st.composite
def cases(draw: st.DrawFn, kind: type[Layer]) -> tuple[Layer, list[TensorType]]:
    """Bottoms, and a layer that grows field by field as long as it accepts them."""
    types = draw(bottoms(kind))
    choices = {name: values(field.annotation) for name, field in kind.model_fields.items()
               if field.annotation is not Filler}  # fmt: skip
    if len(kind.tops) > 1:
        choices["tops"] = st.integers(kind.tops.start, 4)
    given: dict[str, Any] = {}
    layer, _ = offer(kind, given, types)
    for _ in range(4):
        for name in draw(st.permutations(sorted(choices))):
            trial = {**given, name: draw(choices[name])}
            made, blamed = offer(kind, trial, types)
            if made is not None or (layer is None and not blamed & {name, "all"}):
                given, layer = trial, made
        if layer is not None:
            return layer, types
    assume(False)
    raise AssertionError


def arrays(types: list[TensorType]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [
        np.zeros(t.shape, np.int64)
        if t.dtype == "int64"
        else generator.normal(size=t.shape).astype(np.float32)
        for t in types
    ]


@pytest.mark.parametrize("keyword", LOWERED)
def test_three_answers_agree(keyword: str, bench: Any) -> None:
    count = 0

    @settings(
        max_examples=PER_LAYER, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    @given(cases(LAYERS[keyword]))
    def check(case: tuple[Layer, list[TensorType]]) -> None:
        nonlocal count
        count += 1
        layer, types = case
        if layer.bound(types):
            made = bench(layer, types, False).run(arrays(types), session=None)
            assert [y.shape for y in made] == [top.shape for top in layer.infer(types)]
            return
        larger = [replace(t, shape=(t.batch + 3, *t.sample)) for t in types]
        deployed = bench(layer, types, training=False)
        session = deployed.session()
        for batch in (types, larger):
            expected = layer.infer(batch)
            trained = bench(layer, batch, training=True)
            assert tuple(top.type for top in trained.tops) == expected
            assert {op.op_type for op in trained.op.ops} <= RULES.keys() | NON_DIFFERENTIABLE
            for made, runner in ((deployed, session), (trained, trained.session())):
                results = made.run(arrays(batch), session=runner)[: len(expected)]
                assert [(r.shape, str(r.dtype)) for r in results] == [
                    (t.shape, t.dtype) for t in expected
                ]
        assert tuple(top.type for top in deployed.tops) == layer.infer(types)

    check()
    assert count >= PER_LAYER // 2, f"only {count} random layers were legal"
