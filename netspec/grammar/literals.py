"""What the literals of the text mean: numbers, sizes and quoted strings, within their limits."""

from __future__ import annotations

import re
from math import isfinite

from netspec.diagnostics import printable

MAX_DIGITS = 18
MAX_FLOAT = 40
MAX_EXTENTS = 8
MAX_EXTENT = 2**31 - 1

_INTEGER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]+")
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<byte>[0-9A-Fa-f]{1,2})"
    r"|u(?P<short>[0-9A-Fa-f]{4})|U(?P<long>[0-9A-Fa-f]{8})|(?P<sign>.))",
    re.DOTALL,
)
_SIGNS = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))


class LiteralFault(Exception):
    """A literal that means nothing, or exceeds a limit; `code` is the diagnostic's."""

    def __init__(self, message: str, *, code: str = "syntax") -> None:
        super().__init__(message)
        self.code = code


def number(text: str) -> int | float:
    """The value of a number in one of the protobuf forms: `7`, `017`, `0x1F`, `1e-4`, `.5f`."""
    if not _INTEGER.fullmatch(text):
        return _float(text)
    base = 16 if text[1:2] in ("x", "X") else 8 if len(text) > 1 and text[0] == "0" else 10
    if len(text) - 2 * (base == 16) > MAX_DIGITS:
        raise LiteralFault(f"an integer has at most {MAX_DIGITS} digits", code="limit")
    try:
        return int(text, base)
    except ValueError:
        raise LiteralFault(
            f"`{text}` starts with 0, so it is octal, where no digit is above 7"
        ) from None


def _float(text: str) -> float:
    if len(text) > MAX_FLOAT:
        raise LiteralFault(f"a number has at most {MAX_FLOAT} characters", code="limit")
    value = float(text.rstrip("fF"))
    if not isfinite(value):
        raise LiteralFault(f"`{text}` is larger than any float", code="limit")
    return value


def size(text: str) -> tuple[int, ...]:
    """The extents of `3x224x224`."""
    parts = text.split("x")
    if len(parts) > MAX_EXTENTS:
        raise LiteralFault(f"a size has at most {MAX_EXTENTS} extents", code="limit")
    if any(len(part) > 10 or int(part) > MAX_EXTENT for part in parts):
        raise LiteralFault(f"an extent of a size is at most {MAX_EXTENT}", code="limit")
    return tuple(map(int, parts))


def string(text: str) -> str:
    """The text between the quotes, unescaped; `\\303\\251` are bytes of UTF-8, as in protobuf."""
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    try:
        return _ESCAPE.sub(_unescape, inner).encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise LiteralFault("the escapes in this string make no UTF-8 text") from None


def _unescape(match: re.Match[str]) -> str:
    sign = match["sign"]
    if sign is not None:
        if sign not in _SIGNS:
            raise LiteralFault(f"unknown escape `\\{printable(sign)}` in a string")
        return _SIGNS[sign]
    if match["octal"] or match["byte"]:
        code = int(match["octal"], 8) if match["octal"] else int(match["byte"], 16)
        if code > 0xFF:
            raise LiteralFault(f"`\\{match['octal']}` is more than one byte")
        return chr(code) if code < 0x80 else chr(0xDC00 + code)
    code = int(match["short"] or match["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise LiteralFault(f"`{match[0]}` is no character")
    return chr(code)
