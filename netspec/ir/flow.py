"""Blobs while a net is built: who made them, what they are called, and what flows where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from netspec.diagnostics import Span, SpecError
from netspec.ir.expression import Poisoned
from netspec.ir.scope import Definition, Module, Scope
from netspec.ir.types import TensorType, size

_CHAIN = 5
"""Shapes shown on the way to a fault."""


@dataclass
class Blob:
    """A blob as far as it is known; one without a type hangs on a fault that is reported."""

    name: str
    type: TensorType | None
    span: Span
    source: Blob | None = None
    """The blob that its maker read first."""
    reads: int = 0
    maker: str = ""
    """The layer type that made it."""


@dataclass
class Flow:
    """Where the implicit chain stands."""

    current: Blob | None = None

    def type(self) -> TensorType | None:
        """The type of the current blob; raises Poisoned if it hangs on a fault."""
        if self.current is None:
            return None
        if self.current.type is None:
            raise Poisoned
        return self.current.type


@dataclass
class Branches:
    """The parts of a `residual` or an `inception` while its body is elaborated."""

    kind: str
    start: Blob | None
    found: list[Blob | None] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """The surroundings of an item: names in scope, the name space, the flow."""

    module: Module
    scope: Scope
    flow: Flow
    prefix: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    group: Branches | None = None
    trail: tuple[tuple[str, Span], ...] = ()
    """The expansions around, innermost first."""
    expanding: tuple[Definition, ...] = ()
    shares: tuple[str, str] | None = None
    """(own prefix, prefix of the expansion whose weights are reused)."""
    depth: int = 0

    @property
    def top_level(self) -> bool:
        """Whether the item stands outside every group and block."""
        return not self.prefix and not self.expanding and self.group is None


@dataclass
class Blobs:
    """Every blob of the net by full name, and the labels that stand for a group's result."""

    made: dict[str, Blob] = field(default_factory=dict)
    aliases: dict[str, Blob] = field(default_factory=dict)

    def find(self, name: str, prefix: str) -> Blob | None:
        """The blob that `name` means inside `prefix`: from the innermost scope outward."""
        while True:
            full = prefix + name
            if full in self.made:
                return self.made[full]
            if full in self.aliases:
                return self.aliases[full]
            if not prefix:
                return None
            prefix = prefix[:-1].rpartition("/")[0]
            prefix = f"{prefix}/" if prefix else ""

    def add(self, blob: Blob) -> None:
        """Record a new blob; one of that name must not exist."""
        if blob.name in self.made:
            raise SpecError(
                f"blob `{blob.name}` is made twice",
                blob.span,
                code="name",
                trail=[("the first one is here", self.made[blob.name].span)],
            )
        self.made[blob.name] = blob


def chain(blob: Blob | None) -> tuple[str, ...]:
    """The shapes that led to a blob, as one note: `data 3x224x224 → conv1 64x112x112 → …`."""
    steps: list[str] = []
    shape: tuple[int, ...] | None = None
    while blob is not None and blob.type is not None:
        if steps and blob.type.sample == shape:
            steps[-1] = f"{blob.name} {size(blob.type.sample)}"
        else:
            steps.append(f"{blob.name} {size(blob.type.sample)}")
        shape = blob.type.sample
        blob = blob.source
    steps.reverse()
    if len(steps) > _CHAIN:
        steps = [steps[0], "…", *steps[1 - _CHAIN :]]
    return (f"shapes on the way: {' → '.join(steps)}",) if len(steps) > 1 else ()
