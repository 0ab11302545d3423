"""Blobs while a net is built: who made them, what they are called, and what flows where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

from netspec.diagnostics import Span, SpecError
from netspec.ir.expression import Poisoned
from netspec.ir.scope import Definition, Module, Scope
from netspec.ir.types import TensorType, size

_CHAIN = 5
"""Shapes shown on the way to a fault."""

_WALK = 500
"""Blobs looked at to find them: the way may be as long as the net."""


@dataclass(eq=False)
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
    """Bodies around."""
    idle: bool = False
    """Whether a body around is of the other phase: its items are counted, and nothing is made."""

    @property
    def top_level(self) -> bool:
        """Whether the item stands in no body: of a group, a block, a repeat or a when."""
        return self.depth == 0


@dataclass
class Blobs:
    """Every blob of the net by full name, and the labels that stand for a group's result."""

    made: dict[str, Blob] = field(default_factory=dict)
    aliases: dict[str, Blob] = field(default_factory=dict)

    def find(self, name: str, prefix: str) -> Blob | None:
        """The blob that `name` means inside `prefix`: from the innermost scope outward."""
        full = resolve(name, prefix, self.made, self.aliases)
        return None if full is None else self.made.get(full) or self.aliases[full]

    def add(self, blob: Blob) -> None:
        """Record a new blob; one of that name must not exist."""
        there = self.made.get(blob.name) or self.aliases.get(blob.name)
        if there is not None:
            hint = None
            if there.maker == "label" and blob.maker == "input":
                hint = "declare the label before a layer reads it"
            raise SpecError(
                f"blob `{blob.name}` is made twice",
                blob.span,
                code="name",
                trail=[("the first one is here", there.span)],
                hint=hint,
            )
        self.made[blob.name] = blob

    def alias(self, name: str, blob: Blob, span: Span) -> None:
        """Let the label of a group or an expansion stand for its result."""
        if name in self.made:
            raise SpecError(
                f"blob `{name}` is made twice",
                span,
                code="name",
                trail=[("the first one is here", self.made[name].span)],
            )
        self.aliases[name] = blob


def resolve(name: str, prefix: str, *known: Container[str]) -> str | None:
    """The full form of `name` that is known, from the innermost scope outward."""
    while True:
        if any(prefix + name in names for names in known):
            return prefix + name
        if not prefix:
            return None
        prefix = prefix[: prefix.rfind("/", 0, -1) + 1]


def chain(blob: Blob | None) -> tuple[str, ...]:
    """The shapes that led to a blob, as one note: `data 3x224x224 → conv1 64x112x112 → …`."""
    steps: list[str] = []
    shape: tuple[int, ...] | None = None
    for _ in range(_WALK):
        if blob is None or blob.type is None:
            break
        if steps and blob.type.sample == shape:
            steps.pop()
        steps.append(f"{blob.name} {size(blob.type.sample)}")
        shape = blob.type.sample
        blob = blob.source
    start = [] if blob is not None and blob.type is not None else steps[-1:]
    steps.reverse()
    if len(steps) > _CHAIN:
        steps = [*start, "…", *steps[1 - _CHAIN :]]
    return (f"shapes on the way: {' → '.join(steps)}",) if len(steps) > 1 else ()
