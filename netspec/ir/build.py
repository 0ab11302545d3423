"""Syntax tree to Net: lets, blocks, repeat, when, flow, names and shapes in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from netspec.diagnostics import Diagnostics, SpecError, suggest
from netspec.grammar.ast import (
    Block,
    Call,
    Element,
    Field,
    Item,
    Let,
    Message,
    Repeat,
    When,
)
from netspec.ir.construction import Construction, Exhausted, where
from netspec.ir.declare import Declared, Load, declare
from netspec.ir.expansion import arguments, expand_frame
from netspec.ir.expression import Poisoned, Word, evaluate, truth, unknown
from netspec.ir.fields import shown
from netspec.ir.flow import Blob, Flow, Frame
from netspec.ir.groups import GROUPS, PARTS, Grouping
from netspec.ir.layer import Layer, Phase, Role
from netspec.ir.net import Net, Place
from netspec.ir.place import place, report_missing
from netspec.ir.scope import POISON, Lookup, Scope


@dataclass(frozen=True)
class Built:
    """A net and where each of its nodes was written."""

    net: Net
    places: tuple[Place, ...]


def build(
    tree: Message,
    *,
    layers: Mapping[str, type[Layer]],
    load: Load,
    phase: Phase,
    batch: int | None,
    diagnostics: Diagnostics,
) -> Built | None:
    """The Net of `tree` for a phase; None if a fault was found (`diagnostics` has it).

    `batch` overrides the batch size of the phase's data section; without either it is 1. `load`
    reads what `include` names. A value that hangs on a faulty layer is poisoned silently, so that
    each fault is reported once.
    """
    before = len(diagnostics.errors)
    declared = declare(tree, load, diagnostics)
    data = declared.data.get(phase)
    size = batch or (data.batch_size if data else 1)
    construction = Construction(layers, phase, size, diagnostics)
    flow = Flow()
    frame = Frame(declared.module, declared.module.scope, flow)
    try:
        _Builder(construction, declared).body(tree.items, frame)
        report_missing(construction)
    except Exhausted:
        return None
    if len(diagnostics.errors) == before and not construction.nodes:
        _report_empty(tree, diagnostics)
    if len(diagnostics.errors) == before:
        _report_unread(construction, flow, frame)
    if len(diagnostics.errors) > before:
        return None
    net = Net(
        name=declared.name,
        phase=phase,
        batch=size,
        nodes=tuple(construction.nodes),
        label=construction.label,
        data=data,
        solver=declared.solver,
    )
    return Built(net, tuple(construction.places))


def _report_empty(tree: Message, diagnostics: Diagnostics) -> None:
    span = replace(tree.span, end=min(tree.span.end, tree.span.start + 1))
    diagnostics.error(SpecError("the spec has no layers", span, code="flow"))


def _report_unread(c: Construction, flow: Flow, frame: Frame) -> None:
    """With a loss, a blob that nothing reads is work for nothing, unless it ends a chain."""
    if not any(node.loss_weight for node in c.nodes):
        return
    ends = {blob.name for blob in (*c.ends, flow.current) if blob is not None}
    for node, spot in zip(c.nodes, c.places, strict=True):
        if node.layer.role is not Role.HIDDEN:
            continue
        blobs = [c.blobs.made[top] for top in node.tops]
        if all(b.reads == 0 and b.name not in ends for b in blobs):
            error = SpecError(
                f"nothing reads `{node.tops[0]}`",
                spot.span,
                code="flow",
                hint="remove the layer, or put its chain into `head { … }`",
                trail=spot.trail,
            )
            c.diagnostics.error(error)


@dataclass(frozen=True)
class _Builder:
    """Elaborates items in the order of the text."""

    c: Construction
    declared: Declared

    def body(self, items: tuple[Item, ...], frame: Frame) -> None:
        """Each item in turn; a fault in one does not hide those of the next."""
        for item in items:
            self.c.spend(item.span, frame)
            try:
                self._item(item, frame)
            except SpecError as error:
                self.c.report(error, frame)
                self._poison(item, frame)
            except Poisoned:
                self._poison(item, frame)

    def _poison(self, item: Item, frame: Frame) -> None:
        """After a fault that may have kept layers from being made, the flow is unknown."""
        if not isinstance(item, Let | Block | Field):
            frame.flow.current = Blob("", None, item.span)
        elif isinstance(item, Let) and item.name not in frame.scope.names:
            frame.scope.bind(item.name, POISON, item.name_span)

    def _item(self, item: Item, frame: Frame) -> None:
        match item:
            case Element():
                self._element(item, frame)
            case Call():
                self._call(item, frame)
            case Let():
                self._let(item, frame)
            case Repeat():
                self._repeat(item, frame)
            case When():
                self._when(item, frame)
            case Block():
                if not frame.top_level:
                    message = "a block is written at the top level of a file"
                    raise SpecError(message, item.name_span, code="syntax")
            case Field():
                self._field(item, frame)

    def _field(self, item: Field, frame: Frame) -> None:
        if frame.top_level and item.key == "name":
            return
        place = "a spec" if frame.top_level else "a body"
        raise SpecError(
            f"{place} has no field `{item.key}`{suggest(item.key, ('name',))}",
            item.key_span,
            code="field",
        )

    def _lookup(self, frame: Frame) -> Lookup:
        return Lookup(frame.scope, frame.flow.type)

    def _let(self, item: Let, frame: Frame) -> None:
        if frame.top_level and item.name in self.declared.early and frame.depth == 0:
            return
        frame.scope.bind(item.name, evaluate(item.value, self._lookup(frame)), item.name_span)

    def _repeat(self, item: Repeat, frame: Frame) -> None:
        count = evaluate(item.count, self._lookup(frame))
        if isinstance(count, Word):
            raise unknown(count, item.count.span, frame.scope.known)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise SpecError(
                f"repeat takes a whole number from 0 on, not {shown(count)}",
                item.count.span,
                code="value",
            )
        for i in range(count):
            self.c.spend(item.span, frame)
            scope = Scope(frame.scope)
            if item.index:
                scope.bind(item.index, i, item.span)
            self.body(item.body.items, replace(frame, scope=scope, depth=frame.depth + 1))

    def _when(self, item: When, frame: Frame) -> None:
        chosen = item.body if truth(item.test, self._lookup(frame)) else item.otherwise
        if chosen is not None:
            inner = replace(frame, scope=Scope(frame.scope), depth=frame.depth + 1)
            self.body(chosen.items, inner)

    def _element(self, item: Element, frame: Frame) -> None:
        if item.word in GROUPS:
            Grouping(self.c, self.body).group(item, frame)
        elif item.word in PARTS:
            Grouping(self.c, self.body).part(item, frame)
        elif item.word in ("data", "solver", "include"):
            if not frame.top_level:
                raise SpecError(
                    f"`{item.word}` stands at the top level of a file", where(item), code="syntax"
                )
        elif item.word in self.c.layers:
            self._layer(item, frame)
        else:
            raise self._unknown(item, frame)

    def _layer(self, item: Element, frame: Frame) -> None:
        name = self.c.name(item.word, item.label, where(item), frame)
        if self.c.active(item.body):
            self.c.claim(name, item.label.span if item.label else where(item))
            place(self.c, self.c.layers[item.word], item, name, frame)

    def _unknown(self, item: Element, frame: Frame) -> SpecError:
        blocks = frame.module.blocks
        if item.word in blocks:
            return SpecError(
                f"`{item.word}` is a block: expand it with `{item.word}(…)`",
                where(item),
                code="name",
            )
        if item.word in ("layer", "layers"):
            return SpecError(
                "this is Caffe's form of a layer; a native one is `conv \"conv1\" { … }`",
                where(item),
                code="name",
            )
        known = suggest(item.word, [*self.c.layers, *GROUPS, *PARTS, "data", "solver", *blocks])
        return SpecError(f"unknown layer type `{item.word}`{known}", where(item), code="name")

    def _call(self, item: Call, frame: Frame) -> None:
        definition = frame.module.blocks.get(item.block)
        if definition is None:
            raise self._unknown_block(item, frame)
        name = self.c.name(item.block, item.label, where(item), frame)
        self.c.claim(name, item.label.span if item.label else where(item))
        definition.used = True
        given = arguments(definition.block, item, self._lookup(frame))
        inner = expand_frame(self.c, definition, item, given, name, frame)
        self.body(definition.block.body.items, inner)
        if inner.flow.current is not None:
            self.c.blobs.aliases[name] = inner.flow.current
        frame.flow.current = inner.flow.current

    def _unknown_block(self, item: Call, frame: Frame) -> SpecError:
        if item.block in self.c.layers or item.block in GROUPS:
            return SpecError(
                f"`{item.block}` is no block: its fields stand in braces, `{item.block} {{ … }}`",
                where(item),
                code="name",
            )
        known = suggest(item.block, [*frame.module.blocks, *self.c.layers])
        return SpecError(f"there is no block `{item.block}`{known}", where(item), code="name")


