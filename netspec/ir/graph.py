"""The operator graph: ONNX operators over typed values, before any protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from netspec.ir.types import TensorType

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor that flows between operators; identity is its own, the name is for readers."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One application of an ONNX operator; `name` carries the layer that asked for it."""

    op_type: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    name: str
    domain: str = ""

    @property
    def scope(self) -> str:
        """The layer that asked for it; empty where none did."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Operators in the order in which they run, the values that enter and leave, the constants."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    constants: Mapping[Value, npt.NDArray[Any]] = field(default_factory=dict)


class Operator(Protocol):
    """Appends one operator; what it returns depends on `outputs`, so it is left to the caller."""

    def __call__(self, *inputs: Value | None, outputs: int = 1, **attrs: Any) -> Any: ...


class Ops(Protocol):
    """Where operators are appended.

    `op.Conv(x, w, strides=(2, 2))` is the value it makes; `op.Split(x, sizes, outputs=2, axis=1)`
    is a tuple of two; `op.Cast(x, to="int64")` names the element type as `TensorType` does.
    """

    def __getattr__(self, op_type: str, /) -> Operator: ...

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Name what is appended inside after `name`."""
        ...

    def ints(self, *values: int) -> Value:
        """A constant int64 vector, as shape-like operator inputs want; equal ones are one."""
        ...

    def scalar(self, value: float, dtype: str = "float32") -> Value:
        """A constant without axes."""
        ...

    def constant(self, array: npt.NDArray[Any]) -> Value:
        """Any constant; equal ones are one."""
        ...

    def known(self, value: Value) -> npt.NDArray[Any] | None:
        """The array behind a constant, or None for a value that is computed."""
        ...


def consumers(ops: Sequence[Op]) -> dict[Value, list[Op]]:
    """The operators that read each value, in order."""
    readers: dict[Value, list[Op]] = {}
    for op in ops:
        for value in op.inputs:
            if value is not None:
                readers.setdefault(value, []).append(op)
    return readers
