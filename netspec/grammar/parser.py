"""Text to syntax tree: `parse(source)`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from lark import Lark, Token
from lark.lexer import Lexer

from netspec.diagnostics import Diagnostics, Source, Span
from netspec.grammar.ast import Message
from netspec.grammar.comments import attach
from netspec.grammar.recovery import Driver
from netspec.grammar.tokens import Lexicon, scan
from netspec.grammar.tree import TreeBuilder


def parse(source: Source) -> Message:
    """The syntax tree of a text, with its comments attached.

    Raises SpecErrors with every syntax error that could be told apart (code `syntax`), or with
    the limit that the text exceeds (code `limit`).
    """
    language = _language()
    faults = Diagnostics()
    tokens, comments = scan(source, language.lexicon, faults)
    items = Driver(language.lark.parse_interactive(), tokens, faults).run()
    faults.check()
    message = Message(items, Span(source, 0, len(source.text)))
    return attach(message, comments) if comments else message


class _Language(NamedTuple):
    lark: Lark
    lexicon: Lexicon


@cache
def _language() -> _Language:
    """Built at the first parse: the tables cost more than a small file does."""
    text = files("netspec.grammar").joinpath("netspec.lark").read_text("utf-8")
    lark = Lark(text, parser="lalr", lexer=_Fed, transformer=TreeBuilder())
    return _Language(lark, Lexicon.of(list(lark.terminals)))


class _Fed(Lexer):
    """Stands where Lark wants a lexer: the driver feeds the tokens of `scan` instead."""

    def __init__(self, _conf: object) -> None: ...

    def lex(self, _lexer_state: object, _parser_state: object) -> Iterator[Token]:
        raise NotImplementedError
