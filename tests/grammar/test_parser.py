"""The tree of every form of the language, its spans and comments, and errors in human words."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from lark import Lark

from netspec.diagnostics import Source, SpecErrors
from netspec.grammar import ast
from netspec.grammar.parser import parse

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"


def tree(text: str) -> tuple[ast.Item, ...]:
    return parse(Source("x.net", text)).items


def value(text: str) -> object:
    (item,) = tree(f"key: {text}")
    assert isinstance(item, ast.Field)
    return item.value


def faults(text: str) -> list[tuple[str, str]]:
    """`line:column` and message of each fault."""
    with pytest.raises(SpecErrors) as caught:
        parse(Source("x.net", text))
    return [(f"{f.span.line}:{f.span.column}", f.message) for f in caught.value.faults]


def test_the_grammar_is_lalr_without_conflicts() -> None:
    text = files("netspec.grammar").joinpath("netspec.lark").read_text("utf-8")
    Lark(text, parser="lalr", lexer="basic", strict=True)


def test_importing_the_parser_is_light() -> None:
    code = "import sys, netspec.grammar.parser as p; print(*(p and sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "onnx", "numpy", "onnxruntime"} & set(run.stdout.split())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a: 1", ast.Field),
        ("a: [1, 2,]", ast.Field),
        ("a { }", ast.Element),
        ("a: { }", ast.Element),
        ("a < b: 1 >", ast.Element),
        ("a: < b: 1 >", ast.Element),
        ('a "b" { }', ast.Element),
        ('include "file.net"', ast.Element),
        ("relu", ast.Element),
        ("block b(x, y = 1,) { }", ast.Block),
        ('b(1, y: 2, z: [1, 2]) "label"', ast.Call),
        ("b()", ast.Call),
        ("repeat 2 * n { }", ast.Repeat),
        ("repeat n as i { }", ast.Repeat),
        ("when a < b { }", ast.When),
        ("when not a and b { } else { }", ast.When),
        ("let a = 3x4", ast.Let),
        ("let a = [1, x]", ast.Let),
    ],
)
def test_forms(text: str, kind: type) -> None:
    (item,) = tree(text)
    assert isinstance(item, kind)
    assert (item.span.start, item.span.end) == (0, len(text))
    assert tree(f"{text};{text},{text}\r\n{text}") == (item, item, item, item)


def test_a_list_of_messages_may_stand_without_a_colon() -> None:
    """As the protobuf text format has it; a list of values may not."""
    assert tree("shape [{ dim: 1 }, < dim: 2 >]") == tree("shape: [{ dim: 1 }, { dim: 2 }]")
    assert tree("shape []") == tree("shape: []")
    with pytest.raises(SpecErrors) as caught:
        tree("pad [1, 2]")
    (fault,) = caught.value.faults
    assert fault.message == "expected `:` after `pad`, found `[`"
    assert fault.span.start == 4


def test_spans_reach_over_brackets_and_parentheses() -> None:
    (item,) = tree("  conv { pad: (1 + 2)  list: [1] }")
    assert isinstance(item, ast.Element)
    assert item.body is not None
    pad, values = item.body.items
    assert (pad.span.start, pad.span.end) == (9, 21)
    assert (values.span.start, values.span.end) == (23, 32)
    assert (item.span.start, item.span.end) == (2, 34)


def test_operators_bind_as_usual() -> None:
    same = [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("-a * b", "(-a) * b"),
        ("8 // 2 % 3", "(8 // 2) % 3"),
        ("a + 1 if b < c or d and not e else f", "(a + 1) if ((b < c) or (d and (not e))) else f"),
        ("a if b else c if d else e", "a if b else (c if d else e)"),
        ("min(a, b + 1)", "min(a, (b + 1))"),
    ]
    for bare, grouped in same:
        assert value(bare) == value(grouped)
    assert value("1 - 2 - 3") != value("1 - (2 - 3)")


def test_comments_go_to_their_items() -> None:
    text = """# licence

