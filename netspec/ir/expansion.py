"""Expands a block: its arguments become names, its body a name space of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from netspec.diagnostics import SpecError, suggest
from netspec.grammar.ast import Argument, Block, Call
from netspec.ir.construction import Construction, where
from netspec.ir.expression import Poisoned, evaluate
from netspec.ir.flow import Flow, Frame
from netspec.ir.scope import POISON, Definition, Lookup, Scope

MAX_CHAIN = 8
"""Blocks named in the fault of a cycle."""


@dataclass
class Arguments:
    """The values of a block's formals, and the expansion whose weights are reused."""

    values: dict[str, Any] = field(default_factory=dict)
    share: Argument | None = None


def arguments(block: Block, call: Call, lookup: Lookup) -> Arguments:
    """Match a call's arguments to the formals, by position or by name; defaults fill the rest."""
    formals = [f.name for f in block.formals]
    given = Arguments()
    position = 0
    for argument in call.arguments:
        if argument.name is None:
            if position >= len(formals):
                raise SpecError(
                    f"block `{block.name}` takes {len(formals)} arguments, not "
                    f"{len(call.arguments)}",
                    argument.span,
                    code="field",
                )
            name = formals[position]
            position += 1
        elif argument.name == "share" and "share" not in formals:
            given.share = argument
            continue
        else:
            name = argument.name
        if name not in formals:
            raise SpecError(
                f"block `{block.name}` has no argument `{name}`{suggest(name, formals)}",
                argument.span,
                code="field",
            )
        if name in given.values:
            raise SpecError(f"argument `{name}` is given twice", argument.span, code="field")
        given.values[name] = _value(argument, lookup)
    return given


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
    scope = Scope(definition.module.scope)
    inner = replace(
        frame,
        module=definition.module,
        scope=scope,
        flow=Flow(frame.flow.current),
        prefix=f"{name}/",
        counts=Counter(),
        group=None,
        trail=((f"in the expansion of block `{block.name}`", where(call)), *frame.trail),
        expanding=(*frame.expanding, definition),
        shares=_shares(c, given.share, name, frame) or frame.shares,
        depth=frame.depth + 1,
    )
    for formal in block.formals:
        if formal.name in given.values:
            scope.bind(formal.name, given.values[formal.name], formal.span)
        elif formal.default is not None:
            value = evaluate(formal.default, Lookup(scope, frame.flow.type))
            scope.bind(formal.name, value, formal.span)
        else:
            raise SpecError(
                f"block `{block.name}` needs `{formal.name}`",
                where(call),
                code="field",
                trail=[("it is declared here", formal.span)],
            )
    return inner


def _refuse_cycle(definition: Definition, call: Call, frame: Frame) -> None:
    if definition not in frame.expanding:
        return
    names = [d.block.name for d in frame.expanding[frame.expanding.index(definition) :]]
    if len(names) > MAX_CHAIN:
        names = [*names[: MAX_CHAIN - 1], "…"]
    path = " → ".join([*names, definition.block.name])
    raise SpecError(f"block `{definition.block.name}` expands itself: {path}", where(call), code="limit")


def _shares(
    c: Construction, argument: Argument | None, name: str, frame: Frame
) -> tuple[str, str] | None:
    if argument is None:
        return None
    label = evaluate(argument.value, Lookup(frame.scope, frame.flow.type))
    if not isinstance(label, str):
        raise SpecError("share takes the label of an expansion", argument.span, code="value")
    prefix = frame.prefix
    while True:
        if prefix + label in c.names:
            return f"{name}/", f"{prefix}{label}/"
        if not prefix:
            break
        prefix = prefix[:-1].rpartition("/")[0]
        prefix = f"{prefix}/" if prefix else ""
    raise SpecError(
        f"there is no expansion `{label}` before this one{suggest(label, c.names)}",
        argument.span,
        code="name",
    )
