"""Half precision as a pass: products in float16, all that is summed or divided in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from netspec.codegen.builder import Builder
from netspec.codegen.halved import Halved
from netspec.codegen.operators import word
from netspec.codegen.simplify import simplify
from netspec.codegen.steps import with_steps
from netspec.codegen.target import CPU_PLAIN, Target
from netspec.ir.graph import Graph, Op, Value
from netspec.ir.layer import Role
from netspec.ir.net import Net
from netspec.ir.sections import Solver

_AGE = 24
"""Operators for which a copy in the other precision serves. One that waited from the forward for
the gradients would take what half precision saves, and to make it again is one pass."""


_Form: TypeAlias = Literal["float16", "float32", "rounded"]
"""Of a value of float32: as float16, as it is, or as float32 with the digits of float16."""


@dataclass(frozen=True)
class InHalf:
    """A graph that computes partly in float16."""

    graph: Graph
    outputs: Mapping[Value, Value]
    """What stands for each output of the graph that it was made from, in float32 as before."""


def in_half(graph: Graph, net: Net, target: Target) -> InHalf:
    """Let the products of convolutions and fully connected layers read and make float16.

    x → Conv → Relu → Gemm → Softmax   →   x → Cast → Conv → Relu → Gemm → Cast → Softmax

    Which operators those are says `Halved`. Inputs and outputs of the graph, and so weights and
    their gradients, stay float32. It is made of a graph as the target runs it, after its
    formulations: a gradient that is a sum of products then has its products in float16 and its sum
    in float32, and no formulation knows of it.

    Where the target has no float16 kernel for an operator, it computes in float32 between casts:
    what float16 can hold goes in and comes out, as with kernels that keep their sums in float32.
    """
    layers = [node for node in net.nodes if node.layer.role is Role.HIDDEN]
    graph = simplify(with_steps(graph))
    halved = Halved.of(
        graph,
        layers=frozenset(node.name for node in layers),
        products=frozenset(n.name for n in layers if n.layer.macs(n.bottom_types)),
    )
    return _Writer(graph, halved, target).written()


class _Writer:
    """The graph under construction, and what in it stands for the values of the given one."""

    def __init__(self, graph: Graph, halved: Halved, target: Target) -> None:
        self._graph, self._halved, self._target = graph, halved, target
        self._op = Builder()
        self._op.inputs.extend(graph.inputs)
        self._home = {value: value for value in graph.inputs}
        """A value as it was computed."""
        self._narrowed: dict[Value, Value] = {}
        """In float16 what was computed in float32: that is kept, the other let go."""
        self._copies: dict[tuple[Value, _Form], tuple[Value, int]] = {}
        """In another precision or made again, and before which operator."""
        self._leaving = frozenset(graph.outputs)
        self._maker = {v: (at, op) for at, op in enumerate(graph.ops) for v in op.outputs}
        self._at = 0

    def written(self) -> InHalf:
        for at, node in enumerate(self._graph.ops):
            self._at = at
            if node not in self._halved.either:
                with self._op.scope(node.scope):
                    self._write(node)
        outputs = {value: self._take(value, "float32") for value in self._graph.outputs}
        made = simplify(self._op.graph(tuple(outputs.values()), name=self._graph.name))
        return InHalf(made, outputs)

    def _write(self, node: Op) -> None:
        half = node in self._halved.ops
        native = half and self._target.runs_half(node)
        made = self._append(node, "float16" if native else "rounded" if half else "float32")
        for value, form in zip(node.outputs, made, strict=True):
            self._home[value] = form
            if half and form.type.dtype == "float32":
                self._home[value] = self._cast(form, "float16")
            if value in self._leaving:  # at once, so that it waits in one form
                self._home[value] = self._take(value, "float32")

    def _append(self, node: Op, form: _Form) -> tuple[Value, ...]:
        inputs = [v and self._take(v, form) for v in node.inputs]
        return self._op.append(word(node), inputs, len(node.outputs), node.attrs)

    def _take(self, value: Value, form: _Form) -> Value:
        """A value in a form, if it is one of those that have several."""
        if value in self._graph.constants:
            return self._op.constant(_formed(self._graph.constants[value], form))
        home = self._home.get(value)
        if form == "rounded" and (home is None or home.type.dtype == "float16"):
            form = "float32"
        if value.type.dtype != "float32" or (
            home is not None and home.type.dtype == form and not self._aged(value)
        ):
            assert home is not None
            return home
        if form == "float16" and value in self._narrowed:
            return self._narrowed[value]
        found, made = self._copies.get((value, form), (None, 0))
        if found is None or self._at - made > _AGE:
            found = self._copy(value, form)
            self._copies[value, form] = (found, self._at)
        return found

    def _copy(self, value: Value, form: _Form) -> Value:
        _, maker = self._maker.get(value, (0, None))
        if form == "rounded":
            return self._cast(self._take(value, "float16"), "float32")
        if maker in self._halved.either:
            assert maker is not None
            (source,) = maker.inputs
            assert source is not None
            return self._cast(self._home[source], form)
        home = self._home[value]
        if home.type.dtype == form:
            assert maker is not None
            (again,) = self._append(maker, "float32")
            return again
        found = self._cast(home, form)
        if form == "float16" and maker is not None:
            self._narrowed[value] = found
        return found

    def _cast(self, value: Value, dtype: str) -> Value:
        cast: Value = self._op.Cast(value, to=dtype)
        return cast

    def _aged(self, value: Value) -> bool:
        """Whether it is to be made again from what is there in float16."""
        at, maker = self._maker.get(value, (0, None))
        again = maker in self._halved.cheap and value not in self._leaving
        return again and self._at - at > _AGE


def _formed(array: npt.NDArray[Any], form: _Form) -> npt.NDArray[Any]:
    if array.dtype != np.float32 or form == "float32":
        return array
    narrow = array.astype(np.float16)
    return narrow.astype(np.float32) if form == "rounded" else narrow


def suited(target: Target, solver: Solver | None) -> Target:
    """The target that computes at the solver's precision: blocks on the CPU are float32 alone."""
    half = solver is not None and solver.precision == "FP16"
    return CPU_PLAIN if half and target.block else target
