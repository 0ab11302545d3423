"""Text to tokens and comments: `pad: 1  # why` → NAME _COLON NUMBER, and the comment apart.

The terminals are the grammar's; what is added here is what a LALR lexer cannot say well: the
limits, balanced brackets, faults in words, and keywords that serve as field names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lark.lexer import PatternStr, TerminalDef

from netspec.diagnostics import MAX_ERRORS, Diagnostics, Source, Span, SpecError, printable
from netspec.grammar import literals

MAX_TEXT = 2**20
MAX_TOKENS = 400_000
"""Words, numbers and signs of a text: where they have four characters each, all that fit and half
as many again."""
MAX_NESTING = 64
_SHOWN = 40

ERROR = "ERROR"
"""The type of a token that was reported already: the parser recovers from it in silence."""
END = "$END"

_CLOSER = {"LBRACE": "RBRACE", "LPAREN": "RPAREN", "LSQB": "RSQB"}
_OPENER = {closer: opener for opener, closer in _CLOSER.items()}
_CHECKS: dict[str, Callable[[str], object]] = {
    "NUMBER": literals.number,
    "SIZE": literals.size,
    "STRING": literals.string,
}
# What no terminal matches; SIGN leaves out every character that another alternative starts with.
_FALLBACK = (
    r"(?P<WORD>[0-9.][A-Za-z0-9_.]*)|(?P<QUOTE>[\"'][^\n]*)|(?P<END>\Z)"
    r"|(?P<SIGN>[^ \t\r\nA-Za-z0-9_{}()\[\]<>:,;=.+\-*/%#\"']+)"
)
_COLON_NEXT = re.compile(r"[ \t\r\n]*:")
# C0 and C1 controls, lone surrogates, and the bidirectional controls that hide what a line says.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)


class Token(NamedTuple):
    """One terminal of the text. An empty `text` marks a bracket that was added to go on."""

    type: str
    text: str
    source: Source
    start: int
    end: int

    @property
    def span(self) -> Span:
        return Span(self.source, self.start, self.end)

    @property
    def shown(self) -> str:
        """The text, cut to what a message can hold."""
        return self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"


class Comment(NamedTuple):
    """A comment and its place, without `#` and the one blank after it."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The terminals of the grammar, ready to scan with."""

    pattern: re.Pattern[str]
    keywords: dict[str, str]

    @classmethod
    def of(cls, terminals: Sequence[TerminalDef]) -> Lexicon:
        """One alternation; regular expressions come first, so that `<=` is tried before `<`."""
        words = {t.pattern.value: t.name for t in terminals if t.pattern.value.isalpha()}
        rest = [t for t in terminals if t.name not in words.values() and t.name != "SPACE"]
        rest.sort(key=lambda t: (isinstance(t.pattern, PatternStr), -t.priority))
        parts = [f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in rest]
        return cls(re.compile(rf"[ \t\r\n]*(?:{'|'.join(parts)}|{_FALLBACK})"), words)


def limit(message: str, span: Span) -> SpecError:
    """The fault of a text that is larger than netspec reads."""
    return SpecError(message, span, code="limit")


def nesting_fault(span: Span) -> SpecError:
    return limit(f"brackets are nested more than {MAX_NESTING} deep", span)


def unclosed(opener: Token) -> str:
    return f"this `{opener.text}` is never closed"


def scan(
    source: Source, lexicon: Lexicon, faults: Diagnostics
) -> tuple[list[Token], list[Comment]]:
    """The tokens of a text, with balanced brackets and `$END` at the end, and its comments.

    Faults are added to `faults`; SpecErrors is raised only by a limit that makes going on
    pointless.
    """
    return _Scanner(source, lexicon, faults).run()


