"""Text to syntax tree: `parse(source)`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

import lark
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
    """Made at the first parse: the tables cost more than a small file does."""
    text = files("netspec.grammar").joinpath("netspec.lark").read_text("utf-8")
    tables = _kept(text) or _made(text)
    return _Language(tables, Lexicon.of(list(tables.terminals)))


def _made(text: str) -> Lark:
    """The tables of the grammar `text`, kept for the next process if that is possible."""
    tables = Lark(text, parser="lalr", lexer=_Fed, transformer=TreeBuilder())
    if not sys.dont_write_bytecode:
        place = _place(text)
        beside = place.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            with beside.open("wb") as file:
                tables.save(file)
            beside.replace(place)
    return tables


def _kept(text: str) -> Lark | None:
    """The tables that an earlier process made: in 3 ms, where making them takes 60."""
    try:
        with _place(text).open("rb") as file:
            return Lark.load(file)
    except Exception:  # there is none, or it is damaged: it will be made anew
        return None


def _place(text: str) -> Path:
    """Where Python keeps this module's bytecode: whoever may write there is trusted already."""
    made_by = f"{lark.__version__} {sys.version} {TreeBuilder.__module__} {text}"
    key = sha256(made_by.encode()).hexdigest()[:16]
    return Path(cache_from_source(__file__)).with_suffix(f".{key}")


class _Fed(Lexer):
    """Stands where Lark wants a lexer: the driver feeds the tokens of `scan` instead."""

    def __init__(self, _conf: object) -> None: ...

    def lex(self, _lexer_state: object, _parser_state: object) -> Iterator[Token]:
        raise NotImplementedError
