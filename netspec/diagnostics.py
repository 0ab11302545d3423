"""Where text went wrong, and how to show it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from heapq import nlargest
from itertools import islice, pairwise

from netspec.wording import counted

MAX_ERRORS = 20
"""Faults shown of one run; the rest are counted."""

MAX_FOUND = 200
"""Faults after which a stage stops looking for more."""

_WORD = 200
"""Characters of a word that a message shows."""
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")

_KNOWN = 2000
_CANDIDATES = 100
"""Names looked at, and compared closely, for a did-you-mean: a hostile file has many."""

_TRAIL = 6
"""Places shown of those that led to a fault."""

_LINE_WIDTH = 160
"""Characters of a source line that an excerpt shows."""


@dataclass(frozen=True)
class Source:
    """A spec file's path, as the user named it, and its text."""

    path: str
    text: str

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """The 1-based line and column of a character offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a 1-based line, without its end."""
        begin = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[begin:end].rstrip("\r")


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters in a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """1-based."""
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """1-based, in characters."""
        return self.source.position(self.start)[1]

    @property
    def where(self) -> str:
        """`path:line:column`."""
        line, column = self.source.position(self.start)
        return f"{printable(self.source.path)}:{line}:{column}"

    def excerpt(self) -> str:
        """The first source line of the span, with the span underlined."""
        line, column = self.source.position(self.start)
        text = self.source.line(line)
        skip = max(0, column - _LINE_WIDTH // 2) if len(text) > _LINE_WIDTH else 0
        text, start = text[skip : skip + _LINE_WIDTH], column - 1 - skip
        before = _displayed(text[:start])
        marked = _displayed(text[start : start + self.end - self.start])
        gutter = f"{line:>4} | "
        carets = " " * len(before) + "^" * max(1, len(marked))
        return f"{gutter}{_displayed(text)}\n{' ' * (len(gutter) - 2)}| {carets}"

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of `other`, in the same source."""
        return Span(self.source, self.start, other.end)


def _short_words(text: str) -> str:
    """The text with words that no line would hold cut: a file may have one of a megabyte."""
    return _LONG_WORD.sub(lambda found: f"{found[0][:_WORD]}…", text)


class NetspecError(Exception):
    """A user's fault that netspec reports without a traceback; `exit_code` is the process's."""

    exit_code = 1


class SpecError(NetspecError):
    """One fault in a spec, pointing at the text that caused it.

    `code` is stable (`syntax name field value shape flow include limit data`); `notes` are facts
    that led to the fault; `hint` is given only when it is an answer; `trail` names the places that
    led here (the expansions of the blocks around the fault), innermost first.
    """

    def __init__(
        self,
        message: str,
        span: Span,
        *,
        code: str,
        notes: Sequence[str] = (),
        hint: str | None = None,
        trail: Sequence[tuple[str, Span]] = (),
    ) -> None:
        message = _short_words(message)
        super().__init__(message)
        self.message = printable(message)
        self.span = span
        self.code = code
        self.notes = tuple(map(printable, notes))
        self.hint = printable(hint) if hint else None
        self.trail = tuple(trail)

    def render(self, severity: str = "error") -> str:
        """The fault as text, without a line end at its end."""
        lines = [f"{self.span.where}: {severity}[{self.code}]: {self.message}", self.span.excerpt()]
        shown, left_out = self.trail, len(self.trail) - _TRAIL
        if left_out > 0:
            shown = self.trail[: _TRAIL - 1]
        for label, span in shown:
            lines += [f"     = {printable(label)}, {span.where}", span.excerpt()]
        if left_out > 0:
            label, span = self.trail[-1]
            lines += [f"     = … {left_out} more", f"     = {printable(label)}, {span.where}"]
            lines.append(span.excerpt())
        lines += [f"     = {note}" for note in self.notes]
        if self.hint:
            lines.append(f"     = {self.hint}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


class SpecErrors(NetspecError):
    """Every fault found in one run, in the order of the text."""

    def __init__(self, faults: Sequence[SpecError], more: int = 0) -> None:
        super().__init__(f"{len(faults) + more} errors")
        self.faults = tuple(faults)
        self.more = more

    def __str__(self) -> str:
        parts = [fault.render() for fault in self.faults]
        if self.more:
            least = "at least " if len(self.faults) + self.more >= MAX_FOUND else ""
            parts.append(f"… and {least}{counted(self.more, 'more error')}")
        return "\n".join(parts)


class DataError(NetspecError):
    """A data set, a checkpoint or a weight file that is not what it should be.

    The message names the file and the offset, the row or the tensor.
    """


class UsageError(NetspecError):
    """A request that cannot be carried out as asked, such as an unknown zoo spec."""

    exit_code = 2


class BudgetError(NetspecError):
    """A net that costs more than it may; the message names the layers that cost most."""

    exit_code = 3


@dataclass
class Diagnostics:
    """Collects the faults and lints of one run."""

    errors: list[SpecError] = field(default_factory=list)
    warnings: list[SpecError] = field(default_factory=list)
    dropped: int = 0
    """Faults beyond those kept in `errors`."""
    reported: int = 0
    """How often `error` was called, repetitions included: a stage compares it before and after."""
    full: bool = False
    """Whether looking for more helps nobody: a limit is passed, or very many faults are found."""
    _seen: set[tuple[str, int, int, str]] = field(default_factory=set)

    def error(self, fault: SpecError) -> None:
        """Keep a fault; the same message at the same place is kept once."""
        self.reported += 1
        if self._is_new(fault):
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(fault)
            else:
                self.dropped += 1
                self.full |= self.dropped >= MAX_FOUND - MAX_ERRORS

    def warn(self, lint: SpecError) -> None:
        """Keep a lint; the same one at the same place is kept once."""
        if len(self.warnings) < MAX_ERRORS and self._is_new(lint):
            self.warnings.append(lint)

    def forgive(self) -> None:
        """Make warnings of the faults: what is at fault is left out, and the rest stands."""
        self.warnings += self.errors
        self.errors.clear()

    def extend(self, others: Diagnostics) -> None:
        """Keep what others have found, too."""
        for fault in others.errors:
            self.error(fault)
        for lint in others.warnings:
            self.warn(lint)
        self.dropped += others.dropped

    def _is_new(self, found: SpecError) -> bool:
        key = (found.span.source.path, found.span.start, found.span.end, found.message)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def check(self) -> None:
        """Raise SpecErrors if a fault was found."""
        if self.errors:
            ordered = sorted(self.errors, key=lambda e: (e.span.source.path, e.span.start))
            raise SpecErrors(ordered, self.dropped)


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean `pool`?`` if a known word is close, else nothing."""
    return _suggest(word[:64], tuple(islice(known, _KNOWN)))


@lru_cache(maxsize=1024)
def _suggest(word: str, names: tuple[str, ...]) -> str:
    if len(names) > _CANDIDATES:
        names = tuple(nlargest(_CANDIDATES, names, key=lambda name: _common(name, word)))
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    close = close or [name for name in names if len(word) > 2 and name.startswith(word)]
    return f"; did you mean `{close[0]}`?" if close else ""


def _common(name: str, word: str) -> int:
    """Pairs of neighbouring characters that two words share."""
    return len(set(pairwise(name)) & set(pairwise(word)))


def printable(text: str) -> str:
    """`text` with every control character escaped, so that a file cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _displayed(text: str) -> str:
    """A piece of a source line, as an excerpt shows it."""
    return printable(text.replace("\t", " "))
