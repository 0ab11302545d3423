"""An ONNX graph under construction: `op.Conv(x, w, strides=(2, 2))` appends a typed operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from netspec.codegen.operators import FOREIGN
from netspec.ir.graph import Graph, Op, Operator, Value
from netspec.ir.types import TensorType

OPSET = 18
"""The widest that CUDA runs: from 22 on onnxruntime has no CUDA MaxPool."""
IR_VERSION = 8
"""The one that belongs to opset 18."""

_SHAPE_LIKE = 64
"""Constants up to this many values are shown to ONNX's inference, and vectors of integers of any
length: shapes, axes, sizes, pads."""

_Inferred = tuple[TensorType, ...]
_memo: dict[tuple[Any, ...], _Inferred] = {}


class Builder:
    """Records operators, inferring the type of every value as it is made.

    Satisfies `ir.graph.Ops`. Names of values and nodes carry the scope, a layer's name.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: list[Value] = []
        self.constants: dict[Value, npt.NDArray[Any]] = {}
        self._interned: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._scope = ""
        self._counts: dict[str, int] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Name what is appended inside after `name`."""
        outer, self._scope = self._scope, name
        try:
            yield
        finally:
            self._scope = outer

    def input(self, name: str, type: TensorType) -> Value:
        """A value that is fed."""
        self.inputs.append(value := Value(name, type))
        return value

    def constant(self, array: npt.NDArray[Any]) -> Value:
        """Any constant; equal ones are one."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._interned:
            value = Value(f"const{len(self.constants)}", TensorType(array.shape, str(array.dtype)))
            self.constants[value] = array
            self._interned[key] = value
        return self._interned[key]

    def ints(self, *values: int) -> Value:
        """A constant int64 vector, as shape-like operator inputs want."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float, dtype: str = "float32") -> Value:
        """A constant without axes."""
        return self.constant(np.array(value, dtype))

    def known(self, value: Value) -> npt.NDArray[Any] | None:
        """The array behind a constant, or None for a value that is computed."""
        return self.constants.get(value)

    def __getattr__(self, op_type: str) -> Operator:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def append(*inputs: Value | None, outputs: int = 1, **attrs: Any) -> Any:
            made = self.append(op_type, inputs, outputs, attrs)
            return made[0] if outputs == 1 else made

        return append

    def append(
        self, op_type: str, inputs: Sequence[Value | None], outputs: int, attrs: Mapping[str, Any]
    ) -> tuple[Value, ...]:
        """One operator; what `op.<op_type>(…)` does."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if op_type == "Cast" and isinstance(attrs["to"], str):  # ONNX wants the type's number
            attrs = {"to": int(helper.np_dtype_to_tensor_dtype(np.dtype(attrs["to"])))}
        name = self._name(op_type)
        types = self._infer(op_type, tuple(inputs), outputs, attrs)
        made = tuple(Value(name if i == 0 else f"{name}:{i}", type) for i, type in enumerate(types))
        domain = ""
        if foreign := FOREIGN.get(op_type):
            domain, op_type = foreign.domain, foreign.op_type
            attrs = {k: v for k, v in attrs.items() if k not in foreign.unsaid}
        self.ops.append(Op(op_type, tuple(inputs), made, dict(attrs), name, domain))
        return made

    def _name(self, op_type: str) -> str:
        stem = f"{self._scope}/{op_type}" if self._scope else op_type
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return f"{stem}_{count}" if count else stem

    def _infer(
        self,
        op_type: str,
        inputs: tuple[Value | None, ...],
        outputs: int,
        attrs: Mapping[str, Any],
    ) -> _Inferred:
        types = tuple(v.type if v else None for v in inputs)
        if op_type in FOREIGN:
            return FOREIGN[op_type].infer(types, attrs)
        shown = tuple(
            array.tobytes()
            if v is not None and (array := self.constants.get(v)) is not None
            and _is_shape_like(array)
            else None
            for v in inputs
        )  # fmt: skip
        key = (op_type, types, outputs, shown, tuple(sorted(attrs.items())))
        if key not in _memo:
            _memo[key] = self._infer_with_onnx(op_type, inputs, outputs, attrs)
        return _memo[key]

    def _infer_with_onnx(
        self,
        op_type: str,
        inputs: tuple[Value | None, ...],
        outputs: int,
        attrs: Mapping[str, Any],
    ) -> _Inferred:
        names = [f"i{i}" if v else "" for i, v in enumerate(inputs)]
        made = [f"o{i}" for i in range(outputs)]
        node = helper.make_node(op_type, names, made, **attrs)
        types = {n: type_proto(v.type) for n, v in zip(names, inputs, strict=True) if v}
        data = {
            n: numpy_helper.from_array(self.constants[v], n)
            for n, v in zip(names, inputs, strict=True)
            if v in self.constants and v is not None and _is_shape_like(self.constants[v])
        }
        schema = onnx.defs.get_schema(op_type, OPSET)
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )  # fmt: skip
        return tuple(_tensor_type(op_type, inferred[name]) for name in made)

    def graph(self, outputs: Sequence[Value], *, name: str) -> Graph:
        """What was recorded, as a frozen graph."""
        return Graph(
            name, tuple(self.inputs), tuple(outputs), tuple(self.ops), dict(self.constants)
        )


def _is_shape_like(array: npt.NDArray[Any]) -> bool:
    return array.size <= _SHAPE_LIKE or (array.ndim == 1 and array.dtype == np.int64)


def type_proto(type: TensorType) -> onnx.TypeProto:
    """The protobuf form of a tensor type."""
    return helper.make_tensor_type_proto(
        helper.np_dtype_to_tensor_dtype(np.dtype(type.dtype)), type.shape
    )


def _tensor_type(op_type: str, proto: onnx.TypeProto) -> TensorType:
    tensor = proto.tensor_type
    assert tensor.HasField("shape"), f"ONNX cannot infer the shape of {op_type}"
    dims = tensor.shape.dim
    assert all(d.HasField("dim_value") for d in dims), f"{op_type}: a dimension is not static"
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorType(tuple(d.dim_value for d in dims), str(dtype))
