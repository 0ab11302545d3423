"""Caffe's files to native specs, tree to tree: a net, or a solver with the nets it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netspec.caffe import forms
from netspec.caffe.flow import check_flow
from netspec.caffe.native import sources_of, to_native
from netspec.caffe.nets import SolverNet, find_test_nets, find_train_net
from netspec.caffe.placing import place
from netspec.caffe.solver import solver_section
from netspec.caffe.sources import Asked, Probe
from netspec.caffe.state import NetState, filter_net, state_of
from netspec.caffe.validate import validate_caffe
from netspec.diagnostics import Diagnostics, SpecError
from netspec.grammar.ast import Element, Field, Message
from netspec.ir.layer import Layer, Phase
from netspec.ir.types import Shape


@dataclass(frozen=True)
class Wishes:
    """What the command line says of a Caffe file."""

    level: int | None = None
    stages: tuple[str, ...] = ()
    lenient: bool = False
    """Whether what netspec does not know is a warning, and left out."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Shapes that the file does not tell: of a sample for what data layers make, else whole."""

    def over(self, state: NetState, phase: Phase) -> NetState:
        """The state of a net in a phase: what its files declare, and what is asked for."""
        level = state.level if self.level is None else self.level
        return NetState(phase, level, (*state.stages, *self.stages))


Open = Callable[[Field], Message]
"""The tree of the file that a field of a solver names; SpecError if it cannot be read."""


@dataclass(frozen=True)
class Upgrader:
    """Reads Caffe's files as the command line wishes.

    Faults go to the diagnostics; those that leave nothing to go on with are raised as SpecErrors.
    """

    layers: Mapping[str, type[Layer]]
    wishes: Wishes
    probe: Probe
    diagnostics: Diagnostics
    phase: Phase = Phase.TEST
    """The phase that must stand; the other one is left out if it alone is at fault."""

    def net(self, tree: Message) -> Message:
        """The native spec of a net of any form, with its phases beside each other."""
        current = self._current(tree)
        state = state_of(current)
        filtered = {p: self._filtered(current, self.wishes.over(state, p)) for p in Phase}
        return self._native(current, filtered, self.phase)

    def solver(self, tree: Message, open_net: Open) -> Message:
        """The native spec of a solver: its training net, its first test net, and itself.

        Without a `test_iter` it tests nothing, and phase TEST is that of the training net.
        """
        checked = self._valid(tree, "SolverParameter")
        checked = forms.upgrade_solver(
            checked, lenient=self.wishes.lenient, diagnostics=self.diagnostics
        )
        found = Diagnostics()
        trained = find_train_net(checked, diagnostics=found)
        tested = find_test_nets(checked, diagnostics=found)
        self._take(found)
        self.diagnostics.check()
        self._tell(checked, tested)
        train = (trained and self._opened(trained, open_net)) or Message((), tree.span)
        state = trained.state_of(train) if trained else NetState()
        state = self.wishes.over(state, Phase.TRAIN)
        filtered = {Phase.TRAIN: self._filtered(train, state)}
        if tested:
            same = trained is not None and tested[0].source is trained.source
            test = (None if same else self._opened(tested[0], open_net)) or train
            filtered[Phase.TEST] = self._filtered(test, tested[0].state_of(test))
        else:
            state = self.wishes.over(state_of(train), Phase.TEST)
            filtered[Phase.TEST] = self._filtered(train, state)
        native = self._native(train, filtered, Phase.TRAIN)
        return replace(native, items=(*native.items, solver_section(checked)))

    def _tell(self, solver: Message, tested: Sequence[SolverNet]) -> None:
        """What a solver asks for that is asked for otherwise here."""
        for item in solver.fields("weights"):
            message = "weights to begin with are given by --weights"
            self.diagnostics.warn(SpecError(message, item.span, code="caffe"))
        for net in tested[1:]:
            message = f"one net is tested, the first of {len(tested)}"
            self.diagnostics.warn(SpecError(message, net.source.span, code="caffe"))

    def _opened(self, net: SolverNet, open_net: Open) -> Message | None:
        """A solver's net; None if a lenient reading cannot find its file."""
        if isinstance(net.source, Element):
            tree = net.source.body or Message((), net.source.span)
            return self._current(tree, checked=True)
        try:
            return self._current(open_net(net.source))
        except SpecError as error:
            if not self.wishes.lenient:
                raise
            self.diagnostics.warn(error)
            return None

    def _current(self, tree: Message, *, checked: bool = False) -> Message:
        """A net in Caffe's current form."""
        valid = tree if checked else self._valid(tree, "NetParameter")
        return forms.upgrade_net(valid, lenient=self.wishes.lenient, diagnostics=self.diagnostics)

    def _valid(self, tree: Message, message: str) -> Message:
        """The tree as protobuf would read it; SpecErrors if it would not."""
        lenient, diagnostics = self.wishes.lenient, self.diagnostics
        valid = validate_caffe(tree, message, lenient=lenient, diagnostics=diagnostics)
        if valid is None:
            diagnostics.check()
        assert valid is not None, "what protobuf refuses is reported"
        return valid

    def _filtered(self, net: Message, state: NetState) -> Message:
        return filter_net(net, state, diagnostics=self.diagnostics)

    def _native(self, net: Message, filtered: Mapping[Phase, Message], wanted: Phase) -> Message:
        """The native spec of both phases; of the wanted one in both, if the other is at fault."""
        native, found = self._attempt(net, filtered)
        if found.errors and filtered[Phase.TRAIN] != filtered[Phase.TEST]:
            alone, less = self._attempt(net, dict.fromkeys(Phase, filtered[wanted]))
            if not less.errors:
                (other,) = set(Phase) - {wanted}
                message = f"phase {other} is left out: {found.errors[0].message}"
                less.warn(SpecError(message, found.errors[0].span, code="caffe"))
                native, found = alone, less
        self.diagnostics.extend(found)
        return native

    def _attempt(
        self, net: Message, filtered: Mapping[Phase, Message]
    ) -> tuple[Message, Diagnostics]:
        """The native spec, and what there is to say about it."""
        found = Diagnostics()
        self._check_flow(filtered, net, found)
        if self.wishes.lenient:
            found.forgive()
        asked = Asked(self.wishes.shapes, self.wishes.lenient, self.probe, found)
        placed = place(filtered[Phase.TRAIN], filtered[Phase.TEST])
        native = to_native(net, placed, self.layers, asked)
        blobs = dict.fromkeys(top for p in placed for top in p.layer.tops)
        asked.warn_unused(blobs, replace(net.span, end=min(net.span.end, net.span.start + 1)))
        return native, found

    def _check_flow(
        self, filtered: Mapping[Phase, Message], whole: Message, found: Diagnostics
    ) -> None:
        """What Caffe says of the blobs of each phase; one without data has those of the other."""
        alike = {tuple(map(id, net.items)): net for net in filtered.values()}
        nets = list(alike.values())  # one, where both phases have the same layers
        fed = [sources_of(net, self.layers) for net in nets]
        lent = next(filter(None, fed), ())
        for net, own in zip(nets, fed, strict=True):
            items = net.items if own else (*lent, *net.items)
            check_flow(replace(net, items=items), whole=whole, diagnostics=found)

    def _take(self, found: Diagnostics) -> None:
        """Keep what was found, as warnings in a lenient reading."""
        if self.wishes.lenient:
            found.forgive()
        self.diagnostics.extend(found)
