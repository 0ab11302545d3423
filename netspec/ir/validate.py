"""A message's items become a validated model, every fault pointing at the text that caused it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Field
from netspec.ir.expression import Environment, Poisoned
from netspec.ir.fields import Fields, shown
from netspec.ir.reading import Reader, Written, data_of
from netspec.wording import either

Model = TypeVar("Model", bound=Fields)


def validate(
    model: type[Model],
    items: Sequence[Field | Element],
    environment: Environment,
    *,
    what: str,
    span: Span,
    report: Callable[[SpecError], None],
    also: Iterable[str] = (),
) -> Model | None:
    """`items` as a `model`, or None if a fault was reported.

    `what` names the message in faults (`conv`); `span` is shown for what is missing; `also` are
    fields that are known, but read elsewhere. Raises Poisoned if a value hangs on an earlier fault.
    """
    reader = Reader(environment, report, tuple(also))
    written = reader.read(model, items, what)
    try:
        valid = model.model_validate(data_of(written))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if not _may_follow(detail, reader):
                reader.note(_translate(detail, written, what, span))
        valid = None
    if reader.poisoned:
        raise Poisoned
    return None if reader.faults else valid


def _may_follow(detail: Any, reader: Reader) -> bool:
    """Whether a finding may be the consequence of what is wrong with a field itself."""
    if detail["type"] == "missing":
        name = str(detail["loc"][-1])
        typed = any(f"`{name}`" in fault.message for fault in reader.faults)
        return typed or name in reader.failed or reader.foreign
    return bool(reader.failed) and not detail["loc"]


def _translate(detail: Any, written: Mapping[str, Written], what: str, span: Span) -> SpecError:
    """Pydantic's finding in our words, at the place in the text."""
    location = [part for part in detail["loc"] if not isinstance(part, str) or part.isidentifier()]
    place, owner = _locate(location, written, span)
    path = [part for part in location if isinstance(part, str)]
    match detail["type"]:
        case "missing":
            return SpecError(f"{owner or what} needs `{path[-1]}`", place, code="field")
        case "value_error":
            reason = str(detail["ctx"]["error"])
            if not path:
                place = _mentioned(reason, written) or place
        case "literal_error":
            words = _words(detail)
            reason = f"must be {either(words)}, not {shown(detail['input'])}"
            reason += suggest(str(detail["input"]), words)
        case "too_short" | "too_long" | "tuple_type":
            reason = f"takes height and width, not {shown(detail['input'])}"
        case _:
            reason = f"{detail['msg']}, not {shown(detail['input'])}"
    subject = f"{what}: `{'.'.join(path)}` {reason}" if path else f"{what}: {reason}"
    return SpecError(subject, place, code="value")


def _mentioned(reason: str, written: Mapping[str, Written]) -> Span | None:
    """The place of the last field, or value, of a message that a finding about it speaks of."""
    spoken = set(re.findall(r"\w+", reason))
    places = [
        span
        for key, entry in written.items()
        for value, span in zip(entry.values, entry.spans, strict=True)
        if key in spoken or (isinstance(value, str) and value in spoken)
    ]
    return max(places, key=lambda span: span.start, default=None)


def _locate(
    location: Sequence[Any], written: Mapping[str, Written], span: Span
) -> tuple[Span, str | None]:
    """The place of the deepest field on the path that the author wrote, and its name."""
    owner: str | None = None
    current: Mapping[str, Written] | None = written
    steps = iter(range(len(location)))
    for i in steps:
        part = location[i]
        if current is None or not isinstance(part, str) or part not in current:
            break
        entry = current[part]
        if not entry.spans:
            break
        index = 0
        following = location[i + 1] if i + 1 < len(location) else None
        if isinstance(following, int):
            index = following
            next(steps, None)
        single = len(entry.spans) == 1
        span, owner = entry.place(index), part
        current = entry.within[0 if single else min(index, len(entry.within) - 1)]
    return span, owner


def _words(detail: Any) -> list[str]:
    return [w.strip("'") for w in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
