"""Numbers about what a step computes on its way, for who looks for where it went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from netspec.codegen.builder import Builder
from netspec.codegen.lower import Lowered
from netspec.ir.graph import Op, Value

Dependent: TypeAlias = Callable[[Sequence[Op], Sequence[Value]], set[Value | None]]
"""`dependent(ops, wrt)`: the values that have a gradient with respect to `wrt`, and these."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One tensor that is looked at."""

    name: str
    """The layer that made it; or what is fed; or a parameter, of a gradient."""
    gradient: bool
    numel: int


class Watching(Protocol):
    """Adds numbers about values on the way to the metrics of a step."""

    def values(self, lowered: Lowered, wrt: Sequence[Value]) -> Sequence[Value]:
        """What it wants the gradients of, beside `wrt`."""
        ...

    def numbers(
        self,
        op: Builder,
        pulled: Sequence[Value | None],
        parameters: Mapping[str, Value | None],
    ) -> Mapping[str, Value]:
        """Scalars by name, given the gradients of `values` and of the parameters."""
        ...


class Watch:
    """Looks at what is fed, at what each layer makes, and at the gradients of both and of weights.

    Of each: Σ [x is not finite] and max |x| over what is. `marks` are in forward order, and then
    the gradients in backward order.
    """

    def __init__(self, dependent: Dependent) -> None:
        """`dependent` is `autodiff.dependent`, which stands beside this floor."""
        self._dependent = dependent
        self._seen: list[tuple[str, Value]] = []
        self._gradients: list[tuple[str, Value]] = []
        self.marks: list[Mark] = []

    def values(self, lowered: Lowered, wrt: Sequence[Value]) -> list[Value]:
        """What has a gradient beside `wrt`, in forward order."""
        fed = {name: (value,) for name, value in lowered.inputs.items()}
        self._seen = [
            (name, value)
            for name, values in {**fed, **lowered.made}.items()
            for value in values
            if value.type.dtype == "float32"
        ]
        active = self._dependent(lowered.op.ops, wrt)
        self._gradients = [(name, value) for name, value in self._seen if value in active]
        return [value for _, value in self._gradients]

    def numbers(
        self,
        op: Builder,
        pulled: Sequence[Value | None],
        parameters: Mapping[str, Value | None],
    ) -> dict[str, Value]:
        """Scalars by `lost#<mark>` and `largest#<mark>`, given the gradients of `values`."""
        names = [name for name, _ in self._gradients]
        back = reversed(list(zip(names, pulled, strict=True)))
        found: dict[str, Value] = {}
        for gradient, tensors in ((False, self._seen), (True, [*back, *parameters.items()])):
            for name, x in tensors:
                if x is not None:
                    number = len(self.marks)
                    self.marks.append(Mark(name, gradient, x.type.numel))
                    found[f"lost#{number}"], found[f"largest#{number}"] = _looked_at(op, x)
        return found


def _looked_at(op: Builder, x: Value) -> tuple[Value, Value]:
    zero = op.scalar(0)
    lost = op.IsNaN(op.Mul(x, zero))  # 0 · ∞ is none either
    count = op.Cast(lost, to="float32")
    largest = op.Where(lost, zero, op.Abs(x))
    if not x.type.shape:
        return count, largest
    return op.ReduceSum(count, keepdims=0), op.ReduceMax(largest, keepdims=0)
