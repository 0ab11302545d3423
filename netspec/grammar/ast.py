"""The syntax tree: what the author wrote, where, and with which comments.

Spans and comments never take part in comparison: two trees are equal if they say the same.
The `depth` of an expression is its number of levels; what recurses on expressions may rely on
the parser's bound on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from netspec.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Number:
    """A literal as written, such as `0x1F`, `1e-4` or `.5`, and the number it means."""

    text: str
    value: int | float
    span: Span = field(compare=False, repr=False)
    depth: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Size:
    """`3x224x224`: the same as the list `[3, 224, 224]`."""

    extent: tuple[int, ...]
    span: Span = field(compare=False, repr=False)
    depth: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class String:
    """A quoted text, unescaped, adjacent ones joined."""

    value: str
    span: Span = field(compare=False, repr=False)
    depth: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Reference:
    """A word in a value: a name in scope, an enum word, or `in.channels`."""

    path: tuple[str, ...]
    span: Span = field(compare=False, repr=False)
    depth: ClassVar[int] = 1

    @property
    def word(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    operator: str
    operand: Expr
    span: Span = field(compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + self.operand.depth)


@dataclass(frozen=True, slots=True)
class Binary:
    """`+ - * / // %`, `< <= == != >= >`, `and or`."""

    operator: str
    left: Expr
    right: Expr
    span: Span = field(compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max(self.left.depth, self.right.depth))


@dataclass(frozen=True, slots=True)
class Choice:
    """`then if test else other`."""

    then: Expr
    test: Expr
    other: Expr
    span: Span = field(compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "depth", 1 + max(self.then.depth, self.test.depth, self.other.depth)
        )


@dataclass(frozen=True, slots=True)
class Invoke:
    """`min(a, b)`, `max(a, b)`; whether the function exists is the builder's question."""

    function: str
    arguments: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max((a.depth for a in self.arguments), default=0))


@dataclass(frozen=True, slots=True)
class List:
    """`[a, b]`; messages may stand in it, as in the protobuf text format."""

    elements: tuple[Expr | Message, ...]
    span: Span = field(compare=False, repr=False)


Expr: TypeAlias = Number | Size | String | Reference | Unary | Binary | Choice | Invoke


@dataclass(frozen=True, slots=True)
class Comments:
    """The comments of one item, each without `#` and the one blank after it."""

    before: tuple[str, ...] = ()
    """Lines of their own above the item; '' is an empty line, ' ' a bare `#`."""
    after: str | None = None
    """The comment on the line where the item ends."""


NO_COMMENTS = Comments()


@dataclass(frozen=True, slots=True)
class Message:
    """A braced list of items, or a whole file."""

    items: tuple[Item, ...]
    span: Span = field(compare=False, repr=False)
    tail: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Comments after the last item."""
    head: str | None = field(default=None, compare=False, repr=False)
    """The comment on the line of the opening brace."""

    def fields(self, key: str) -> Iterator[Field | Element]:
        """The fields and sub-messages called `key`, in source order."""
        for item in self.items:
            match item:
                case Field(key=name) | Element(word=name) if name == key:
                    yield item


@dataclass(frozen=True, slots=True)
class Field:
    """`key: value`."""

    key: str
    value: Expr | List
    span: Span = field(compare=False, repr=False)
    key_span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Element:
    """`word`, `word "label"`, `word { … }`, `word: { … }`: a layer, a section or a sub-message."""

    word: str
    label: String | None
    body: Message | None
    span: Span = field(compare=False, repr=False)
    word_span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: by position, or `name: value`."""

    name: str | None
    value: Expr | List
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`block_name(arguments) "label"`: an expansion."""

    block: str
    arguments: tuple[Argument, ...]
    label: String | None
    span: Span = field(compare=False, repr=False)
    word_span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = value`."""

    name: str
    value: Expr | List
    span: Span = field(compare=False, repr=False)
    name_span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal of a block, with its default if it has one."""

    name: str
    default: Expr | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """`block name(formals) { … }`: a layer type that the user writes."""

    name: str
    formals: tuple[Formal, ...]
    body: Message
    span: Span = field(compare=False, repr=False)
    name_span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat count as index { … }`."""

    count: Expr
    index: str | None
    body: Message
    span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class When:
    """`when test { … } else { … }`."""

    test: Expr
    body: Message
    otherwise: Message | None
    span: Span = field(compare=False, repr=False)
    comments: Comments = field(default=NO_COMMENTS, compare=False, repr=False)


Item: TypeAlias = Field | Element | Call | Let | Block | Repeat | When
