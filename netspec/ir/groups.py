"""Groups: `residual`, `inception` and `head`, sugar over eltwise, concat and a side chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from netspec.diagnostics import SpecError
from netspec.grammar.ast import Element, Field, Item, Message, String
from netspec.ir.construction import Construction, where
from netspec.ir.expression import Poisoned
from netspec.ir.flow import Blob, Branches, Flow, Frame, chain
from netspec.ir.place import Wiring, add_node
from netspec.ir.scope import Scope
from netspec.ir.types import size

GROUPS = ("residual", "inception", "head")
PARTS = {"branch": "inception", "shortcut": "residual"}
"""The parts of a group, and the group that holds them."""

Elaborate = Callable[[tuple[Item, ...], Frame], None]


@dataclass(frozen=True)
class Grouping:
    """Elaborates groups; `body` elaborates the items within."""

    c: Construction
    body: Elaborate

    def group(self, element: Element, frame: Frame) -> None:
        """A `residual`, `inception` or `head`."""
        c, span = self.c, where(element)
        name = c.name(element.word, element.label, span, frame)
        if not c.active(element.body):
            return
        c.claim(name, span)
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
            if flow.current is not None:
                c.ends.append(flow.current)
            return
        try:
            join = self._add if element.word == "residual" else self._concatenate
            result = join(group, flow, element, inner)
        except SpecError as error:
            c.report(error, frame)
            result = None
        except Poisoned:
            result = None
        frame.flow.current = result or Blob(name, None, span)
        c.blobs.aliases[name] = frame.flow.current

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
            raise SpecError(f"a {element.word} has no name", element.label.span, code="name")
        if not self.c.active(element.body):
            return
        if element.word == "shortcut" and group.found:
            raise SpecError("a residual has one shortcut", where(element), code="flow")
        start, items = self._start(element, replace(frame, flow=Flow(group.start)))
        flow = Flow(start)
        self.body(
            items,
            replace(
                frame, scope=Scope(frame.scope), flow=flow, group=None, depth=frame.depth + 1
            ),
        )
        group.found.append(flow.current)

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
            if isinstance(item, Element) and item.word in ("include", "exclude"):
                continue
            if isinstance(item, Field) and item.key == "bottom":
                start = self._bottom(item, element, frame)
                continue
            items.append(item)
        return start, tuple(items)

    def _bottom(self, item: Field, element: Element, frame: Frame) -> Blob:
        value = item.value
        if not isinstance(value, String):
            raise SpecError("bottom takes the name of a blob", value.span, code="value")
        blob = self.c.blobs.find(value.value, frame.prefix)
        if blob is None:
            self.c.missing.append((value.value, element.word, value.span, frame))
            return Blob(value.value, None, value.span)
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
            raise SpecError("a residual with an empty body adds a blob to itself", where(element), code="flow")
        if body.type.shape != shortcut.type.shape:
            raise self._disagreement(body, shortcut, group, element)
        return self._join("eltwise", [body, shortcut], element, frame)

    def _disagreement(
        self, body: Blob, shortcut: Blob, group: Branches, element: Element
    ) -> SpecError:
        assert body.type is not None
        assert shortcut.type is not None
        there, given = body.type.sample, shortcut.type.sample
        hint = None
        if not group.found and len(there) == len(given) == 3:
            hint = f"give it `shortcut {{ … }}` with a convolution of num_output: {there[0]}"
            stride = -(-given[1] // there[1])
            if stride > 1:
                hint += f" and stride: {stride}"
        return SpecError(
            f"residual branches disagree: body gives {size(there)}, shortcut gives {size(given)}",
            where(element),
            code="shape",
            notes=chain(body),
            hint=hint,
        )

    def _concatenate(self, group: Branches, flow: Flow, element: Element, frame: Frame) -> Blob:
        """The branches side by side, joined on channels."""
        if flow.current is not group.start:
            raise SpecError(
                "an inception holds branches only", where(element), code="flow",
                hint="wrap its layers in `branch { … }`",
            )  # fmt: skip
        if not group.found:
            raise SpecError("an inception needs a branch", where(element), code="flow")
        ends: list[Blob] = []
        for end in group.found:
            if end is None:
                raise SpecError("an inception has nothing to read", where(element), code="flow")
            if end.type is None:
                raise Poisoned
            ends.append(end)
        shapes = [b.type.sample for b in ends if b.type is not None]
        if len({s[1:] for s in shapes}) > 1 or len({len(s) for s in shapes}) > 1:
            given = ", ".join(f"{b.name} gives {size(s)}" for b, s in zip(ends, shapes, strict=True))
            raise SpecError(
                f"branches disagree in height and width: {given}", where(element), code="shape",
                notes=chain(group.start),
            )  # fmt: skip
        return self._join("concat", ends, element, frame)

    def _join(self, word: str, bottoms: list[Blob], element: Element, frame: Frame) -> Blob:
        layer = self.c.layers[word].model_validate({})
        name = self.c.name(word, None, where(element), frame)
        self.c.claim(name, where(element))
        (top,) = add_node(
            self.c, layer, bottoms, Wiring(), Element(word, None, Message((), element.span), element.span, where(element)), name, frame
        )
        return top
