"""What a file declares before its layers are built: name, lets, blocks, includes, sections."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from netspec.diagnostics import Diagnostics, Source, Span, SpecError, SpecErrors, suggest
from netspec.grammar.ast import Block, Element, Field, Let, List, Message, Reference
from netspec.grammar.parser import parse
from netspec.ir.construction import MAX_NAME
from netspec.ir.expression import Poisoned, UnknownName, Word, evaluate
from netspec.ir.fields import shown
from netspec.ir.layer import Phase
from netspec.ir.scope import POISON, Definition, Lookup, Module
from netspec.ir.sections import DataSection, Solver
from netspec.ir.validate import validate

Load = Callable[[str, Span], Source]
"""The text that `include "path"` names; raises SpecError at the span if it may not be read."""

MAX_FILES = 64
"""Files of one spec."""

_PHASES = {"train": Phase.TRAIN, "test": Phase.TEST}


@dataclass
class Declared:
    """The declarations of a spec."""

    module: Module
    name: str = ""
    """Empty if it says none."""
    early: set[Span] = field(default_factory=set)
    """Top-level lets that are bound already; the others read the current blob."""
    data: dict[Phase, DataSection] = field(default_factory=dict)
    solver: Solver | None = None
    faulty: bool = False
    """Whether a fault was reported."""

    def section(self, phase: Phase) -> DataSection | None:
        """The data section of a phase.

        Training's stands in for TEST's if it holds samples out, and names the classes of both.
        """
        found, train = self.data.get(phase), self.data.get(Phase.TRAIN)
        if train is None or phase is Phase.TRAIN:
            return found
        if found is None:
            return train if train.val else None
        if found.classes or found.class_names:
            return found
        names = {"classes": train.classes, "class_names": train.class_names}
        return found.model_copy(update=names) if any(names.values()) else found


def declare(tree: Message, load: Load, diagnostics: Diagnostics) -> Declared:
    """Everything but the layers; faults go to `diagnostics`.

    Top-level names hold for the whole file, wherever they stand; a `let` that reads the current
    blob waits until the flow comes by.
    """
    before = diagnostics.reported
    files = _Files(load, diagnostics)
    declared = Declared(Module(tree.span.source.path))
    files.read(tree, declared.module, declared.early)
    sections = _Sections(declared, diagnostics)
    for item in tree.items:
        if isinstance(item, Field) and item.key == "name":
            sections.name(item)
        elif isinstance(item, Element) and item.word == "data":
            sections.data(item)
        elif isinstance(item, Element) and item.word == "solver":
            sections.solver(item)
    declared.faulty = diagnostics.reported > before
    return declared


@dataclass
class _Files:
    """Reads a file and those it includes."""

    load: Load
    diagnostics: Diagnostics
    open: list[str] = field(default_factory=list)
    modules: dict[str, Module] = field(default_factory=dict)

    def read(self, tree: Message, module: Module, early: set[Span]) -> None:
        """Bind the blocks, the includes' names and the lets of one file."""
        self.open.append(module.path)
        for item in tree.items:
            try:
                if isinstance(item, Block):
                    self._block(item, module)
                elif isinstance(item, Element) and item.word == "include":
                    self._include(item, module)
            except SpecError as error:
                self.diagnostics.error(error)
        lets = [item for item in tree.items if isinstance(item, Let)]
        waiting: set[str] = set()
        below = {let.name for let in lets}
        for let in lets:
            heads = {r.path[0] for r in _references(let.value)}
            if "in" in heads or heads & waiting:
                waiting.add(let.name)
            else:
                early.add(let.name_span)
                self._let(let, module, below)
        self.open.pop()

    def _block(self, item: Block, module: Module) -> None:
        if item.name in module.blocks:
            there = module.blocks[item.name].block.name_span
            raise SpecError(
                f"block `{item.name}` is written twice",
                item.name_span,
                code="name",
                trail=[("the first one is here", there)],
            )
        names: set[str] = set()
        for formal in item.formals:
            if formal.name in names:
                raise SpecError(f"`{formal.name}` is a formal twice", formal.span, code="name")
            names.add(formal.name)
        module.blocks[item.name] = Definition(item, module)

    def _let(self, item: Let, module: Module, names: Container[str]) -> None:
        """Name a value that needs no blob; `names` are all that the file gives."""
        value: Any = POISON
        try:
            value = evaluate(item.value, Lookup(module.scope, lambda: None))
            if isinstance(value, Word) and str(value) in names:
                raise UnknownName(value, value.span)
        except UnknownName as error:
            if error.word in names and error.word != item.name:
                error.hint = f"`{error.word}` is named further down: move this below it"
            self.diagnostics.error(error)
            value = POISON
        except SpecError as error:
            self.diagnostics.error(error)
        except Poisoned:
            pass
        try:
            module.scope.bind(item.name, value, item.name_span)
        except SpecError as error:
            self.diagnostics.error(error)

    def _include(self, item: Element, module: Module) -> None:
        if item.label is None or item.body is not None:
            raise SpecError(
                'include takes a file, `include "blocks.net"`', item.span, code="include"
            )
        source = self.load(item.label.value, item.label.span)
        if source.path in self.open:
            cycle = [*self.open[self.open.index(source.path) :], source.path]
            raise SpecError(
                f"files include each other: {' → '.join(cycle)}", item.label.span, code="include"
            )
        included = self.modules.get(source.path)
        if included is None:
            if len(self.modules) >= MAX_FILES:
                raise SpecError(
                    f"a spec has at most {MAX_FILES} files", item.label.span, code="limit"
                )
            included = self.modules[source.path] = Module(source.path)
            try:
                self.read(parse(source), included, set())
            except SpecErrors as errors:
                for fault in errors.faults:
                    self.diagnostics.error(fault)
        self._import(included, module, item.label.span)

    def _import(self, included: Module, module: Module, span: Span) -> None:
        for name, definition in included.blocks.items():
            there = module.blocks.setdefault(name, definition)
            if there is not definition:
                raise SpecError(
                    f"block `{name}` of the included file is written here too",
                    span,
                    code="name",
                    trail=[("it is written here", there.block.name_span)],
                )
        for name, binding in included.scope.names.items():
            other = module.scope.names.setdefault(name, binding)
            if other is not binding:
                raise SpecError(
                    f"`{name}` of the included file is named by another one too",
                    span,
                    code="name",
                    trail=[("it is named here", other.span), ("and here", binding.span)],
                )


