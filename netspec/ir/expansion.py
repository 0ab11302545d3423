"""Expands a block: its arguments become names, its body a name space of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netspec.diagnostics import SpecError, suggest
from netspec.grammar.ast import Argument, Block, Call
from netspec.ir.construction import Construction, where
from netspec.ir.expression import Poisoned, evaluate
from netspec.ir.flow import Flow, Frame, resolve
from netspec.ir.scope import POISON, Definition, Lookup, Scope
from netspec.wording import counted

MAX_CHAIN = 8
"""Blocks named in the fault of a cycle."""


@dataclass
class Arguments:
    """The values of a block's formals, and the expansion whose weights are reused."""

    values: dict[str, Any] = field(default_factory=dict)
    share: Argument | None = None


def arguments(c: Construction, block: Block, call: Call, frame: Frame) -> Arguments:
    """Match a call's arguments to the formals, by position or by name; defaults fill the rest.

    Raises Poisoned once every fault in them is reported.
    """
    lookup = Lookup(frame.scope, frame.flow.type)
    formals = {formal.name: None for formal in block.formals}
    positions = iter(formals)
    given = Arguments()
    sound = True
    for argument in call.arguments:
        try:
            if argument.name == "share" and "share" not in formals:
                given.share = argument
                continue
            name = argument.name or next(positions, None)
            if name is None:
                raise _too_many(block, call, argument)
            _take(block, formals, name, argument, given, lookup)
        except SpecError as error:
            c.report(error, frame)
            sound = False
    if not sound:
        raise Poisoned
    return given


def _take(
    block: Block,
    formals: Mapping[str, None],
    name: str,
    argument: Argument,
    given: Arguments,
    lookup: Lookup,
) -> None:
    if name not in formals:
        message = f"block `{block.name}` has no argument `{name}`{suggest(name, formals)}"
        hint = f"its arguments: {', '.join(formals)}" if formals else "it takes none"
        raise SpecError(message, argument.span, code="field", hint=hint)
    if name in given.values:
        raise SpecError(f"argument `{name}` is given twice", argument.span, code="field")
    given.values[name] = _value(argument, lookup)


def _too_many(block: Block, call: Call, argument: Argument) -> SpecError:
    count, given = len(block.formals), sum(a.name is None for a in call.arguments)
    takes = counted(count, "argument") if count else "no arguments"
    return SpecError(
        f"block `{block.name}` takes {takes}, not {given}",
        argument.span,
        code="field",
        trail=[("it is declared here", block.name_span)],
    )


def _value(argument: Argument, lookup: Lookup) -> Any:
    try:
        return evaluate(argument.value, lookup)
    except Poisoned:
        return POISON


def expand_frame(
    c: Construction, definition: Definition, call: Call, given: Arguments, name: str, frame: Frame
) -> Frame:
    """The surroundings of the block's body: its formals, its file's names, the caller's flow."""
    _refuse_cycle(definition, call, frame)
    block = definition.block
    inner = replace(
        frame,
        module=definition.module,
        scope=Scope(definition.module.scope),
        flow=Flow(frame.flow.current),
        prefix=f"{name}/",
        counts=Counter(),
        group=None,
        trail=((f"in the expansion of block `{block.name}`", where(call)), *frame.trail),
        expanding=(*frame.expanding, definition),
        shares=_shares(c, definition, given.share, name, frame) or frame.shares,
        depth=frame.depth + 1,
    )
    _bind(block, call, given, inner)
    return inner


def _bind(block: Block, call: Call, given: Arguments, frame: Frame) -> None:
    """Give each formal its value: the argument, or its default, which may read those before it."""
    lookup = Lookup(frame.scope, frame.flow.type)
    for formal in block.formals:
        if formal.name in given.values:
            value = given.values[formal.name]
        elif formal.default is None:
            raise SpecError(
                f"block `{block.name}` needs `{formal.name}`",
                where(call),
                code="field",
                trail=[("it is declared here", formal.span)],
            )
        else:
            try:
                value = evaluate(formal.default, lookup)
            except Poisoned:
                value = POISON
        frame.scope.bind(formal.name, value, formal.span)


def _refuse_cycle(definition: Definition, call: Call, frame: Frame) -> None:
    if definition not in frame.expanding:
        return
    names = [d.block.name for d in frame.expanding[frame.expanding.index(definition) :]]
    if len(names) > MAX_CHAIN:
        names = [*names[: MAX_CHAIN - 1], "…"]
    path = " → ".join([*names, definition.block.name])
    message = f"block `{definition.block.name}` expands itself: {path}"
    raise SpecError(message, where(call), code="limit")


def _shares(
    c: Construction, definition: Definition, argument: Argument | None, name: str, frame: Frame
) -> tuple[str, str] | None:
    """(own prefix, prefix of the expansion whose weights are reused)."""
    if argument is None:
        return None
    span = argument.value.span
    label = evaluate(argument.value, Lookup(frame.scope, frame.flow.type))
    if not isinstance(label, str):
        raise SpecError("share takes the label of an expansion", span, code="value")
    twin = resolve(label, frame.prefix, c.expansions)
    if twin is None or twin == name:
        known = suggest(label, c.expansions)
        message = f"there is no expansion `{label}` before this one{known}"
        raise SpecError(message, span, code="name")
    block = c.expansions[twin].block.name
    if c.expansions[twin] is not definition:
        message = f"`{label}` expands block `{block}`, not `{definition.block.name}`"
        raise SpecError(message, span, code="name")
    return f"{name}/", f"{twin}/"
