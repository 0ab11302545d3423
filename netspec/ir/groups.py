"""Groups: `residual`, `inception` and `head`, sugar over eltwise, concat and a side chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from netspec.diagnostics import Span, SpecError
from netspec.grammar.ast import Element, Field, Item
from netspec.ir.construction import RULES, Construction, where
from netspec.ir.expression import Poisoned, evaluate
from netspec.ir.flow import Blob, Branches, Flow, Frame, chain
from netspec.ir.place import add_node
from netspec.ir.scope import Lookup, Scope
from netspec.ir.types import Shape, size
from netspec.ir.wiring import UNWIRED

GROUPS = ("residual", "inception", "head")
PARTS = {"branch": "inception", "shortcut": "residual"}
"""The parts of a group, and the group that holds them."""

_BRANCHES = 8
"""Branches whose shapes a message shows."""

Elaborate = Callable[[tuple[Item, ...], Frame], None]


@dataclass(frozen=True)
class Grouping:
    """Elaborates groups; `body` elaborates the items within."""

    c: Construction
    body: Elaborate

    def group(self, element: Element, frame: Frame) -> None:
        """A `residual`, `inception` or `head`."""
        c = self.c
        span = element.label.span if element.label else where(element)
        name = c.name(element.word, element.label, span, frame)
        if frame.idle or not c.active(element.body):
            c.left_out.add(name)
            return
        c.claim(name, span, labelled=element.label is not None)
        start, items = self._start(element, frame)
        group = None if element.word == "head" else Branches(element.word, start)
        flow = Flow(start)
        inner = replace(
            frame,
            scope=Scope(frame.scope),
            flow=flow,
            prefix=f"{name}/",
            counts=Counter(),
            group=group,
            depth=frame.depth + 1,
        )
        self.body(items, inner)
        if group is None:
            self._end(flow, name, span)
            return
        result = self._joined(group, flow, element, inner) or Blob(name, None, span)
        frame.flow.current = result
        c.blobs.alias(name, result, span)

    def _end(self, flow: Flow, name: str, span: Span) -> None:
        """The result of a head, which the flow around it does not see."""
        if flow.current is not None:
            self.c.ends.append(flow.current)
            self.c.blobs.alias(name, flow.current, span)

    def _joined(self, group: Branches, flow: Flow, element: Element, frame: Frame) -> Blob | None:
        """The result of a residual or an inception; None if it hangs on a fault."""
        join = self._add if group.kind == "residual" else self._concatenate
        try:
            return join(group, flow, element, frame)
        except SpecError as error:
            self.c.report(error, frame)
        except Poisoned:
            pass
        return None

    def part(self, element: Element, frame: Frame) -> None:
        """A `branch` or a `shortcut`: a chain of its own from the group's input."""
        group = frame.group
        if group is None or group.kind != PARTS[element.word]:
            raise SpecError(
                f"`{element.word}` stands in `{PARTS[element.word]} {{ … }}` only",
                where(element),
                code="flow",
            )
        if element.label is not None:
            error = SpecError(f"a {element.word} has no name", element.label.span, code="name")
            self.c.report(error, frame)
        if not self.c.active(element.body):
            return
        if element.word == "shortcut" and group.found:
            raise SpecError("a residual has one shortcut", where(element), code="flow")
        try:
            start, items = self._start(element, replace(frame, flow=Flow(group.start)))
            flow = Flow(start)
            scope = Scope(frame.scope)
            self.body(
                items, replace(frame, scope=scope, flow=flow, group=None, depth=frame.depth + 1)
            )
            group.found.append(flow.current)
        except SpecError as error:
            self.c.report(error, frame)
            group.found.append(Blob("", None, where(element)))

    def _start(self, element: Element, frame: Frame) -> tuple[Blob | None, tuple[Item, ...]]:
        """Where the group's chain begins, and its items without the fields of the group itself."""
        if element.body is None:
            if element.word == "branch":
                return frame.flow.current, ()
            raise SpecError(
                f"`{element.word}` takes a body, `{element.word} {{ … }}`",
                where(element),
                code="syntax",
            )
        start, items = frame.flow.current, []
        for item in element.body.items:
            if isinstance(item, Element) and item.word in RULES:
                continue
            if isinstance(item, Field) and item.key == "bottom":
                start = self._bottom(item, element, frame)
                continue
            items.append(item)
        return start, tuple(items)

    def _bottom(self, item: Field, element: Element, frame: Frame) -> Blob:
        value = evaluate(item.value, Lookup(frame.scope, frame.flow.type))
        if not isinstance(value, str):
            raise SpecError("bottom takes the name of a blob", item.value.span, code="value")
        blob = self.c.blobs.find(value, frame.prefix)
        if blob is None:
            self.c.missing.append((value, element.word, item.value.span, frame))
            return Blob(value, None, item.value.span)
        return blob

    def _add(self, group: Branches, flow: Flow, element: Element, frame: Frame) -> Blob:
        """body + shortcut, or + the identity."""
        start, body = group.start, flow.current
        shortcut = group.found[0] if group.found else start
        if start is None or body is None or shortcut is None:
            raise SpecError("a residual has nothing to read", where(element), code="flow")
        if body.type is None or shortcut.type is None:
            raise Poisoned
        if body is shortcut:
            message = "a residual with an empty body adds a blob to itself"
            raise SpecError(message, where(element), code="flow")
        if body.type.shape != shortcut.type.shape:
            raise self._disagreement(body, shortcut, group, element)
        return self._join("eltwise", [body, shortcut], element, frame)

    def _disagreement(
        self, body: Blob, shortcut: Blob, group: Branches, element: Element
    ) -> SpecError:
        assert body.type is not None
        assert shortcut.type is not None
        there, given = body.type.sample, shortcut.type.sample
        return SpecError(
            f"residual branches disagree: body gives {size(there)}, shortcut gives {size(given)}",
            where(element),
            code="shape",
            notes=chain(body),
            hint=None if group.found else _projection(given, there),
        )

    def _concatenate(self, group: Branches, flow: Flow, element: Element, frame: Frame) -> Blob:
        """The branches side by side, joined on channels."""
        if flow.current is not group.start:
            raise SpecError(
                "an inception holds branches only",
                where(element),
                code="flow",
                hint="wrap its layers in `branch { … }`",
            )
        if not group.found:
            raise SpecError("an inception needs a branch", where(element), code="flow")
        ends: list[Blob] = []
        for end in group.found:
            if end is None:
                raise SpecError("an inception has nothing to read", where(element), code="flow")
            ends.append(end)
        shapes = [end.type.sample for end in ends if end.type is not None]
        if len(shapes) < len(ends):
            raise Poisoned
        if len({(len(shape), shape[1:]) for shape in shapes}) > 1:
            depth = "depth, " if len(shapes[0]) == 4 else ""
            raise SpecError(
                f"branches disagree in {depth}height and width: {_listed(ends, shapes)}",
                where(element),
                code="shape",
                notes=chain(group.start),
            )
        return self._join("concat", ends, element, frame)

    def _join(self, word: str, bottoms: list[Blob], element: Element, frame: Frame) -> Blob:
        c, span = self.c, where(element)
        c.count_layer(span, frame)
        name = c.name(word, None, span, frame)
        c.claim(name, span, labelled=False)
        made = Element(word, None, None, span, span)
        (top,) = add_node(c, c.layers[word](), bottoms, UNWIRED, made, name, frame)
        return top


def _listed(ends: list[Blob], shapes: list[Shape]) -> str:
    """Where each of the first branches ends."""
    given = [f"{b.name} gives {size(s)}" for b, s in zip(ends, shapes, strict=True)]
    return ", ".join([*given[:_BRANCHES], *(["…"] if len(given) > _BRANCHES else [])])


def _projection(given: Shape, wanted: Shape) -> str | None:
    """The convolution that makes a shortcut of images fit, if one by a whole stride does."""
    if not len(given) == len(wanted) == 3:
        return None
    stride = -(-given[-1] // wanted[-1])
    if any(-(-n // stride) != m for n, m in zip(given[1:], wanted[1:], strict=True)):
        return None
    steps = f" and stride: {stride}" if stride > 1 else ""
    return f"give it `shortcut {{ … }}` with a convolution of num_output: {wanted[0]}{steps}"