class _Scanner:
    def __init__(self, source: Source, lexicon: Lexicon, faults: Diagnostics) -> None:
        self.source = source
        self.lexicon = lexicon
        self.faults = faults
        self.tokens: list[Token] = []
        self.comments: list[Comment] = []
        self.open: list[Token] = []

    def run(self) -> tuple[list[Token], list[Comment]]:
        self._check_length()
        text = self._check_control()
        match, keywords, source = self.lexicon.pattern.match, self.lexicon.keywords, self.source
        special, append, at = self._special(), self.tokens.append, 0
        while found := match(text, at):
            kind = found.lastgroup or ""
            start, at = found.span(kind)
            word = text[start:at]
            if word in keywords and not _COLON_NEXT.match(text, at):
                kind = keywords[word]
            token = Token(kind, word, source, start, at)
            if kind not in special:
                append(token)
            elif kind == "END":
                break
            else:
                at = special[kind](token)
        self._check_count()
        end = self.tokens[-1].end if self.tokens else 0
        self._close_until(0, end)
        append(Token(END, "", source, end, end))
        return self.tokens, self.comments

    def _special(self) -> dict[str, Callable[[Token], int]]:
        """What to do with the tokens that are not simply kept; each gives where to go on."""
        handlers = {
            "COMMENT": self._comment,
            "WORD": self._word,
            "QUOTE": self._quote,
            "SIGN": self._sign,
            "END": lambda token: token.end,
        }
        handlers |= dict.fromkeys(_CHECKS, self._literal)
        handlers |= dict.fromkeys(_CLOSER, self._opener)
        return handlers | dict.fromkeys(_OPENER, self._closer)

    def _check_length(self) -> None:
        text = self.source.text
        if len(text) > MAX_TEXT or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
            where = Span(self.source, 0, 0)
            self.faults.error(limit(f"the text is longer than {MAX_TEXT} bytes", where))
            self.faults.check()

    def _check_count(self) -> None:
        """Parsing costs by the token, of which a text of numbers has too many for its length."""
        if len(self.tokens) > MAX_TOKENS:
            token = self.tokens[MAX_TOKENS]
            where = Span(self.source, token.start, token.end)
            self.faults.error(
                limit(f"the text has more than {MAX_TOKENS:,} words and signs", where)
            )
            self.faults.check()

    def _check_control(self) -> str:
        """Reports control characters, and gives the text without them."""
        text = self.source.text
        if not _CONTROL.search(text):
            return text
        for found in _CONTROL.finditer(text):
            token = Token(ERROR, found[0], self.source, found.start(), found.end())
            self._fault(f"control character `{printable(found[0])}` in the text", token)
        return _CONTROL.sub(" ", text)

    def _fault(
        self, message: str, token: Token, *, code: str = "syntax", hint: str | None = None
    ) -> None:
        if len(self.faults.errors) < MAX_ERRORS:
            self.faults.error(SpecError(message, token.span, code=code, hint=hint))
        else:
            self.faults.dropped += 1

    def _comment(self, token: Token) -> int:
        text = token.text[1:].rstrip()
        self.comments.append(Comment(text.removeprefix(" ") or " ", token.start, token.end))
        return token.end

    def _literal(self, token: Token) -> int:
        try:
            _CHECKS[token.type](token.text)
        except literals.LiteralFault as fault:
            self._fault(str(fault), token, code=fault.code)
            token = token._replace(type=ERROR)
        self.tokens.append(token)
        return token.end

    def _word(self, token: Token) -> int:
        hint = "a size is written `3x224x224`" if "x" in token.text else None
        self._fault(f"`{token.shown}` is not a number", token, hint=hint)
        self.tokens.append(token._replace(type=ERROR))
        return token.end

    def _quote(self, token: Token) -> int:
        """An unterminated string; a `{` on its line is taken to be outside of it."""
        quote = token._replace(end=token.start + 1)
        self._fault("this string has no closing quote on its line", quote)
        self.tokens.append(token._replace(type=ERROR))
        return token.start + len(token.text.partition("{")[0])

    def _sign(self, token: Token) -> int:
        self._fault(f"unexpected character `{token.shown}`", token)
        self.tokens.append(token._replace(type=ERROR))
        return token.end

    def _opener(self, token: Token) -> int:
        self.open.append(token)
        if len(self.open) > MAX_NESTING:
            self.faults.error(nesting_fault(token.span))
            self.faults.check()
        self.tokens.append(token)
        return token.end

    def _closer(self, token: Token) -> int:
        opener = _OPENER[token.type]
        level = len(self.open)
        while level and self.open[level - 1].type != opener:
            level -= 1
        if not level:
            self._fault(f"this `{token.text}` closes nothing", token)
            if opener != "LBRACE":
                self.tokens.append(token._replace(type=ERROR))
            return token.end
        self._close_until(level, token.start)
        self.open.pop()
        self.tokens.append(token)
        return token.end

    def _close_until(self, level: int, at: int) -> None:
        """Reports the innermost bracket above `level` as unclosed, and closes them all."""
        if len(self.open) > level:
            self._fault(unclosed(self.open[-1]), self.open[-1])
        while len(self.open) > level:
            closer = _CLOSER[self.open.pop().type]
            self.tokens.append(Token(closer, "", self.source, at, at))
