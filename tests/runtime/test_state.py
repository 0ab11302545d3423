"""Flat buffers: where tensors lie, and that they hold what was put there."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.diagnostics import DataError, NetspecError
from netspec.ir.types import Shape
from netspec.runtime.device import Device
from netspec.runtime.state import ALIGNMENT, Binding, Feed, FlatBuffer, Layout, Memory, Scalars

CPU, CUDA = Device("cpu"), Device("cuda")
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


def test_a_dump_is_a_copy() -> None:
    buffer = FlatBuffer(Layout.of({"g": {"a": (3,), "b": ()}}), CPU)
    dumped = buffer.dump()
    buffer.load({"a": np.full(3, 7), "b": np.array(1)})
    assert buffer.dump()["a"].tolist() == [7, 7, 7]
    assert dumped["a"].tolist() == [0, 0, 0]
    assert buffer.pointer("a") == buffer.memory.read().ctypes.data
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
    buffer.load({"a": np.full(3, 5), "b": np.array(5)})
    with pytest.raises(DataError, match=said):
        buffer.load(given)
    assert buffer.dump()["a"].tolist() == [5, 5, 5]
    assert buffer.dump()["b"] == 5


def test_memory_on_the_cpu_is_the_array_itself() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert Memory(CPU, array).pointer == array.ctypes.data
    turned = Memory(CPU, array.T)
    assert turned.read().flags.c_contiguous
    assert np.array_equal(turned.read(), array.T)


class Remote:
    """A device's memory as `ort.OrtValue` shows it, without a device: reached by copies alone."""

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, kind: str, _: int) -> Remote:
        assert kind == "cuda"
        remote = cls()
        remote.memory = array.copy()
        return remote

    def data_ptr(self) -> int:
        return int(self.memory.ctypes.data)

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.dtype == self.memory.dtype
        self.memory[...] = array

    def numpy(self) -> np.ndarray:
        return self.memory.copy()


@pytest.fixture(params=[CPU, CUDA], ids=str)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(ort, "OrtValue", Remote)
    return request.param


def behind(pointer: int, count: int, dtype: type) -> np.ndarray:
    """What lies at an address."""
    kind = {np.float32: ctypes.c_float, np.int64: ctypes.c_int64}[dtype]
    return np.ctypeslib.as_array((kind * count).from_address(pointer))


def test_what_the_host_feeds_arrives_when_it_is_sent(device: Device) -> None:
    feed = Feed(device, (2, 3), np.int64)
    for start in (1, 7):
        feed.host[...] = np.arange(start, start + 6).reshape(2, 3)
        feed.send()
        assert behind(feed.pointer, 6, np.int64).tolist() == list(range(start, start + 6))


def test_scalars_are_written_and_read_as_floats(device: Device) -> None:
    scalars = Scalars(device, ("rate", "first"))
    assert scalars.numbers() == {"rate": 0.0, "first": 0.0}
    assert scalars.pointers["first"] - scalars.pointers["rate"] == ALIGNMENT
    scalars.write({"first": 2, "rate": 0.1})
    assert behind(scalars.pointers["rate"], 1, np.float32)[0] == np.float32(0.1)
    assert behind(scalars.pointers["first"], 1, np.float32)[0] == 2
    behind(scalars.pointers["rate"], 1, np.float32)[0] = np.nan
    behind(scalars.pointers["first"], 1, np.float32)[0] = -0.5
    numbers = scalars.numbers()
    assert list(numbers) == ["rate", "first"]
    assert all(type(number) is float for number in numbers.values())
    assert np.isnan(scalars.number("rate"))
    assert scalars.number("first") == numbers["first"] == -0.5


def test_scalars_may_be_none(device: Device) -> None:
    assert Scalars(device, ()).numbers() == {}


@pytest.mark.parametrize("given", [{"a": 1.0}, {"a": 1.0, "c": 1.0}])
def test_every_scalar_is_written_or_it_is_a_fault(given: dict[str, float]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        Scalars(CPU, ("a", "b")).write(given)


class Full:
    """A session whose run finds no memory."""

    def io_binding(self) -> None: ...
    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def run_with_iobinding(self, _: None) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 1 : Failed to allocate memory for buffer of 4")


def test_a_run_that_finds_no_memory_is_no_fault_of_ours() -> None:
    with pytest.raises(NetspecError, match="a smaller batch_size") as raised:
        Binding(Full(), CPU, {}).run()
    assert isinstance(raised.value.__cause__, RuntimeError)
