"""Flat buffers: where tensors lie, and that they hold what was put there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.diagnostics import DataError
from netspec.ir.types import Shape
from netspec.runtime.device import Device
from netspec.runtime.state import ALIGNMENT, FlatBuffer, Layout, Memory

CPU = Device("cpu")
shapes = st.lists(st.integers(1, 9), max_size=4).map(tuple)
groups = st.lists(st.lists(shapes, max_size=6), max_size=4).map(
    lambda listed: {
        f"g{i}": {f"{i}.{j}": shape for j, shape in enumerate(tensors)}
        for i, tensors in enumerate(listed)
    }
)


@given(groups)
def test_tensors_are_aligned_and_apart(tensors: dict[str, dict[str, Shape]]) -> None:
    layout = Layout.of(tensors)
    taken = np.zeros(layout.numel, int)
    for group, members in tensors.items():
        whole = layout.groups[group].cells
        for name, shape in members.items():
            place = layout.places[name]
            assert place.shape == shape
            assert place.offset * 4 % ALIGNMENT == 0
            assert whole.start <= place.cells.start
            assert place.cells.stop <= whole.stop
            taken[place.cells] += 1
    assert taken.max(initial=0) <= 1


@given(groups)
def test_groups_follow_one_another(tensors: dict[str, dict[str, Shape]]) -> None:
    layout = Layout.of(tensors)
    ends = [group.cells.stop for group in layout.groups.values()]
    assert [group.offset for group in layout.groups.values()] == [0, *ends][: len(ends)]
    assert layout.numel == (ends[-1] if ends else 0)


@given(groups)
def test_what_is_loaded_comes_back_and_gaps_are_zero(tensors: dict[str, dict[str, Shape]]) -> None:
    layout = Layout.of(tensors)
    buffer = FlatBuffer(layout, CPU)
    flat = {name: shape for members in tensors.values() for name, shape in members.items()}
    given = {n: np.full(shape, i + 1, np.float32) for i, (n, shape) in enumerate(flat.items())}
    buffer.load(given)
    dumped = buffer.dump()
    assert dumped.keys() == given.keys()
    assert all(np.array_equal(dumped[n], given[n]) for n in given)
    total = sum(float(array.sum()) for array in given.values())
    assert float(buffer.memory.read().sum(dtype=np.float64)) == total


def test_a_dump_is_a_copy_and_a_view_is_not() -> None:
    buffer = FlatBuffer(Layout.of({"g": {"a": (3,), "b": ()}}), CPU)
    dumped, view = buffer.dump(), buffer.view("a")
    view[:] = 7
    assert buffer.dump()["a"].tolist() == [7, 7, 7]
    assert dumped["a"].tolist() == [0, 0, 0]
    assert buffer.numbers() == {"b": 0.0}
    assert view.ctypes.data == buffer.pointer("a")
    assert buffer.group_pointer("g") % ALIGNMENT == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": np.zeros(3)}, "there is no tensor b"),
        ({"a": np.zeros(3), "b": np.zeros(2)}, "b is 2, but the net's is 1"),
        ({"a": np.zeros(3), "b": np.zeros(()), "c": np.zeros(1)}, "the net has no tensor c"),
    ],
)
def test_a_load_that_does_not_fit_changes_nothing(given: dict[str, np.ndarray], said: str) -> None:
    buffer = FlatBuffer(Layout.of({"g": {"a": (3,), "b": ()}}), CPU)
    buffer.view("a")[:] = 5
    with pytest.raises(DataError, match=said):
        buffer.load(given)
    assert buffer.view("a").tolist() == [5, 5, 5]


def test_memory_on_the_cpu_is_the_array_itself() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert Memory(CPU, array).pointer == array.ctypes.data
    turned = Memory(CPU, array.T)
    assert turned.read().flags.c_contiguous
    assert np.array_equal(turned.read(), array.T)