# above
a: 1  # behind
b {  # head
  # inner
  c: (1 +  # in the middle
      2),  # after c
  # tail

  # more
}
#
when x { } # between
else { d }
# end
"""
    message = parse(Source("x.net", text))
    a, b, when = message.items
    assert a.comments == ast.Comments(("licence", "", "above"), "behind")
    assert b.comments == ast.NO_COMMENTS
    assert isinstance(b, ast.Element)
    assert b.body is not None
    assert (b.body.head, b.body.tail) == ("head", ("tail", "", "more"))
    assert b.body.items[0].comments == ast.Comments(("inner", "in the middle"), "after c")
    assert when.comments == ast.Comments((" ", "between"))
    assert message.tail == ("end",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "conv { num_output 20 }",
            [("1:19", "expected `:` or `{` after `num_output`, found `20`")],
        ),
        ("conv { pad = 1 }", [("1:12", "expected `:` or `{` after `pad`, found `=`")]),
        ("a {\n b { c: 1\n}", [("1:3", "this `{` is never closed")]),
        ("a < b: 1", [("1:3", "this `<` is never closed")]),
        ("relu }\nrelu", [("1:6", "this `}` closes nothing")]),
        ("a: (1 + }", [("1:9", "this `}` closes nothing"), ("1:4", "this `(` is never closed")]),
        ("k: 3x", [("1:4", "`3x` is not a number")]),
        ('s: "x\nb: 1', [("1:4", "this string has no closing quote on its line")]),
        ("x:\ny: 1", [("1:1", "`x:` has no value")]),
        ("x:", [("1:3", "expected a value after `:`, found the end of the file")]),
        ("x: 1 2", [("1:6", "expected a field or a layer after `1`, found `2`")]),
        ("x: [1 2]", [("1:7", "expected `,` or `]` after `1`, found `2`")]),
        ("let x 3", [("1:7", "expected `=` after `x`, found `3`")]),
        ("when { a }", [("1:6", "expected a value after `when`, found `{`")]),
        ("x: 1 if y", [("1:10", "expected `else` after `y`, found the end of the file")]),
        ("x: @", [("1:4", "unexpected character `@`")]),
        ("x: min(a: 1)", [("1:8", "`min(…)` in a value takes plain values only")]),
        ("a: '\\q'", [("1:4", "unknown escape `\\q` in a string")]),
        ("a: 09", [("1:4", "`09` starts with 0, so it is octal, where no digit is above 7")]),
    ],
)
def test_errors_say_what_was_expected(text: str, expected: list[tuple[str, str]]) -> None:
    assert faults(text) == sorted(expected, key=lambda fault: int(fault[0].split(":")[1]))


def test_all_errors_are_reported_without_cascades() -> None:
    text = """conv { num_output 20  kernel_size: 3x }
pool "a { stride = 2
  x:
  y: 3 > 2
  z: (1 + }
conv "a" 5 { num_output: 3 4 }
when a { b: 1 } els { c 2 } else { d: 1 }
let let = 3  last: *
"""
    lines = [int(place.split(":")[0]) for place, _ in faults(text)]
    assert lines == [1, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 8]


def test_an_unclosed_angle_hides_nothing_behind_it() -> None:
    text = "c { b < a: 1 d: 2 } relu 3 relu { a: (3 }"
    assert [place for place, _ in faults(text)] == ["1:7", "1:26", "1:38"]


def test_hints_are_answers() -> None:
    with pytest.raises(SpecErrors, match="a field is written `pad: value`"):
        tree("pad = 1")
    with pytest.raises(SpecErrors, match="a comparison in a value stands in parentheses"):
        tree("pad: a == 1")
    with pytest.raises(SpecErrors, match="`let` is a keyword"):
        tree("let let = 1")


def test_the_corpus_parses() -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not here")
    paths = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(paths) > 200
    for path in paths:
        assert tree(path.read_text("utf-8"))
