"""Drives the LALR parser over the tokens and, at a syntax error, finds the place to go on.

After an error the parser is set back to the start of the message around it, and goes on with the
next item of that message: the tree is lost anyway, but the other errors are found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from netspec.diagnostics import MAX_ERRORS, Diagnostics, SpecError
from netspec.grammar.ast import Item
from netspec.grammar.expectation import unexpected
from netspec.grammar.tokens import END, ERROR, MAX_NESTING, Token, nesting_fault, unclosed

_OPENERS = {"LBRACE": "RBRACE", "LPAREN": "RPAREN", "LSQB": "RSQB"}
_CLOSERS = {closer: opener for opener, closer in _OPENERS.items()}
_BRACKETS = {*_OPENERS, *_CLOSERS, "LESS", "GREATER"}
_BODIES = {"LBRACE", "LESS"}
_KEYWORDS = {"LET", "BLOCK", "REPEAT", "WHEN"}


class Driver:
    """One parse: Lark's parser and the brackets that are open in it.

    `open` holds each open bracket and the height of the parser's stack just behind it.
    """

    def __init__(self, parser: InteractiveParser, tokens: list[Token], faults: Diagnostics) -> None:
        self.parser = parser
        self.feed: Callable[[Any], Any] = parser.feed_token
        self.tokens = tokens
        self.faults = faults
        self.open: list[tuple[Token, int]] = []

    def run(self) -> tuple[Item, ...]:
        """The items of the file; meaningless if faults were added."""
        feed, at, items = self.feed, 0, None
        while items is None:
            token = self.tokens[at]
            try:
                items = feed(token)
            except UnexpectedToken:
                self._report(at)
            except SpecError as fault:
                self.faults.error(fault)
                if fault.code == "limit":
                    self.faults.check()
            else:
                if token.type in _BRACKETS:
                    self._track(token)
                at += 1
                continue
            if token.type == END:
                return ()
            at = self._resume(at)
        result: tuple[Item, ...] = items
        return result

    def _in_items(self) -> bool:
        """Whether an item may come next: so `<` has opened a message, or `>` closed one."""
        state = self.parser.parser_state
        return "LET" in state.parse_conf.states[state.position]

    def _innermost(self) -> str | None:
        """The type of the bracket opened last."""
        return self.open[-1][0].type if self.open else None

    def _accepts(self) -> set[str]:
        accepts: Callable[[], set[str]] = self.parser.accepts
        return accepts()

    def _track(self, token: Token) -> None:
        """Notes a bracket that the parser has accepted."""
        kind = token.type
        if kind in _OPENERS or (kind == "LESS" and self._in_items()):
            self.open.append((token, len(self.parser.parser_state.state_stack)))
            if len(self.open) > MAX_NESTING:
                self.faults.error(nesting_fault(token.span))
                self.faults.check()
        elif kind in _CLOSERS or (kind == "GREATER" and self._in_items()):
            self.open.pop()

    def _report(self, at: int) -> None:
        token = self.tokens[at]
        added = not token.text and token.type != END
        orphan = token.type == "_ELSE" and self.faults.errors
        if token.type == ERROR or added or orphan:
            return
        if len(self.faults.errors) >= MAX_ERRORS:
            self.faults.dropped += 1
        elif self._innermost() == "LESS" and token.type in ("RBRACE", END):
            opener = self.open[-1][0]
            self.faults.error(SpecError(unclosed(opener), opener.span, code="syntax"))
        else:
            self.faults.error(unexpected(self.tokens, at, self._accepts()))

    def _resume(self, at: int) -> int:
        """Sets the parser to the start of the message around an error, and gives the next item."""
        level = len(self.open)
        while level and self.open[level - 1][0].type not in _BODIES:
            level -= 1
        kinds = [token.type for token in self.tokens[max(0, at - 1) : at + 1]]
        if kinds == ["NAME", "_COLON"] and len(self.open) == level:
            at -= 1
        elif kinds[-1] in _KEYWORDS and not self._starts_line(at):
            at += 1
        while self.tokens[at].type != END:
            if len(self.open) == level:
                while self.tokens[at].type == "RBRACE" and self._innermost() == "LESS":
                    self.open.pop()
                    level -= 1
                if self._can_go_on(at):
                    break
            self._skip(self.tokens[at])
            level = min(level, len(self.open))
            at += 1
        del self.open[level:]
        self._rewind()
        if self.tokens[at].type == "LBRACE":
            self.feed(self.tokens[at]._replace(type="NAME", text=""))
        return at

    def _can_go_on(self, at: int) -> bool:
        """Whether a token at the level of the message starts an item or ends the message."""
        token, following = self.tokens[at], self.tokens[min(at + 1, len(self.tokens) - 1)]
        if token.type == "NAME":
            return self._starts_line(at) or following.type in ("_COLON", "LBRACE")
        if token.type == "GREATER":
            return self._innermost() == "LESS"
        if token.type == "RBRACE":
            return self._innermost() == "LBRACE"
        return token.type == "LBRACE" or token.type in _KEYWORDS

    def _starts_line(self, at: int) -> bool:
        token, before = self.tokens[at], self.tokens[at - 1].end if at else 0
        return "\n" in token.source.text[before : token.start]

    def _skip(self, token: Token) -> None:
        """Keeps count of the brackets in text that is passed over."""
        if token.type in _OPENERS:
            self.open.append((token, 0))
        elif token.type in _CLOSERS:
            while self._innermost() == "LESS":
                self.open.pop()
            if self._innermost() == _CLOSERS[token.type]:
                self.open.pop()

    def _rewind(self) -> None:
        state = self.parser.parser_state
        height = self.open[-1][1] if self.open else 1
        del state.state_stack[height:]
        del state.value_stack[height - 1 :]
