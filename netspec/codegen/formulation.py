"""Formulations: the ways in which a target computes an operator, and what they are written with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from netspec.codegen.builder import Builder
from netspec.codegen.target import Kind
from netspec.ir.graph import Graph, Op, Value
from netspec.ir.phrases import pad

Layout: TypeAlias = Literal["plain", "blocked"]
Accepts: TypeAlias = Callable[["Sight", Op], bool]
Write: TypeAlias = Callable[["Forms", Op], Sequence[Value | None]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known where a formulation is chosen."""

    block: int
    """Channels per block; 0 where nothing is blocked."""
    blocked: set[Value]
    """Values that live blocked, of those made so far."""
    readers: Mapping[Value, Sequence[Op]]
    """Who reads a value."""
    ahead: frozenset[Value] = frozenset()
    """Values that will be blocked, as far as that is known; for who makes a value for others."""
    kind: Kind = "cpu"
    """Of the device."""

    def any_blocked(self, *values: Value | None) -> bool:
        return any(v in self.blocked for v in values)


@dataclass(frozen=True, slots=True)
class Formulation:
    """One way to compute an operator."""

    operator: str
    """The op_type it stands for."""
    name: str
    layout: Layout
    """Plain ones read and write values as ONNX lays them out; blocked ones are for the CPU."""
    accepts: Accepts
    """Whether it is right for an operator's shapes and attributes."""
    write: Write
    """Appends its operators and returns what stands for the outputs, each in its own form."""
    blocked: tuple[int, ...] | None
    """Which outputs it leaves blocked; None: all."""
    joins: bool
    """Whether it adds a blocked tensor, and then cuts at zero, for the operators behind it."""

    def leaves_blocked(self, output: int) -> bool:
        """Whether it leaves an output blocked."""
        return self.blocked is None or output in self.blocked


FORMULATIONS: dict[str, list[Formulation]] = {}
"""By operator, the preferred one first."""


def formulation(
    operator: str,
    name: str,
    *,
    layout: Layout = "plain",
    accepts: Accepts = lambda _, __: True,
    blocked: tuple[int, ...] | Literal["first"] | None = "first",
    joins: bool = False,
) -> Callable[[Write], Write]:
    """Register a way to compute `operator`; a blocked one leaves its first output blocked."""

    def register(write: Write) -> Write:
        known = FORMULATIONS.setdefault(operator, [])
        assert all(f.name != name for f in known), f"{operator} has two formulations {name}"
        first = (0,) if layout == "blocked" else ()
        outputs = first if blocked == "first" else blocked
        known.append(Formulation(operator, name, layout, accepts, write, outputs, joins))
        return write

    return register


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What the operators right behind one do to its output, and it can do itself."""

    absorbed: tuple[Op, ...] = ()
    added: Value | None = None
    relu: bool = False


@dataclass
class Forms:
    """The target's graph under construction, and the forms in which it holds each logical value."""

    op: Builder
    block: int
    graph: Graph
    epilogues: Mapping[Op, Epilogue]
    _plain: dict[Value, Value] = field(default_factory=dict)
    _blocked: dict[Value, Value] = field(default_factory=dict)
    _made: dict[Hashable, Value] = field(default_factory=dict)

    def hold(self, value: Value, form: Value, layout: Layout) -> None:
        """`form` is what the target has for `value`."""
        held = self._plain if layout == "plain" else self._blocked
        assert value not in held, value.name
        held[value] = form

    def plain(self, value: Value) -> Value:
        """A value as ONNX lays it out; reordered if it lives blocked."""
        if value not in self._plain:
            if value in self.graph.constants:
                form = self.op.constant(self.graph.constants[value])
            else:
                form = self.op.ReorderOutput(self._blocked[value], channels=value.type.channels)
            self._plain[value] = form
        return self._plain[value]

    def blocked(self, value: Value) -> Value:
        """A value in blocks of channels, the last one filled with zeros."""
        if value not in self._blocked:
            self._blocked[value] = self.to_blocked(self.plain(value))
        return self._blocked[value]

    def to_blocked(self, x: Value) -> Value:
        """A plain tensor in blocks of channels."""
        _, c, *extent = x.type.shape
        whole = self.whole(c)
        if not any(size > 1 for size in extent):  # one cell lies alike in both
            return self.lengthened(x, whole, axis=1)
        if c % 4:
            x = self.lengthened(x, whole, axis=1)
        form: Value = self.op.ReorderInput(x, channels=whole)
        return form

    def is_blocked(self, value: Value) -> bool:
        """Whether a value is at hand in blocks."""
        return value in self._blocked

    def whole(self, channels: int) -> int:
        """Channels with those that fill the last block."""
        return -(-channels // self.block) * self.block

    def lengthened(self, x: Value, size: int, *, axis: int = 0) -> Value:
        """`x` with zeros at the end of an axis, up to `size`."""
        behind = len(x.type.shape) - axis
        none = [0] * (behind - 1)
        return pad(self.op, x, [0] * behind, [size - x.type.shape[axis], *none])

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """A value that several formulations want, made by the first of them."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def keep(self, key: Hashable, value: Value) -> None:
        """Leave a value for another formulation to find."""
        self._made[key] = value

    def found(self, key: Hashable) -> Value | None:
        """What `once` made or `keep` left."""
        return self._made.get(key)

    def ones(self, *shape: int) -> Value:
        """A constant of ones."""
        return self.op.constant(np.ones(shape, np.float32))

    def epilogue(self, node: Op) -> Epilogue:
        """What the operator shall do beside its own work."""
        return self.epilogues.get(node, Epilogue())


def is_image(value: Value | None) -> bool:
    """Whether a value can live in blocks: float32, batch x channels x height x width."""
    if value is None:
        return False
    return value.type.dtype == "float32" and len(value.type.shape) == 4


def on_cuda(sight: Sight, _: Op) -> bool:
    """Whether CUDA computes it, which has other costs than the CPU."""
    return sight.kind == "cuda"


def reads_blocked(index: int) -> Accepts:
    """Whether an input lives in blocks; only images do."""
    return lambda sight, node: sight.any_blocked(node.inputs[index])
