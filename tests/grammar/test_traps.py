"""The lexical traps: sizes against hex, comparison against messages, keywords as field names."""

from __future__ import annotations

import pytest

from netspec.diagnostics import Source, SpecErrors
from netspec.grammar import ast
from netspec.grammar.parser import parse


def value(text: str) -> object:
    (item,) = parse(Source("x.net", f"key: {text}")).items
    assert isinstance(item, ast.Field)
    return item.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x1F", 31),
        ("0X1f", 31),
        ("017", 15),
        ("0", 0),
        ("00", 0),
        ("1e-4", 1e-4),
        ("1E+4", 1e4),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.5f", 1.5),
        ("10F", 10.0),
        ("007.5", 7.5),
    ],
)
def test_numbers(text: str, expected: float) -> None:
    number = value(text)
    assert isinstance(number, ast.Number)
    assert (number.text, number.value) == (text, expected)
    assert type(number.value) is type(expected)


@pytest.mark.parametrize(
    "text", ["3x", "x3x", "3x0", "03x3", "1x2x", "0x", "0x1g", "3x4.5", "1_000"]
)
def test_what_is_no_size_and_no_number(text: str) -> None:
    if text == "x3x":
        assert isinstance(value(text), ast.Reference)
        return
    with pytest.raises(SpecErrors, match="is not a number"):
        value(text)


def test_sizes() -> None:
    size = value("3x224x224")
    assert isinstance(size, ast.Size)
    assert size.extent == (3, 224, 224)
    assert isinstance(value("2*3x4"), ast.Binary)


def test_unicode_digits_and_letters_are_not_ours() -> None:
    for text in ("\u0663", "1\u0663", "caf\u00e9", "\u0410"):
        with pytest.raises(SpecErrors):
            value(text)


def test_infinity_is_a_word_and_minus_an_operator() -> None:
    assert isinstance(value("inf"), ast.Reference)
    minus = value("-inf")
    assert isinstance(minus, ast.Unary)
    assert isinstance(minus.operand, ast.Reference)
    assert isinstance(value("-3"), ast.Unary)


KEYWORDS = ["let", "block", "repeat", "when", "as", "if", "else", "and", "or", "not"]


@pytest.mark.parametrize("word", [*KEYWORDS, "include", "min", "max", "in"])
def test_words_usable_as_field_names(word: str) -> None:
    text = f"a: 1 {word}: 3 {word} :4 {word}\n: {{ }} when x {{ }} {word}: 1 b({word}: 1)"
    first, field, spaced, element, _, after, call = parse(Source("x.net", text)).items
    assert isinstance(first, ast.Field)
    assert isinstance(field, ast.Field)
    assert isinstance(spaced, ast.Field)
    assert isinstance(element, ast.Element)
    assert isinstance(after, ast.Field)
    assert {field.key, spaced.key, element.word, after.key} == {word}
    assert isinstance(call, ast.Call)
    assert call.arguments[0].name == word


def test_less_than_opens_a_message_unless_it_compares() -> None:
    text = (
        "param < a: 1 b: < c: (x < y) > d: [<e: 1>, {f: 2}] > when a < b { } g: 1 if a > b else 2"
    )
    param, when, field = parse(Source("x.net", text)).items
    assert isinstance(param, ast.Element)
    assert isinstance(when, ast.When)
    assert isinstance(when.test, ast.Binary)
    assert isinstance(field, ast.Field)
    assert isinstance(field.value, ast.Choice)
    with pytest.raises(SpecErrors):
        value("a < b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"a\n\t\\\"\'"', "a\n\t\\\"'"),
        (r"'it''s'", "its"),
        (r'"\x41\102\u00e9\U0001F600"', "AB\u00e9\U0001f600"),
        (r'"\303\251" "\xc3\xa9"', "\u00e9\u00e9"),
        ('"a" \'b\'\n# c\n"d"', "abd"),
        ('"# no comment"', "# no comment"),
        ('"\u00fc\u4e2d"', "\u00fc\u4e2d"),
    ],
)
def test_strings(text: str, expected: str) -> None:
    string = value(text)
    assert isinstance(string, ast.String)
    assert string.value == expected


@pytest.mark.parametrize(
    "text", [r'"\8"', r'"\xff"', r'"\777"', r'"\ud800"', r'"\U00110000"', r'"\u12"']
)
def test_bad_escapes(text: str) -> None:
    with pytest.raises(SpecErrors):
        value(text)


@pytest.mark.parametrize(
    "control", ["\0", "\x07", "\x0b", "\x0c", "\x1b", "\x7f", "\x9b", "\u202e"]
)
@pytest.mark.parametrize("text", ["a{}: 1", "a: '{}'", "a: 1 # {}"])
def test_control_characters_are_shown_escaped(text: str, control: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse(Source("x.net", text.format(control)))
    assert control not in str(caught.value)
    assert "control character `\\" in str(caught.value)


def test_newlines_never_matter() -> None:
    text = 'conv "a" { pad: 1 + 2 } let x = a when x < 1 { relu } else { b(1) }'
    assert parse(Source("x.net", text)) == parse(Source("x.net", text.replace(" ", "\r\n")))
