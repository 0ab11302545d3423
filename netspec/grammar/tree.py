"""The parser's reductions: the values of a rule's symbols → a node of the syntax tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from netspec.diagnostics import Span, SpecError
from netspec.grammar import ast, literals
from netspec.grammar.tokens import Token

MAX_EXPRESSION = 200
"""Levels of an expression: `1 + 1 + 1` has three."""

_Children: TypeAlias = list[Any]
_Compound = TypeVar("_Compound", ast.Unary, ast.Binary, ast.Choice, ast.Invoke)


class TreeBuilder:
    """Callbacks named after the grammar's rules; Lark calls them bottom-up, without recursion."""

    @staticmethod
    def start(items: _Children) -> tuple[ast.Item, ...]:
        return tuple(items)

    @staticmethod
    def braces(children: _Children) -> ast.Message:
        opener, *items, closer = children
        return ast.Message(tuple(items), _span(opener, closer))

    @staticmethod
    def field(children: _Children) -> ast.Field:
        key, value = children
        return ast.Field(key.text, value, _span(key, value), key.span)

    @staticmethod
    def message(children: _Children) -> ast.Element:
        word, body = children
        return ast.Element(word.text, None, body, _span(word, body), word.span)

    @staticmethod
    def labelled(children: _Children) -> ast.Element:
        word, label, *body = children
        span = _span(word, children[-1])
        return ast.Element(word.text, _string([label]), body[0] if body else None, span, word.span)

    @staticmethod
    def bare(children: _Children) -> ast.Element:
        (word,) = children
        return ast.Element(word.text, None, None, word.span, word.span)

    @staticmethod
    def call(children: _Children) -> ast.Call:
        word, arguments, *label = children
        span = _span(word, children[-1])
        string = _string(label) if label else None
        return ast.Call(word.text, arguments.values, string, span, word.span)

    @staticmethod
    def let(children: _Children) -> ast.Let:
        keyword, name, value = children
        return ast.Let(name.text, value, _span(keyword, value), name.span)

    @staticmethod
    def block(children: _Children) -> ast.Block:
        keyword, name, formals, body = children
        return ast.Block(name.text, formals.values, body, _span(keyword, body), name.span)

    @staticmethod
    def repeat(children: _Children) -> ast.Repeat:
        keyword, count, index, body = children
        return ast.Repeat(count, index.text if index else None, body, _span(keyword, body))

    @staticmethod
    def when(children: _Children) -> ast.When:
        keyword, test, body, otherwise = children
        return ast.When(test, body, otherwise, _span(keyword, otherwise or body))

    @staticmethod
    def formal(children: _Children) -> ast.Formal:
        name, default = children
        return ast.Formal(name.text, default, _span(name, default or name))

    @staticmethod
    def argument(children: _Children) -> ast.Argument:
        name, value = children
        return ast.Argument(name.text if name else None, value, _span(name or value, value))

    @staticmethod
    def arguments(children: _Children) -> Bracketed:
        opener, *values, closer = children
        return Bracketed(tuple(values), _span(opener, closer))

    formals = arguments

    @staticmethod
    def list(children: _Children) -> ast.List:
        opener, *elements, closer = children
        return ast.List(tuple(elements), _span(opener, closer))

    @staticmethod
    def choice(children: _Children) -> ast.Choice:
        then, _, test, other = children
        return _bounded(ast.Choice(then, test, other, _span(then, other)))

    @staticmethod
    def binary(children: _Children) -> ast.Binary:
        left, operator, right = children
        return _bounded(ast.Binary(operator.text, left, right, _span(left, right)))

    @staticmethod
    def unary(children: _Children) -> ast.Unary:
        operator, operand = children
        return _bounded(ast.Unary(operator.text, operand, _span(operator, operand)))

    @staticmethod
    def invoke(children: _Children) -> ast.Invoke:
        function, arguments = children
        for argument in arguments.values:
            if argument.name or isinstance(argument.value, ast.List):
                message = f"`{function.text}(…)` in a value takes plain values only"
                raise SpecError(message, argument.span, code="syntax")
        values = tuple(argument.value for argument in arguments.values)
        return _bounded(ast.Invoke(function.text, values, _span(function, arguments)))

    @staticmethod
    def group(children: _Children) -> Any:
        """Parentheses leave no node, but the expression's span takes them in."""
        opener, expression, closer = children
        return replace(expression, span=_span(opener, closer))

    @staticmethod
    def reference(children: _Children) -> ast.Reference:
        return ast.Reference(tuple(t.text for t in children), _span(children[0], children[-1]))

    @staticmethod
    def number(children: _Children) -> ast.Number:
        (token,) = children
        return ast.Number(token.text, literals.number(token.text), token.span)

    @staticmethod
    def size(children: _Children) -> ast.Size:
        (token,) = children
        return ast.Size(literals.size(token.text), token.span)

    @staticmethod
    def string(children: _Children) -> ast.String:
        return _string(children)


class Bracketed(NamedTuple):
    """Arguments or formals on their way to the node that owns them."""

    values: tuple[Any, ...]
    span: Span


def _span(first: Any, last: Any) -> Span:
    """From the start of a token or node to the end of another."""
    begin: Span = first.span
    return begin if first is last else Span(begin.source, begin.start, last.span.end)


def _string(tokens: list[Token]) -> ast.String:
    value = "".join(literals.string(token.text) for token in tokens)
    return ast.String(value, _span(tokens[0], tokens[-1]))


def _bounded(expression: _Compound) -> _Compound:
    if expression.depth > MAX_EXPRESSION:
        message = f"an expression has more than {MAX_EXPRESSION} levels"
        raise SpecError(message, expression.span, code="limit")
    return expression
