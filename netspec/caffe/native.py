"""Caffe's nets and solvers to native specs, tree to tree; every place stays that of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from netspec.caffe.opaque import is_shaped, opaque
from netspec.caffe.parts import CaffeLayer, lost_comments
from netspec.caffe.placing import Placed
from netspec.caffe.sources import RUN, Asked, Feed, declared, feeds, is_source, section
from netspec.caffe.translate import Flow, Kinds, kinds, translate
from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar import making
from netspec.grammar.ast import Comments, Element, Field, Item, Message, String
from netspec.ir.layer import Layer, Phase, Role

PHASES = (Phase.TRAIN, Phase.TEST)


def to_native(
    tree: Message, placed: Sequence[Placed], layers: Mapping[str, type[Layer]], asked: Asked
) -> Message:
    """A net in Caffe's current form as a native spec; faults go to the diagnostics.

    layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { … } }
        → conv "conv1" { … }

    A layer that is in one phase only says so.
    """
    return _Upgrade(kinds(layers), layers, asked).net(tree, placed)


def sources_of(net: Message, layers: Mapping[str, type[Layer]]) -> tuple[Element, ...]:
    """The layers of a net, in Caffe's current form, that bring data in."""
    known = kinds(layers)
    elements = [i for i in net.items if isinstance(i, Element) and i.word == "layer"]
    return tuple(e for e in elements if is_source(CaffeLayer.of(e), known))


@dataclass
class _Upgrade:
    kinds: Kinds
    layers: Mapping[str, type[Layer]]
    asked: Asked
    unknown: dict[Phase, set[str]] = field(default_factory=lambda: {p: set() for p in PHASES})
    """Blobs without a shape, in each phase."""

    def net(self, tree: Message, placed: Sequence[Placed]) -> Message:
        head: list[Item] = [i for i in tree.fields("name") if isinstance(i, Field)]
        sources = [p for p in placed if is_source(p.layer, self.kinds)]
        inputs = self._inputs(sources)
        fed = _commented([*self._sections(sources), *inputs], sources)
        flow = Flow()
        for item in inputs:
            self._advance(item, flow)
        rest = self._known([p for p in placed if p not in sources])
        body = self._layers(rest, flow)
        if not body and inputs:  # a net of data alone: a spec has layers
            blobs = [making.field("bottom", i.label, i.span) for i in inputs if i.label]
            body.append(making.element("silence", None, blobs, inputs[0].span))
        return replace(tree, items=(*head, *fed, *body, *self._ends(rest)))

    def _layers(self, placed: Sequence[Placed], flow: Flow) -> list[Item]:
        trained = any(self._role(p.layer) is Role.LOSS for p in placed)
        names = _Names()
        made: list[Item] = []
        for p in placed:
            label = names.take(p.layer, p.phases)
            kind = self.kinds.get(p.layer.word, self.layers["opaque"])
            if kind is self.layers["opaque"]:
                made.append(opaque(p.layer, label, p.phases, self.asked))
                flow.advance(kind, p.layer.tops, p.phases)
            else:
                made.append(
                    translate(p.layer, kind, label, p.phases, flow, self.asked, trained=trained)
                )
        return made

    def _role(self, layer: CaffeLayer) -> Role | None:
        kind = self.kinds.get(layer.word)
        return kind.role if kind else None

    def _inputs(self, sources: Sequence[Placed]) -> list[Element]:
        """An `input` for each blob that is fed; one for both phases where the shapes agree."""
        found: dict[str, dict[Phase, Feed]] = {}
        for placed in sources:
            try:
                made = feeds(placed.layer, self.asked)
            except SpecError as error:
                self.asked.diagnostics.error(error)
                made = ()
            for feed in made:
                for phase in placed.phases:
                    found.setdefault(feed.name, {}).setdefault(phase, feed)
        fed = {phase for placed in sources for phase in placed.phases}
        items: list[Element] = []
        for name, by_phase in found.items():
            shapes = {feed.shape for feed in by_phase.values()}
            if name == "label" and shapes == {()}:
                continue  # it needs no declaration
            if len(shapes) == 1:
                only = None if set(by_phase) == fed else next(iter(by_phase))
                items.append(declared(next(iter(by_phase.values())), only))
            else:
                items += [declared(feed, phase) for phase, feed in by_phase.items()]
        return items

    def _sections(self, sources: Sequence[Placed]) -> list[Element]:
        """The data section of each phase: that of its first data layer."""
        sections: list[Element] = []
        for phase in PHASES:
            found = [p.layer for p in sources if phase in p.phases]
            made = [(layer, s) for layer in found if (s := section(layer, phase)) is not None]
            sections += [s for _, s in made[:1]]
            for layer, _ in made[1:]:
                if layer.word in RUN:
                    message = f"phase {phase} reads one source: `{layer.label}` is only counted"
                    self.asked.warn(message, layer.span)
        return sections

    def _advance(self, item: Element, flow: Flow) -> None:
        rules = [i for i in (item.body.items if item.body else ()) if isinstance(i, Element)]
        rule = rules[0] if rules else None
        phases = [p for p in PHASES if rule is None or _phase_of(rule) is p]
        assert item.label is not None
        flow.advance(self.layers["input"], [item.label.value], phases)

    def _known(self, placed: Sequence[Placed]) -> list[Placed]:
        """Without the layers whose tops have no shape, and what hangs on them."""
        kept = []
        for p in placed:
            phases = tuple(ph for ph in p.phases if not self._hangs(p.layer, ph))
            if phases and not self._shaped(p.layer):
                self._report_shapeless(p.layer)
                phases = ()
            for phase in set(p.phases) - set(phases):
                self.unknown[phase].update(p.layer.tops)
            if phases:
                kept.append(Placed(p.layer, phases))
        return kept

    def _hangs(self, layer: CaffeLayer, phase: Phase) -> bool:
        return not self.unknown[phase].isdisjoint(layer.bottoms)

    def _shaped(self, layer: CaffeLayer) -> bool:
        """Whether the shapes of a layer's tops can be told."""
        kind = self.kinds.get(layer.word)
        if kind is None and not self.asked.lenient:
            return False
        return (kind is not None and kind is not self.layers["opaque"]) or is_shaped(
            layer, self.asked
        )

    def _report_shapeless(self, layer: CaffeLayer) -> None:
        """An unknown type, or a known one whose tops nobody tells the shape of."""
        top = layer.tops[0] if layer.tops else "top"
        if layer.word in self.kinds:
            message = f"the shape of `{top}` is not known: netspec does not run {layer.word} layers"
            hint = f"--shape {top}=… says it, the first axis included"
        else:
            message = f"unknown layer type `{layer.word}`{suggest(layer.word, self.kinds)}"
            hint = f"--lenient takes it as one that is only counted, --shape {top}=… says its shape"
        error = SpecError(message, layer.span, code="name", hint=hint)
        if self.asked.lenient:
            self.asked.diagnostics.warn(error)
        else:
            self.asked.diagnostics.error(error)

    def _ends(self, placed: Sequence[Placed]) -> list[Item]:
        """An empty head for each blob that nothing reads beside a loss: an output, to Caffe."""
        heads: list[Item] = []
        unread = {phase: self._unread(placed, phase) for phase in PHASES}
        for blob in dict.fromkeys([*unread[Phase.TRAIN], *unread[Phase.TEST]]):
            phases = [phase for phase in PHASES if blob in unread[phase]]
            span = unread[phases[0]][blob]
            read = making.field("bottom", String(blob, span), span)
            items: list[Item] = [read] if len(phases) == 2 else [making.only(phases[0]), read]
            heads.append(making.element("head", f"end{len(heads) + 1}", items, span))
        return heads

    def _unread(self, placed: Sequence[Placed], phase: Phase) -> dict[str, Span]:
        """The blobs that nothing reads beside a loss, and the layers that make them."""
        here = [p.layer for p in placed if phase in p.phases]
        if not any(self._role(layer) is Role.LOSS for layer in here):
            return {}
        read = {bottom for layer in here for bottom in layer.bottoms}
        hidden = [layer for layer in here if self._role(layer) is Role.HIDDEN and layer.tops]
        return {layer.tops[0]: layer.span for layer in hidden if not read.intersection(layer.tops)}


