"""Evaluates expressions: exact arithmetic on named values, nothing callable but min and max."""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterable, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, TypeAlias

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import (
    Binary,
    Choice,
    Expr,
    Invoke,
    List,
    Message,
    Number,
    Reference,
    Size,
    String,
    Unary,
)
from netspec.ir.fields import shown

MAX_MAGNITUDE = 10**18
"""Numerators and denominators stay below it: arithmetic on a hostile file costs nothing."""


class Word(str):
    """A bare word that no scope knows: an enum word, or a mistake; the field decides."""

    span: Span
    """Where the word was written, which may be a `let` far from its use."""
    known: Callable[[], Iterable[str]]
    """The names that it could have meant."""

    def __new__(cls, text: str, span: Span, known: Callable[[], Iterable[str]] = tuple) -> Word:
        word = super().__new__(cls, text)
        word.span, word.known = span, known
        return word


class Poisoned(Exception):
    """A value hangs on a fault that is already reported."""


Scalar: TypeAlias = int | float | bool | Fraction | str
Environment: TypeAlias = Callable[[Reference], Any]
"""What a reference means: a value, or a Word if nothing of that name is in scope."""

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


Steps: TypeAlias = Generator["Expr | List", Any, Any]
"""The evaluation of one expression: asks for the values of its parts, ends with its own."""


def fault(message: str, span: Span, *, code: str = "value", hint: str | None = None) -> SpecError:
    """A fault of an expression."""
    return SpecError(message, span, code=code, hint=hint)


def evaluate(expr: Expr | List, environment: Environment) -> Any:
    """The value of an expression: int, Fraction, float, bool, str, Word, or a list of these.

    Integers and fractions are exact. Raises SpecError, or Poisoned. Works on a stack of its own:
    an expression is as deep as the parser lets it be, wherever in a deep spec it stands.
    """
    if isinstance(expr, Reference):
        return environment(expr)
    pending = [_steps(expr, environment)]
    value: Any = None
    while pending:
        try:
            part = pending[-1].send(value)
        except StopIteration as done:
            value = done.value
            pending.pop()
        else:
            value = None
            pending.append(_steps(part, environment))
    return value


def truth(expr: Expr, environment: Environment) -> bool:
    """The value of a test."""
    return _truth(evaluate(expr, environment), expr)


class UnknownName(SpecError):
    """A name that is not in scope, shown where it was written; `wanted` is where it is used."""

    def __init__(self, word: Word, wanted: Span) -> None:
        super().__init__(
            f"unknown name `{word}`{suggest(word, word.known())}",
            word.span,
            code="name",
            trail=[] if word.span == wanted else [("its value is wanted here", wanted)],
        )
        self.word = str(word)


def _steps(expr: Expr | List | Message, environment: Environment) -> Steps:
    match expr:
        case Number() | String():
            return expr.value
        case Size():
            return list(expr.extent)
        case Reference():
            return environment(expr)
        case Unary():
            return (yield from _unary(expr))
        case Binary():
            return (yield from _binary(expr))
        case Choice():
            test = _truth((yield expr.test), expr.test)
            return (yield expr.then if test else expr.other)
        case Invoke():
            return (yield from _invoke(expr))
        case List():
            return (yield from _list(expr))
    raise fault("a message cannot stand here", expr.span)


def _list(expr: List) -> Steps:
    elements: list[Any] = []
    for element in expr.elements:
        elements.append((yield element))  # type: ignore[misc]
    return elements


def _truth(value: Any, expr: Expr) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, Word):
        raise UnknownName(value, expr.span)
    raise fault(f"a test must be true or false, not {shown(value)}", expr.span)


def _number(value: Any, expr: Expr) -> Any:
    if isinstance(value, Word):
        raise UnknownName(value, expr.span)
    if isinstance(value, bool) or not isinstance(value, int | Fraction | float):
        raise fault(f"arithmetic takes numbers, not {shown(value)}", expr.span)
    return value


def _normal(value: Any, span: Span) -> Any:
    """The simplest exact form, within the limit."""
    if isinstance(value, float):
        if not isfinite(value):
            raise fault("the result is not finite", span)
        return value
    if max(abs(value.numerator), value.denominator) >= MAX_MAGNITUDE:
        raise fault("the result has more than 18 digits", span, code="limit")
    return value.numerator if value.denominator == 1 else value


def _unary(expr: Unary) -> Steps:
    value = yield expr.operand
    if expr.operator == "not":
        return not _truth(value, expr.operand)
    return -_number(value, expr.operand)


def _binary(expr: Binary) -> Steps:
    left = yield expr.left
    if expr.operator in ("and", "or"):
        if _truth(left, expr.left) is (expr.operator == "or"):
            return left
        return _truth((yield expr.right), expr.right)
    right = yield expr.right
    if expr.operator in ("==", "!="):
        return _equal(left, right, expr) is (expr.operator == "==")
    left, right = _number(left, expr.left), _number(right, expr.right)
    if expr.operator in _ORDER:
        return _ORDER[expr.operator](left, right)
    if expr.operator in ("/", "//", "%") and right == 0:
        raise fault(f"{shown(left)} {expr.operator} 0: division by zero", expr.span)
    try:
        return _normal(_arithmetic(expr.operator, left, right), expr.span)
    except OverflowError:
        raise fault("the result is too large", expr.span, code="limit") from None


def _equal(left: Any, right: Any, expr: Binary) -> bool:
    """Equality; a bare word stands for itself only beside a string or the value of a name."""
    if _bare(left, expr.left) and (_bare(right, expr.right) or not isinstance(right, str)):
        raise UnknownName(left, expr.left.span)
    if _bare(right, expr.right) and not isinstance(left, str):
        raise UnknownName(right, expr.right.span)
    return bool(left == right)


def _bare(value: Any, expr: Expr) -> bool:
    """Whether the expression is itself a word that no scope knows."""
    return isinstance(value, Word) and value.span == expr.span


def _arithmetic(sign: str, left: Any, right: Any) -> Any:
    if sign != "/":
        return _ARITHMETIC[sign](left, right)
    exact = not isinstance(left, float) and not isinstance(right, float)
    return Fraction(left) / Fraction(right) if exact else left / right


def _invoke(expr: Invoke) -> Steps:
    functions: Mapping[str, Callable[..., Any]] = {"min": min, "max": max}
    if expr.function not in functions:
        raise fault(
            f"`{expr.function}` cannot be called: only min and max can", expr.span, code="name"
        )
    if not expr.arguments:
        raise fault(f"{expr.function} needs at least one argument", expr.span)
    values: list[Any] = []
    for argument in expr.arguments:
        values.append(_number((yield argument), argument))
    return functions[expr.function](values)
