"""Names and what they mean: lets, formals, `in.channels`, and the blocks of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Block, Reference
from netspec.ir.expression import Poisoned, Word
from netspec.ir.types import AXES, TensorType, size

_TRUTH = {"true": True, "false": False}
_PARTS = ("channels", *AXES[3])
"""What `in.` reads of a blob."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A named value and where it was named."""

    value: Any
    span: Span


POISON = object()
"""The value of a name whose definition is at fault."""


@dataclass(eq=False)
class Scope:
    """Named values, each assigned once; what is not here is looked up outside."""

    outer: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)

    def bind(self, name: str, value: Any, span: Span) -> None:
        """Name a value; a second `let` of a name in one scope is a fault."""
        if name in self.names:
            raise SpecError(
                f"`{name}` is named twice in one scope",
                span,
                code="name",
                trail=[("the first one is here", self.names[name].span)],
            )
        self.names[name] = Binding(value, span)

    def find(self, name: str) -> Binding | None:
        """The innermost binding of a name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def known(self) -> tuple[str, ...]:
        """Every name that can be seen from here."""
        seen: dict[str, None] = {}
        scope: Scope | None = self
        while scope is not None:
            seen.update({n: None for n, b in scope.names.items() if not isinstance(b.value, Word)})
            scope = scope.outer
        return tuple(seen)


@dataclass(eq=False)
class Module:
    """One file's top-level names and blocks, its own and those it includes."""

    path: str
    scope: Scope = field(default_factory=Scope)
    blocks: dict[str, Definition] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Definition:
    """A block and the file whose names its body sees."""

    block: Block
    module: Module


@dataclass
class Lookup:
    """What a reference means at one place (`ir.expression.Environment`)."""

    scope: Scope
    current: Callable[[], TensorType | None]
    """The type of the current blob; None before the first; raises Poisoned after a fault."""

    def __call__(self, reference: Reference) -> Any:
        head, *rest = reference.path
        if head == "in" and rest:
            return self._axis(reference)
        if rest:
            raise SpecError(
                f"`{reference.word}` means nothing: only `in` has parts",
                reference.span,
                code="name",
            )
        if head in _TRUTH:
            return _TRUTH[head]
        binding = self.scope.find(head)
        if binding is None:
            return Word(head, reference.span, self.scope.known)
        if binding.value is POISON:
            raise Poisoned
        return binding.value

    def _axis(self, reference: Reference) -> int:
        axis = reference.path[-1]
        if len(reference.path) != 2 or axis not in _PARTS:
            raise SpecError(
                f"`{reference.word}` means nothing{suggest(axis, _PARTS)}",
                reference.span,
                code="name",
                hint="in.channels, in.depth, in.height and in.width are those of the current blob",
            )
        current = self.current()
        if current is None:
            raise SpecError(
                f"`{reference.word}` is read before there is a blob", reference.span, code="name"
            )
        names = ("channels", *AXES[3 if len(current.spatial) == 3 else 2])[: len(current.sample)]
        if axis not in names:
            raise SpecError(
                f"the current blob, {size(current.sample)}, has no {axis}",
                reference.span,
                code="shape",
            )
        return current.sample[names.index(axis)]
