"""Syntax tree to Net: lets, blocks, repeat, when, flow, names and shapes in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from netspec.diagnostics import DataError, Diagnostics, Span, SpecError, suggest
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
from netspec.ir.class_weights import with_given_weights
from netspec.ir.construction import RULES, Construction, Exhausted, where
from netspec.ir.declare import Declared, Load, declare
from netspec.ir.expansion import arguments, expand_frame
from netspec.ir.expression import Poisoned, UnknownName, Word, evaluate, truth
from netspec.ir.fields import shown
from netspec.ir.flow import Blob, Flow, Frame
from netspec.ir.freezing import freeze
from netspec.ir.groups import GROUPS, PARTS, Grouping
from netspec.ir.layer import Layer, Phase, Role
from netspec.ir.lints import lint
from netspec.ir.mixed import check_mixed
from netspec.ir.net import Net, Node, Place
from netspec.ir.place import place
from netspec.ir.scope import POISON, Lookup, Scope
from netspec.ir.sharing import settle_multipliers
from netspec.ir.stored import stored_inputs
from netspec.ir.wiring import report_missing


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
    lenient: bool = False,
    name: str = "net",
) -> Built | None:
    """The Net of `tree` for a phase; None if a fault was found (`diagnostics` has it).

    `batch` overrides the batch size of the phase's data section; without either it is 1. `load`
    reads what `include` names. A value that hangs on a faulty layer is poisoned silently, so that
    each fault is reported once; if `lenient`, the net is that of the layers without a fault.
    `name` is for a net that has none.
    """
    if diagnostics.full:
        return None
    declared = declare(tree, load, diagnostics)
    data = declared.section(phase)
    size = batch or (data.batch_size if data else 1)
    c = Construction(layers, phase, size, diagnostics)
    frame = Frame(declared.module, declared.module.scope, Flow())
    c.faulty = declared.faulty
    try:
        _Builder(c, declared).body(tree.items, frame)
        report_missing(c)
        settle_multipliers(c, declared.solver)
        if not c.faulty and not lenient:
            _report_idle(c, tree, frame)
    except Exhausted:
        return None
    if c.faulty and not lenient:
        return None
    sound = all(blob.type for blob in c.blobs.made.values())
    assert sound or c.faulty, "poison comes from a reported fault"
    net = Net(
        name=declared.name or name,
        phase=phase,
        batch=size,
        nodes=tuple(c.nodes),
        label=c.label,
        data=data,
        solver=declared.solver,
    )
    try:
        net = freeze(net, tree)
    except SpecError as error:
        diagnostics.error(error)
        return None
    fitted = _fitted(net, tree, diagnostics)
    if fitted is None:
        return None
    lint(fitted, tuple(c.places), diagnostics)
    return Built(fitted, tuple(c.places))


def _fitted(net: Net, tree: Message, diagnostics: Diagnostics) -> Net | None:
    """The net with what its data section gives it; None, and reported, if that does not fit."""
    try:
        stored_inputs(net)
        check_mixed(net)
        return with_given_weights(net)
    except DataError as error:
        label = "train" if net.phase is Phase.TRAIN else "test"
        span = _place_in_data(tree, label, str(error))
        diagnostics.error(SpecError(str(error), span, code="value"))
        return None


def _place_in_data(tree: Message, label: str, fault: str) -> Span:
    """Where a data section says what is at fault: its field, as closely as that is written."""
    words = fault.replace(":", " ").split()
    sections = [i for i in tree.items if isinstance(i, Element) and i.word == "data" and i.body]
    for section in sections:
        assert section.body is not None
        if section.label is None or section.label.value != label:
            continue
        said = [i for i in section.body.items if isinstance(i, Field) and i.key in words]
        if said:
            return said[0].span
        for inner in section.body.items:
            if isinstance(inner, Element) and inner.word == "transform" and inner.body:
                fields = [i for i in inner.body.items if isinstance(i, Field)]
                said = [f for f in fields if f.key in words]
                return said[0].span if said else inner.word_span
        return section.word_span
    return tree.span


def _report_idle(c: Construction, tree: Message, frame: Frame) -> None:
    """Report a spec without layers, and what works for nothing."""
    if not any(node.layer.role is not Role.INPUT for node in c.nodes):
        span = replace(tree.span, end=min(tree.span.end, tree.span.start + 1))
        c.diagnostics.error(SpecError("the spec has no layers", span, code="flow"))
        c.faulty = True
    if not any(node.weighed for node in c.nodes):
        return
    ends = {*c.ends, frame.flow.current}
    for node, spot in zip(c.nodes, c.places, strict=True):
        blobs = [c.blobs.made[top] for top in node.tops]
        if node.layer.role is Role.INPUT and not any(b.reads for b in blobs):
            c.warn(f"nothing reads the input `{node.name}`", spot.span, frame, code="unread")
        chained = node.layer.role is Role.HIDDEN and not node.weighed
        if chained and not any(b.reads or b in ends for b in blobs):
            _report_unread(c, node, spot)


def _report_unread(c: Construction, node: Node, spot: Place) -> None:
    """With a loss, a blob that nothing reads is work for nothing, unless it ends a chain."""
    error = SpecError(
        f"nothing reads `{node.tops[0]}`",
        spot.span,
        code="flow",
        hint="remove the layer, or put its chain into `head { … }`",
        trail=spot.trail,
    )
    c.diagnostics.error(error)
    c.faulty = True


@dataclass(frozen=True)
class _Builder:
    """Elaborates items in the order of the text."""

    c: Construction
    declared: Declared

    def body(self, items: tuple[Item, ...], frame: Frame) -> None:
        """Each item in turn; a fault in one does not hide those of the next."""
        for item in items:
            self.c.spend(item, frame)
            try:
                self._item(item, frame)
            except SpecError as error:
                if not frame.idle:
                    self.c.report(error, frame)
                self._poison(item, frame)
            except Poisoned:
                self._poison(item, frame)

    def _poison(self, item: Item, frame: Frame) -> None:
        """After a fault that may have kept layers from being made, the flow is unknown."""
        if isinstance(item, Let):
            if item.name not in frame.scope.names:
                frame.scope.bind(item.name, POISON, item.name_span)
        elif not frame.idle and not isinstance(item, Block | Field):
            frame.flow.current = Blob("", None, item.span)
            self.c.lost.add(item)

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
        known, hint = suggest(item.key, ("name",)), None
        if item.key in self.c.layers:
            known, hint = "", f"a layer has braces: `{item.key} {{ … }}`"
        message = f"{place} has no field `{item.key}`{known}"
        raise SpecError(message, item.key_span, code="field", hint=hint)

    def _lookup(self, frame: Frame) -> Lookup:
        return Lookup(frame.scope, frame.flow.type)

    def _let(self, item: Let, frame: Frame) -> None:
        if frame.top_level and item.name_span in self.declared.early:
            return
        frame.scope.bind(item.name, evaluate(item.value, self._lookup(frame)), item.name_span)

    def _repeat(self, item: Repeat, frame: Frame) -> None:
        count = evaluate(item.count, self._lookup(frame))
        if isinstance(count, Word):
            raise UnknownName(count, item.count.span)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise SpecError(
                f"repeat takes a whole number from 0 on, not {shown(count)}",
                item.count.span,
                code="value",
            )
        for i in range(count):
            self.c.spend(item, frame)
            scope = Scope(frame.scope)
            if item.index:
                scope.bind(item.index, i, item.span)
            self._inner(item.body, frame, scope)

    def _when(self, item: When, frame: Frame) -> None:
        chosen = item.body if truth(item.test, self._lookup(frame)) else item.otherwise
        if chosen is not None:
            self._inner(chosen, frame, Scope(frame.scope))

    def _inner(self, body: Message, frame: Frame, scope: Scope) -> None:
        """The items of a body that has a scope, but no name space and no flow of its own."""
        idle = self.c.idle(body, frame)
        inner = replace(frame, scope=scope, depth=frame.depth + 1, idle=idle)
        self.body(body.items, inner)

    def _element(self, item: Element, frame: Frame) -> None:
        if item.word in GROUPS:
            Grouping(self.c, self.body).group(item, frame)
        elif item.word in PARTS:
            Grouping(self.c, self.body).part(item, frame)
        elif item.word in RULES and not frame.top_level and item.label is None:
            pass  # read where the body began
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
        span = item.label.span if item.label else where(item)
        self.c.count_layer(span, frame)
        name = self.c.name(item.word, item.label, span, frame)
        if frame.idle or not self.c.active(item.body):
            self.c.left_out.add(name)
        else:
            self.c.claim(name, span, labelled=item.label is not None)
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
            message = "this is Caffe's form of a layer"
            hint = 'the native one is `conv "conv1" { … }`'
            return SpecError(message, where(item), code="name", hint=hint)
        for word, layer in self.c.layers.items():
            if layer.caffe and item.word in layer.caffe.words:
                message = f"unknown layer type `{item.word}`; here it is called `{word}`"
                return SpecError(message, where(item), code="name")
        known = suggest(item.word, [*self.c.layers, *GROUPS, *PARTS, "data", "solver", *blocks])
        return SpecError(f"unknown layer type `{item.word}`{known}", where(item), code="name")

    def _call(self, item: Call, frame: Frame) -> None:
        definition = frame.module.blocks.get(item.block)
        if definition is None:
            raise self._unknown_block(item, frame)
        span = item.label.span if item.label else where(item)
        name = self.c.name(item.block, item.label, span, frame)
        if self.c.idle(definition.block.body, frame):
            self.c.left_out.add(name)
            return
        self.c.claim(name, span, labelled=item.label is not None)
        given = arguments(self.c, definition.block, item, frame)
        inner = expand_frame(self.c, definition, item, given, name, frame)
        self.c.expansions[name] = definition
        self.body(definition.block.body.items, inner)
        if inner.flow.current is not None:
            self.c.blobs.alias(name, inner.flow.current, span)
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