@dataclass
class _Sections:
    """Validates the sections of the main file."""

    declared: Declared
    diagnostics: Diagnostics
    seen: dict[str, Span] = field(default_factory=dict)

    def _lookup(self) -> Lookup:
        return Lookup(self.declared.module.scope, lambda: None)

    def name(self, item: Field) -> None:
        try:
            value = evaluate(item.value, self._lookup())
        except SpecError as error:
            self.diagnostics.error(error)
            return
        except Poisoned:
            return
        if not isinstance(value, str) or not value.strip():
            message = f"name takes a string, not {shown(value)}"
        elif not value.isprintable() or len(value) > MAX_NAME:
            message = f"a name has printable characters, {MAX_NAME} at most"
        elif self._twice(item.key, item.key_span):
            return
        else:
            self.declared.name = str(value)
            return
        self.diagnostics.error(SpecError(message, item.value.span, code="value"))

    def _twice(self, what: str, span: Span) -> bool:
        """Whether the file has said this before, which is a fault."""
        there = self.seen.setdefault(what, span)
        if there is span:
            return False
        trail = [("the first one is here", there)]
        message = f"{what} is written twice"
        self.diagnostics.error(SpecError(message, span, code="name", trail=trail))
        return True

    def data(self, item: Element) -> None:
        label = item.label.value if item.label else None
        if label not in _PHASES:
            span = item.label.span if item.label else item.word_span
            known = suggest(label or "", _PHASES)
            message = f'a data section is `data "train"` or `data "test"`{known}'
            self.diagnostics.error(SpecError(message, span, code="name"))
        elif not self._twice(f'data "{label}"', item.word_span):
            section = self._section(item, DataSection, f'data "{label}"')
            if section is not None and section.val and label == "test":
                self._misplaced(item, "val")
            elif section is not None:
                self._check_views(item, _PHASES[label], section)
                self.declared.data[_PHASES[label]] = section

    def _misplaced(self, item: Element, field: str) -> None:
        """Report a field of `data "train"` in `data "test"`."""
        said = item.body.fields(field) if item.body else ()
        span = next((f.key_span for f in said if isinstance(f, Field)), item.word_span)
        message = f'data "test": `{field}` is for `data "train"`, of whose samples it is a share'
        self.diagnostics.error(SpecError(message, span, code="field"))

    def _check_views(self, item: Element, phase: Phase, section: DataSection) -> None:
        """Views are for the test: a training sees each image once."""
        if phase is Phase.TRAIN and not section.transform.seen.plain:
            message = 'views and scales are for `data "test"`: training sees one view of an image'
            self.diagnostics.error(SpecError(message, item.word_span, code="value"))

    def solver(self, item: Element) -> None:
        if item.label is not None:
            error = SpecError("a solver has no name", item.label.span, code="name")
            self.diagnostics.error(error)
        elif not self._twice("solver", item.word_span):
            self.declared.solver = self._section(item, Solver, "solver")

    def _section(self, item: Element, model: Any, what: str) -> Any:
        items: list[Field | Element] = []
        for inner in item.body.items if item.body else ():
            if isinstance(inner, Field | Element):
                items.append(inner)
            else:
                message = f"{what} holds fields only"
                self.diagnostics.error(SpecError(message, inner.span, code="field"))
        try:
            return validate(
                model,
                items,
                self._lookup(),
                what=what,
                span=item.word_span,
                report=self.diagnostics.error,
            )
        except Poisoned:
            return None


def _references(value: object) -> Iterator[Reference]:
    """Every name that an expression reads."""
    pending: list[object] = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, Reference):
            yield node
        elif isinstance(node, List):
            pending.extend(node.elements)
        else:
            for name in ("left", "right", "operand", "then", "test", "other"):
                if hasattr(node, name):
                    pending.append(getattr(node, name))
            pending.extend(getattr(node, "arguments", ()))
