"""A syntax error in human words: what was found, and what could have stood there."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.diagnostics import SpecError
from netspec.grammar.tokens import END, Token
from netspec.wording import either

_WORDS = {
    "NAME": "a name",
    "STRING": "a quoted text",
    "_COLON": "`:`",
    "_EQUAL": "`=`",
    "LBRACE": "`{`",
    "LPAREN": "`(`",
    "_COMMA": "`,`",
    "RPAREN": "`)`",
    "RSQB": "`]`",
    "GREATER": "`>`",
    "RBRACE": "`}`",
    "_ELSE": "`else`",
}
_TESTS = {"COMPARE", "LESS", "GREATER", "AND", "OR"}
_KEYWORDS = {"LET", "BLOCK", "REPEAT", "WHEN", "_AS", "IF", "_ELSE", "AND", "OR", "NOT"}


def unexpected(tokens: Sequence[Token], at: int, accepted: set[str]) -> SpecError:
    """The fault of a token that the parser refused, where it would have accepted others."""
    token = tokens[at]
    before = tokens[max(0, at - 3) : at]
    if token.type == "_COLON" and [t.type for t in before] == ["NAME", "_COLON", "NAME"]:
        key, colon, _ = before
        return SpecError(f"`{key.shown}:` has no value", key.span.to(colon.span), code="syntax")
    if [t.type for t in before[-2:]] == ["NAME", "LSQB"]:
        key, opener = before[-2:]
        message = f"expected `:` after `{key.shown}`, found `[`"
        return SpecError(message, opener.span, code="syntax")
    previous = before[-1] if before else None
    after = f" after `{previous.shown}`" if previous else ""
    found = "the end of the file" if token.type == END else f"`{token.shown}`"
    message = f"expected {_expected(previous, accepted)}{after}, found {found}"
    return SpecError(message, token.span, code="syntax", hint=_hint(token, previous, accepted))


def _expected(previous: Token | None, accepted: set[str]) -> str:
    if previous and previous.type == "NAME" and {"_COLON", "LBRACE"} <= accepted:
        return "`:` or `{`"
    if "NUMBER" in accepted:
        return "a value"
    if "LET" in accepted:
        brace = "LBRACE" if previous and previous.type == "STRING" else "RBRACE"
        closer = next((_WORDS[t] for t in (brace, "GREATER") if t in accepted), None)
        return f"a field, a layer or {closer}" if closer else "a field or a layer"
    if "PLUS" in accepted:
        accepted = accepted - {"LPAREN", "GREATER", "STRING"}
    words = [word for kind, word in _WORDS.items() if kind in accepted] or ["an operator"]
    return either(words)


def _hint(token: Token, previous: Token | None, accepted: set[str]) -> str | None:
    if token.type == "_EQUAL" and previous and "_COLON" in accepted:
        return f"a field is written `{previous.shown}: value`"
    if token.type in _TESTS and previous and {"PLUS", "LET"} & accepted:
        return "a comparison in a value stands in parentheses, such as `(a < b)`"
    if token.type in _KEYWORDS and "NAME" in accepted and "LET" not in accepted:
        return f"`{token.text}` is a keyword"
    return None
