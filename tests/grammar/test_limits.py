"""Every limit holds at its value and refuses what is above; hostile texts end soon."""

from __future__ import annotations

import random
import re
import time
from contextlib import suppress

import pytest

from netspec.diagnostics import MAX_ERRORS, Source, SpecErrors
from netspec.grammar.ast import Message
from netspec.grammar.parser import _language, parse
from netspec.grammar.printer import to_text


def read(text: str) -> Message:
    return parse(Source("x.net", text))


def refused(text: str, within: float = 1.0) -> str:
    """The code of the only kind of fault, which comes within some seconds."""
    read("relu")
    begin = time.process_time()
    with pytest.raises(SpecErrors) as caught:
        read(text)
    assert time.process_time() - begin < within
    (code,) = {fault.code for fault in caught.value.faults}
    return code


NESTS = [("a {", "}"), ("a <", ">"), ("a: {", "}")]


@pytest.mark.parametrize(("opening", "closing"), NESTS)
def test_nesting(opening: str, closing: str) -> None:
    text = to_text(read(opening * 64 + closing * 64))
    assert text.count("{") == 64
    assert refused(opening * 65 + closing * 65) == "limit"
    assert refused(opening * (10**6 // len(opening)), within=5 if "<" in opening else 1) == "limit"


def test_words_and_signs() -> None:
    read("a: [" + "1, " * 199_997 + "1]")  # 400,000 with the brackets, the key and its colon
    assert refused("a: [" + "1, " * 199_998 + "1]", within=5) == "limit"


def test_nesting_of_other_brackets() -> None:
    read("a: " + "(" * 64 + "1" + ")" * 64)
    assert refused("a: " + "(" * 65 + "1" + ")" * 65) == "limit"
    read("a < " * 32 + "b { " * 32 + "} " * 32 + "> " * 32)
    assert refused("a < b { " * 33 + "} > " * 33) == "limit"
    for bracket in "{([":
        assert refused(bracket * 10**6) == "limit"


@pytest.mark.parametrize(
    ("head", "link", "tail"),
    [("", "1+", "1"), ("", "-", "1"), ("", "1 if a else ", "1"), ("(", "not ", "a)")],
)
def test_depth_of_expressions(head: str, link: str, tail: str) -> None:
    text = f"a: {head}{link * 199}{tail}"
    assert to_text(read(to_text(read(text)))) == to_text(read(text))
    assert refused(f"a: {head}{link * 200}{tail}") == "limit"
    assert refused(f"a: {head}{link * (10**6 // len(link))}{tail}", within=20) == "limit"


def test_literals() -> None:
    read(f"a: {'9' * 18} b: 0x{'F' * 18} c: .{'1' * 39} d: {'x'.join('2' * 8)} e: 1x{2**31 - 1}")
    for text in ("9" * 19, "0x" + "F" * 19, "." + "1" * 40, "x".join("2" * 9), f"1x{2**31}"):
        assert refused(f"a: {text}") == "limit"
    assert refused("a: 1e999") == "limit"
    assert refused("a: " + "9" * 10**6) == "limit"
    assert refused("a: 1x" + "9" * 10**6) == "limit"


def test_length() -> None:
    read("#" * 2**20)
    assert refused("#" * (2**20 + 1)) == "limit"
    assert refused("#" + "\u00fc" * 2**19) == "limit"


def test_a_flood_of_errors_is_counted() -> None:
    begin = time.process_time()
    with pytest.raises(SpecErrors) as caught:
        read("a 1\n" * 100_000)
    assert len(caught.value.faults) == MAX_ERRORS
    assert caught.value.more == 100_000 - MAX_ERRORS
    assert time.process_time() - begin < 5
    for text in ("}" * 10**5, "@" * 10**5, "3x " * 10**5, "\x1b" * 10**5, '"\n' * 10**5):
        assert refused(text, within=5) == "syntax"


PUMPS = [
    "1",
    "1x1",
    "x1",
    "1.",
    "0x1",
    "1e1",
    "a",
    '"',
    '"a',
    "\\'",
    "#",
    " ",
    "\n",
    "'\\",
    "let ",
    "a b",
]


@pytest.mark.parametrize("terminal", [t.name for t in _language().lark.terminals])
def test_terminals_take_linear_time(terminal: str) -> None:
    (found,) = [t for t in _language().lark.terminals if t.name == terminal]
    pattern = re.compile(found.pattern.to_regexp())
    for pump in PUMPS:
        for end in ("", "!", "_", '"'):
            text = pump * (200_000 // len(pump)) + end
            begin = time.process_time()
            pattern.match(text)
            assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(
    "pump", [*PUMPS, "a: ", "a: 1 ", "a<", "<", "when a<", "else ", "a: [1 ", "\r"]
)
def test_pumped_texts_end_soon(pump: str) -> None:
    begin = time.process_time()
    with suppress(SpecErrors):
        to_text(read(pump * (300_000 // len(pump))))
    assert time.process_time() - begin < 10


SEED = """let w = 3x4 block b(x, y = 1) { conv "c" { pad: (x - 1) / 2  s: 'it' } }
when w < 2 and not a { b(1, y: [2]) "l" } else { p < q: 1 if (a > b) else -2.5 > } # end
repeat 2 as i { relu; }
"""
PIECES = [*"{}()[]<>:,;=.+-*/%#\"'\\@ \n", "let ", "when ", "else ", "if ", "0x1", "3x"]


def test_mutants_only_ever_raise_spec_errors() -> None:
    dice = random.Random(1)
    for _ in range(3000):
        text = SEED
        for _ in range(dice.randint(1, 6)):
            at, drop = dice.randrange(len(text)), dice.choice((0, 0, 1, 5))
            text = text[:at] + dice.choice(PIECES) + text[at + drop :]
        with suppress(SpecErrors):
            tree = read(text)
            assert read(to_text(tree)) == tree
