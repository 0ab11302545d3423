"""A scalar value of a Caffe file as protobuf's text format reads it: `1` or `t` → `true`."""

from __future__ import annotations

from math import inf, nan
from typing import Final

from netspec.caffe.schema import EnumType, FieldType, layer_type_of_v1, layer_types, schema
from netspec.diagnostics import suggest
from netspec.grammar.ast import Expr, List, Message, Number, Reference, Size, String, Unary
from netspec.wording import either

_RANGES: Final = {
    "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_TRUTHS: Final = {
    "true": "true",
    "True": "true",
    "t": "true",
    "false": "false",
    "False": "false",
    "f": "false",
}
_FLOATS: Final = {"inf": inf, "infinity": inf, "nan": nan}
_V1: Final = "V1LayerType"
"""The enum whose words are kept if they are unknown: another Caffe's layer has a shape perhaps."""
_SHOWN = 40
_LISTED = 8
"""Enum words that a message lists."""


class Unfit(Exception):
    """A value that protobuf refuses; `reason` follows the field's name in a sentence.

    `reading` is what the value can only mean; `ignorable` says that the field can be left out.
    """

    def __init__(
        self,
        reason: str,
        *,
        hint: str | None = None,
        reading: Expr | None = None,
        ignorable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.reading = reading
        self.ignorable = ignorable


def canonical(value: Expr, field: FieldType, *, bvlc_only: bool = False) -> Expr:
    """The value as the field's type writes it; the node itself if it is written so already.

    Integers are decimal, bools `true` or `false`, enum words stand for their numbers. Raises Unfit.
    """
    if _parenthesised(value) or not isinstance(value, String | Number | Reference | Unary):
        raise _expression(value)
    match field.type:
        case "string":
            return _text(value, field)
        case "bool":
            return _truth(value)
        case "float" | "double":
            return _real(value)
        case "int32" | "uint32" | "int64":
            return _integer(value, field.type)
        case _:
            return _word(value, schema().enums[field.type], bvlc_only)


def shown(value: Expr | List | Message) -> str:
    """A value as its author wrote it, cut to what a message can hold."""
    return cut(" ".join(value.span.source.text[value.span.start : value.span.end].split()))


def cut(text: str) -> str:
    """As much of a text as a message can hold."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _parenthesised(value: Expr) -> bool:
    return value.span.source.text[value.span.start] == "("


def _expression(value: Expr) -> Unfit:
    if isinstance(value, Size):
        one_by_one = ", ".join(map(str, value.extent))
        hint = f"a list does: `[{one_by_one}]`"
        return Unfit(f"takes no sizes in a Caffe file, and `{shown(value)}` is one", hint=hint)
    return Unfit(f"takes a plain value in a Caffe file, not the expression `{shown(value)}`")


def _number(value: Expr) -> tuple[int, Number] | None:
    """The sign and the literal of a number, None if it is none."""
    if isinstance(value, Number):
        return 1, value
    if isinstance(value, Unary) and value.operator == "-" and not _parenthesised(value.operand):
        operand = value.operand
        return (-1, operand) if isinstance(operand, Number) else None
    return None


def _signed(value: int, written: Expr) -> Expr:
    """A decimal integer in the place of a value."""
    literal = Number(str(abs(value)), abs(value), written.span)
    return literal if value >= 0 else Unary("-", literal, written.span)


def _integer(value: Expr, kind: str) -> Expr:
    low, high = _RANGES[kind]
    number = _number(value)
    if number is None or not isinstance(number[1].value, int):
        raise Unfit(f"takes an integer, not {shown(value)}", reading=_whole(value, low, high))
    sign, literal = number
    unsigned_minus = sign < 0 and low == 0
    if unsigned_minus or not low <= sign * int(literal.value) <= high:
        raise Unfit(f"takes an integer from {low} to {high}, not {shown(value)}")
    plain = literal.text == str(literal.value)
    return value if plain else _signed(sign * int(literal.value), value)


def _whole(value: Expr, low: int, high: int) -> Expr | None:
    """`2.0` or `"2"` can only mean 2."""
    number = _number(value)
    if number is not None:
        amount = number[0] * number[1].value
    elif isinstance(value, String) and value.value.isdecimal() and len(value.value) <= 18:
        amount = int(value.value)
    else:
        return None
    whole = amount == int(amount) and low <= amount <= high
    return _signed(int(amount), value) if whole else None


def _real(value: Expr) -> Expr:
    operand = value.operand if isinstance(value, Unary) and value.operator == "-" else value
    if isinstance(operand, Reference) and not _parenthesised(operand):
        name = operand.word.lower()
        if name in _FLOATS:
            special = Number(name, _FLOATS[name], operand.span)
            return special if operand is value else Unary("-", special, value.span)
    number = _number(value)
    if number is None:
        raise Unfit(f"takes a number, not {shown(value)}")
    sign, literal = number
    text = literal.text
    if isinstance(literal.value, int) and text[0] == "0" and len(text) > 1:
        base = "hexadecimal" if text[1] in "xX" else "octal"
        reason = f"takes a decimal number, and {shown(value)} is {base}"
        raise Unfit(reason, reading=_signed(sign * literal.value, value))
    if text[-1] not in "fF":
        return value
    decimal = Number(text[:-1], literal.value, literal.span)
    return decimal if sign > 0 else Unary("-", decimal, value.span)


def _truth(value: Expr) -> Expr:
    if isinstance(value, Reference):
        word = _TRUTHS.get(value.word)
        if word == value.word:
            return value
    elif isinstance(value, Number) and isinstance(value.value, int) and value.value in (0, 1):
        word = ("false", "true")[value.value]
    else:
        word = None
    if word is None:
        likely = _TRUTHS.get(value.word.lower()) if isinstance(value, Reference) else None
        reading = Reference((likely,), value.span) if likely else None
        raise Unfit(f"takes true or false, not {shown(value)}", reading=reading)
    return Reference((word,), value.span)


def _text(value: Expr, field: FieldType) -> Expr:
    if isinstance(value, String):
        return value
    hint, reading = None, None
    if isinstance(value, Reference):
        reading = String(value.word, value.span)
        named = layer_type_of_v1(value.word) if field.name == "type" else None
        name = named.name if named else value.word
        hint = f'write `{field.name}: "{name}"`'
        if named:
            reading = String(name, value.span)
    raise Unfit(f"takes text in quotes, not {shown(value)}", hint=hint, reading=reading)


def _word(value: Expr, enum: EnumType, bvlc_only: bool) -> Expr:
    words = [w for w in enum.words if w not in enum.forks] if bvlc_only else list(enum.words)
    if isinstance(value, Reference):
        if value.word in words:
            return value
        kept = value if enum.name == _V1 else None
        reason = f"must be {_either(words)}, not {shown(value)}{suggest(value.word, words)}"
        raise Unfit(reason, reading=kept, ignorable=True)
    if isinstance(value, String):
        raise _quoted(value, enum, words)
    number = _number(value)
    if number is not None and isinstance(number[1].value, int):
        word = enum.word(number[0] * number[1].value)
        if word in words:
            return Reference((word,), value.span)
    raise Unfit(f"must be {_either(words)}, not {shown(value)}", ignorable=True)


def _quoted(value: String, enum: EnumType, words: list[str]) -> Unfit:
    """A text where a word should stand, such as `type: "ReLU"` in `layers`."""
    word, hint, reading = value.value, None, None
    if enum.name == _V1:
        known = layer_types().get(word)
        word = known.v1 if known and known.v1 else word
        hint = 'a type in quotes belongs to `layer { type: "…" }`'
        reading = Reference((word,), value.span) if word.isidentifier() else None
    elif word in words:
        hint = f"write `{word}`"
        reading = Reference((word,), value.span)
    reason = f"takes a word without quotes, not {shown(value)}"
    return Unfit(reason, hint=hint, reading=reading, ignorable=True)


def _either(words: list[str]) -> str:
    if len(words) > _LISTED:
        return f"one of {len(words)} words such as {words[1]}"
    return either(words)
