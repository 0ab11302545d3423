"""Budgets: tests of what a net costs, in the language's own expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netspec.diagnostics import BudgetError, Source, SpecError, SpecErrors, UsageError, printable
from netspec.grammar.ast import Expr, Reference, When
from netspec.grammar.parser import parse
from netspec.ir.expression import Word, truth
from netspec.report.columns import COLUMNS, ordered, total_text
from netspec.report.quantity import without_units
from netspec.report.summary import Summary

_SHOWN = 5
"""Layers named for a budget that is exceeded."""

_COLUMNS: Mapping[str, str] = {
    "trained": "parameters",
    "forward_memory": "activation_bytes",
    "training_memory": "kept_bytes",
    "largest_batch": "kept_bytes",
    "caffe_memory": "activation_bytes",
}
"""The column that tells which layers a total comes from, where it has another name."""

ALIASES: Mapping[str, str] = {"train_memory": "training_memory"}
"""Other names of totals."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A test of totals, and how it ended."""

    text: str
    holds: bool
    values: Mapping[str, int]
    """The totals that it reads, by the names that it gives them."""
    largest: Mapping[str, Sequence[tuple[str, int, str]]]
    """Of each of these, the layers that cost most: name, value, and the value as text."""

    def lines(self) -> list[str]:
        """What a user reads of a budget that is exceeded."""
        said = ", ".join(f"{n} is {total_text(n, v)}" for n, v in self.values.items())
        lines = [f"budget exceeded: {printable(self.text)}: {said}"]
        for name, layers in self.largest.items():
            most = ", ".join(f"{printable(layer)} {shown}" for layer, _, shown in layers)
            lines += [f"     = most of {name}: {most}"] if most else []
        return lines

    def as_data(self) -> dict[str, object]:
        """For JSON."""
        return {
            "assert": self.text,
            "holds": self.holds,
            "values": dict(self.values),
            "largest": {
                name: [{"layer": layer, "value": value} for layer, value, _ in layers]
                for name, layers in self.largest.items()
            },
        }


def check_budget(text: str, summary: Summary) -> Budget:
    """Evaluate a test such as `parameters < 5M and macs < 600M`; UsageError if it is none."""
    totals = summary.totals
    known = [*totals, *ALIASES]
    values: dict[str, int] = {}

    def environment(reference: Reference) -> object:
        word = reference.word
        total = totals.get(ALIASES.get(word, word))
        if total is None:
            if word in known:
                raise UsageError(f"--assert: {word} is not known here: {_missing(word)}")
            return Word(word, reference.span, lambda: known)
        values[word] = total
        return total

    try:
        holds = truth(_test(text), environment)
    except SpecError as error:
        there = f"; there are {', '.join(known)}" if error.code == "name" else ""
        raise UsageError(f"--assert '{printable(text)}': {error.message}{there}") from None
    if not values:
        message = f"--assert '{printable(text)}' reads no total; there are {', '.join(known)}"
        raise UsageError(message)
    return Budget(text, holds, values, {name: _most(name, summary) for name in values})


def enforce(budgets: Sequence[Budget]) -> None:
    """A BudgetError that names those which do not hold."""
    lines = [line for budget in budgets if not budget.holds for line in budget.lines()]
    if lines:
        raise BudgetError("\n".join(lines))


def _test(text: str) -> Expr:
    try:
        (item,) = parse(Source("--assert", f"when {without_units(text)} {{}}")).items
        assert isinstance(item, When)
        assert not item.body.items
        assert item.otherwise is None
    except (SpecErrors, ValueError, AssertionError):
        message = f"--assert '{printable(text)}' is no test, such as 'parameters < 5M'"
        raise UsageError(message) from None
    return item.test


def _missing(word: str) -> str:
    return "it takes --memory" if word == "largest_batch" else "the net has no loss to train"


def _most(name: str, summary: Summary) -> list[tuple[str, int, str]]:
    total = ALIASES.get(name, name)
    column = COLUMNS.get(_COLUMNS.get(total, total))
    if column is None:
        return []
    found = []
    for layer in ordered(summary.cost, column)[:_SHOWN]:
        value = column.value(layer, summary.cost)
        if isinstance(value, int) and value:
            found.append((layer.name, value, column.text(value)))
    return found