def _commented(made: Sequence[Element], sources: Sequence[Placed]) -> list[Item]:
    """Sections and inputs with the comments of their data layers, each at the first made of one."""
    waiting = {id(p.layer.element.span): p.layer for p in sources}
    commented: list[Item] = []
    for element in made:
        layer = waiting.pop(id(element.span), None)
        if layer is None:
            commented.append(element)
            continue
        body = element.body.items if element.body else ()
        original = layer.element.comments
        above = (*original.before, *lost_comments(layer.items, body))
        commented.append(replace(element, comments=Comments(above, original.after)))
    return commented


def _phase_of(rule: Element) -> Phase | None:
    for item in rule.body.items if rule.body else ():
        if isinstance(item, Field):
            return Phase(getattr(item.value, "word", ""))
    return None


@dataclass
class _Names:
    """The names of layers: Caffe's may repeat one, ours may not."""

    taken: dict[Phase, set[str]] = field(default_factory=lambda: {p: set() for p in PHASES})
    tried: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The last number of each name in the same phases: a hostile file has one name 20,000 times."""

    def take(self, layer: CaffeLayer, phases: Sequence[Phase]) -> String | None:
        """The layer's name, or the next free one with a number; None if it has none."""
        if layer.name is None or not layer.label:
            return None
        key = (layer.label, *phases)
        name, count = layer.label, self.tried.get(key, 1)
        while any(name in self.taken[phase] for phase in phases):
            count += 1
            name = f"{layer.label}_{count}"
        self.tried[key] = count
        for phase in phases:
            self.taken[phase].add(name)
        return replace(layer.name, value=name)
