"""Flat state: many named tensors in one aligned buffer, bound to graphs by address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from netspec.diagnostics import DataError
from netspec.ir.types import Shape, size
from netspec.runtime.device import Device
from netspec.runtime.session import translated_errors

ALIGNMENT = 256
"""Bytes: what CUDA's vectorised kernels want, and more than any CPU's."""
_CELLS = ALIGNMENT // 4
"""Float32 values between two possible starts of a tensor."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's shape and its first cell in the buffer."""

    shape: Shape
    offset: int

    @property
    def cells(self) -> slice:
        return slice(self.offset, self.offset + prod(self.shape))


@dataclass(frozen=True)
class Layout:
    """Where each float32 tensor lies: groups one after the other, tensors aligned, gaps zero."""

    groups: Mapping[str, Place]
    """Each a contiguous range, a vector with the gaps in it."""
    places: Mapping[str, Place]
    """Each tensor."""

    @classmethod
    def of(cls, groups: Mapping[str, Mapping[str, Shape]]) -> Layout:
        """The layout of named tensors in named groups, in their order."""
        ranges: dict[str, Place] = {}
        places: dict[str, Place] = {}
        end = 0
        for group, tensors in groups.items():
            start = end
            for name, shape in tensors.items():
                assert name not in places, f"{name} is laid out twice"
                places[name] = Place(shape, end)
                end += -(-prod(shape) // _CELLS) * _CELLS
            ranges[group] = Place((end - start,), start)
        return cls(ranges, places)

    @cached_property
    def numel(self) -> int:
        """Cells of the whole buffer, gaps included."""
        return sum(group.shape[0] for group in self.groups.values())


class Memory:
    """An array at a fixed address on a device."""

    def __init__(self, device: Device, array: npt.NDArray[Any]) -> None:
        """The array itself on the CPU, a copy of it on CUDA."""
        self.shape: Shape = array.shape
        self.dtype = array.dtype
        self._host = np.ascontiguousarray(array).reshape(array.shape)
        self._value: Any = None
        self.pointer = int(self._host.ctypes.data)
        if device.cuda:
            with translated_errors():
                self._value = ort.OrtValue.ortvalue_from_numpy(self._host, "cuda", device.index)
            self._host = np.empty(0, array.dtype)
            self.pointer = int(self._value.data_ptr())

    @classmethod
    def zeros(cls, device: Device, shape: Shape, dtype: npt.DTypeLike) -> Memory:
        """Aligned zeros."""
        return cls(device, _zeros(shape, dtype))

    def write(self, array: npt.NDArray[Any]) -> None:
        """Overwrite the whole."""
        assert array.shape == self.shape, (array.shape, self.shape)
        if self._value is None:
            self._host[...] = array
        else:
            self._value.update_inplace(np.ascontiguousarray(array, self.dtype))

    def read(self) -> npt.NDArray[Any]:
        """The memory itself on the CPU, a copy of it on CUDA."""
        read: npt.NDArray[Any] = self._host if self._value is None else self._value.numpy()
        return read


def _zeros(shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros of the host's, aligned."""
    count, itemsize = prod(shape), np.dtype(dtype).itemsize
    with translated_errors():
        block = np.zeros(count * itemsize + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + count * itemsize].view(dtype).reshape(shape)


class Feed:
    """Memory on a device that the host writes anew for each run: fill `host`, then `send`."""

    def __init__(self, device: Device, shape: Shape, dtype: npt.DTypeLike) -> None:
        self.host = _zeros(shape, dtype)
        """On the CPU the memory itself."""
        self._memory = Memory(device, self.host)
        self._remote = device.cuda
        self.pointer = self._memory.pointer

    def send(self) -> None:
        """Bring to the device what stands in `host`."""
        if self._remote:
            self._memory.write(self.host)


class Scalars:
    """Named float32 numbers on a device, each at an aligned address, in and out as floats.

    They pass through a memoryview: kernels have just swept the caches, so what takes the time is to
    fetch the code that does it, and numpy has more of that.
    """

    def __init__(self, device: Device, names: Iterable[str]) -> None:
        self._at = {name: i for i, name in enumerate(names)}
        host = _zeros((max(len(self._at), 1) * _CELLS,), np.float32)
        self._host, self._memory = host, Memory(device, host)
        self._remote = device.cuda
        self._cells = _cells(host)
        self.pointers = {name: self._memory.pointer + ALIGNMENT * i for name, i in self._at.items()}
        """The address of each."""

    @property
    def memory(self) -> Memory:
        """Where they lie."""
        return self._memory

    def write(self, numbers: Mapping[str, float]) -> None:
        """Overwrite every number."""
        assert len(numbers) == len(self._at), (*numbers, *self._at)
        for name, number in numbers.items():
            self._cells[self._at[name]] = number
        if self._remote:
            self._memory.write(self._host)

    def numbers(self) -> dict[str, float]:
        """Every number, by name: one transfer for all."""
        cells = _cells(self._memory.read()) if self._remote else self._cells
        return {name: cells[i] for name, i in self._at.items()}

    def number(self, name: str) -> float:
        """One of the numbers."""
        return self.numbers()[name] if self._remote else self._cells[self._at[name]]


def _cells(flat: npt.NDArray[np.float32]) -> memoryview[float]:
    """The first value of each aligned block."""
    return flat.data.cast("B").cast("f")[::_CELLS]


class FlatBuffer:
    """A device's float32 memory for everything in a layout; gaps are zero."""

    def __init__(self, layout: Layout, device: Device) -> None:
        self.layout = layout
        self.memory = Memory.zeros(device, (max(layout.numel, 1),), np.float32)

    def pointer(self, name: str) -> int:
        """The address of a tensor."""
        return self.memory.pointer + 4 * self.layout.places[name].offset

    def group_pointer(self, group: str) -> int:
        """The address of a group."""
        return self.memory.pointer + 4 * self.layout.groups[group].offset

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Overwrite every tensor; DataError if the names or a shape are not those of the layout."""
        self.memory.write(self.packed(tensors))

    def packed(self, tensors: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """What `load` would write."""
        flat = np.zeros(self.memory.shape, np.float32)
        for name, place in self.layout.places.items():
            if name not in tensors:
                raise DataError(f"there is no tensor {name} among the {len(tensors)} given")
            if tensors[name].shape != place.shape:
                found, wanted = size(tensors[name].shape), size(place.shape)
                raise DataError(f"{name} is {found}, but the net's is {wanted}")
            self._cut(flat, name)[...] = tensors[name]
        for name in tensors:
            if name not in self.layout.places:
                raise DataError(f"the net has no tensor {name}")
        return flat

    def dump(self) -> dict[str, npt.NDArray[np.float32]]:
        """A copy of every tensor, by name."""
        flat = self.memory.read()
        return {name: self._cut(flat, name).copy() for name in self.layout.places}

    def _cut(self, flat: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
        place = self.layout.places[name]
        return flat[place.cells].reshape(place.shape)


class Binding:
    """A session with all its inputs and outputs at fixed addresses.

    onnxruntime neither owns nor checks what is bound: the memory must outlive the binding.
    """

    def __init__(
        self, session: ort.InferenceSession, device: Device, addresses: Mapping[str, int]
    ) -> None:
        """`addresses` has one for each input and output; others in it are ignored."""
        self._session = session
        self._binding = session.io_binding()
        ports = [
            *((self._binding.bind_input, port) for port in session.get_inputs()),
            *((self._binding.bind_output, port) for port in session.get_outputs()),
        ]
        for bind, port in ports:
            dtype, pointer = _DTYPES[port.type], addresses[port.name]
            bind(port.name, device.kind, device.index, dtype, port.shape, pointer)

    def run(self) -> None:
        """One run; a NetspecError where the machine cannot carry it."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception:
            # Entered for a fault only: around every run it costs a step 25 µs of cold code.
            with translated_errors():
                raise

    def run_plainly(self) -> None:
        """One run that records and replays nothing, of a session that else would."""
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")
        with translated_errors():
            self._session.run_with_iobinding(self._binding, options)


_DTYPES = {
    f"tensor({called})": np.dtype(dtype)
    for called, dtype in {
        "float": "float32", "double": "float64", "float16": "float16", "uint8": "uint8",
        "int8": "int8", "int16": "int16", "uint16": "uint16", "int32": "int32", "int64": "int64",
        "bool": "bool",
    }.items()
}  # fmt: skip
"""Element types by onnxruntime's words."""
