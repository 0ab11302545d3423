"""Canonical text: `parse(to_text(tree)) == tree`, a fixed point, with the comments kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netspec.diagnostics import Source, Span, SpecErrors
from netspec.grammar import ast, literals
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"
NOWHERE = Span(Source("", ""), 0, 0)
KEYWORDS = ["let", "block", "repeat", "when", "as", "if", "else", "and", "or", "not"]


def read(text: str) -> ast.Message:
    return parse(Source("x.net", text))


def formatted(text: str) -> str:
    """The canonical text, checked to be canonical and to say the same."""
    tree = read(text)
    result = to_text(tree)
    again = read(result)
    assert again == tree
    assert to_text(again) == result
    return result


names = st.sampled_from(["a", "conv", "in", "min", "x1", "_b", "include"])
keys = st.one_of(names, st.sampled_from(KEYWORDS))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
strings = st.builds(ast.String, texts, st.just(NOWHERE))
numbers = st.sampled_from(["0", "7", "017", "0x1F", "1e-4", ".5", "5.", "1.5f"]).map(
    lambda text: ast.Number(text, literals.number(text), NOWHERE)
)
extents = st.lists(st.integers(1, 999), min_size=2, max_size=8).map(tuple)
sizes = st.builds(ast.Size, extents, st.just(NOWHERE))
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
atoms = st.one_of(numbers, sizes, strings, st.builds(ast.Reference, paths, st.just(NOWHERE)))
OPERATORS = ["or", "and", "<", "<=", "==", "!=", ">=", ">", "+", "-", "*", "/", "//", "%"]
expressions: st.SearchStrategy[ast.Expr] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(ast.Unary, st.sampled_from(["-", "not"]), inner, st.just(NOWHERE)),
        st.builds(ast.Binary, st.sampled_from(OPERATORS), inner, inner, st.just(NOWHERE)),
        st.builds(ast.Choice, inner, inner, inner, st.just(NOWHERE)),
        st.builds(ast.Invoke, names, st.lists(inner, max_size=3).map(tuple), st.just(NOWHERE)),
    ),
    max_leaves=12,
)
plain_lists = st.builds(ast.List, st.lists(expressions, max_size=4).map(tuple), st.just(NOWHERE))
values = st.one_of(expressions, plain_lists)
arguments = st.builds(ast.Argument, st.none() | keys, values, st.just(NOWHERE))
formals = st.builds(ast.Formal, names, st.none() | expressions, st.just(NOWHERE))
lines = st.text(st.characters(codec="ascii", categories=["L", "P", "Zs"]), max_size=9)
comment = lines.map(lambda text: text.rstrip().removeprefix(" ") or " ")
above = st.lists(comment, max_size=2).map(tuple)
notes = st.one_of(st.just(ast.NO_COMMENTS), st.builds(ast.Comments, above, st.none() | comment))


def messages(items: st.SearchStrategy[ast.Item]) -> st.SearchStrategy[ast.Message]:
    tuples = st.lists(items, max_size=4).map(tuple)
    return st.builds(ast.Message, tuples, st.just(NOWHERE), above, st.none() | comment)


def composed(items: st.SearchStrategy[ast.Item]) -> st.SearchStrategy[ast.Item]:
    n, body = st.just(NOWHERE), messages(items)
    return st.one_of(
        st.builds(ast.Element, keys, st.none(), body, n, n, notes),
        st.builds(ast.Element, names, st.none() | strings, st.none() | body, n, n, notes),
        st.builds(ast.Block, names, st.lists(formals, max_size=3).map(tuple), body, n, n, notes),
        st.builds(ast.Repeat, expressions, st.none() | names, body, n, notes),
        st.builds(ast.When, expressions, body, st.none() | body, n, notes),
    )


leaves = st.one_of(
    st.builds(ast.Field, keys, values, st.just(NOWHERE), st.just(NOWHERE), notes),
    st.builds(ast.Let, names, values, st.just(NOWHERE), st.just(NOWHERE), notes),
    st.builds(
        ast.Call,
        names,
        st.lists(arguments, max_size=3).map(tuple),
        st.none() | strings,
        st.just(NOWHERE),
        st.just(NOWHERE),
        notes,
    ),
)
records = st.lists(leaves, max_size=3).map(
    lambda items: ast.Message(tuple(replace(i, comments=ast.NO_COMMENTS) for i in items), NOWHERE)
)
mixed = st.builds(
    ast.List, st.lists(expressions | records, max_size=4).map(tuple), st.just(NOWHERE)
)
leaves |= st.builds(ast.Field, keys, mixed, st.just(NOWHERE), st.just(NOWHERE), notes)
trees = messages(st.recursive(leaves, composed, max_leaves=8))


def comments_of(message: ast.Message) -> Counter[str]:
    """Every comment of a tree, wherever it stands."""
    found = Counter(message.tail)
    found.update([message.head] if message.head is not None else [])
    for item in message.items:
        found.update(item.comments.before)
        found.update([item.comments.after] if item.comments.after is not None else [])
        for body in (getattr(item, "body", None), getattr(item, "otherwise", None)):
            if body is not None:
                found += comments_of(body)
    found.pop("", None)
    return found


@given(trees)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_random_trees_come_back(tree: ast.Message) -> None:
    tree = replace(tree, head=None)
    text = to_text(tree)
    again = read(text)
    assert again == tree
    assert to_text(again) == text
    assert comments_of(again) == comments_of(tree)


@given(expressions)
def test_parentheses_are_minimal(expression: ast.Expr) -> None:
    """Leaving out any one pair of parentheses changes the tree or is refused."""
    field = ast.Field("a", expression, NOWHERE, NOWHERE)
    text = to_text(ast.Message((field,), NOWHERE))
    for opening, closing in pairs(text):
        less = text[:opening] + text[opening + 1 : closing] + text[closing + 1 :]
        try:
            tree = read(less)
        except SpecErrors:
            continue
        assert tree.items != (field,)


def pairs(text: str) -> Iterator[tuple[int, int]]:
    """Where parentheses that are not a call's open and close, outside of strings."""
    open_at: list[int] = []
    quoted = escaped = False
    for at, char in enumerate(text):
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = quoted and char == "\\" and not escaped
        if char == "(" and not quoted:
            open_at.append(at)
        elif char == ")" and not quoted:
            begin = open_at.pop()
            if not (text[begin - 1].isalnum() or text[begin - 1] == "_"):
                yield begin, at


def test_lines_that_fit_and_lines_that_do_not() -> None:
    source = """
conv "conv1" { num_output: 20,
   kernel_size: 5; weight_filler < type: 'xavier' > }
relu   relu
block b(x,y=1){relu}
branch { }
solver { type: SGD  base_lr: 0.01  momentum: 0.9  weight_decay: 0.0005  lr_policy: inv  gamma: 1/255
 power: 0.75 }
pool {
  stride: 2 }
when a { relu } else { pool }
"""
    assert (
        formatted(source)
        == """\
conv "conv1" { num_output: 20  kernel_size: 5  weight_filler { type: "xavier" } }
relu  relu
block b(x, y = 1) {
  relu
}
branch {}
solver {
  type: SGD  base_lr: 0.01  momentum: 0.9  weight_decay: 0.0005  lr_policy: inv  gamma: 1/255
  power: 0.75
}
pool {
  stride: 2
}
when a { relu } else { pool }
"""
    )


def test_long_lists_are_filled() -> None:
    numbers, wide = ", ".join(map(str, range(60))), "x" * 90
    text = formatted(f"a: [{numbers}] b: [{{ c: 1 }}, {{ d: [{{ }}] e: '{wide}' }}, 2]")
    assert max(map(len, text.splitlines()[:-8])) <= 100
    assert text.startswith("a: [\n  0, 1, 2,")
    assert "b: [\n  { c: 1 },\n  {\n    d: [{}]\n" in text


def test_comments_and_empty_lines_stay() -> None:
    text = """\
# licence

## above
#
a: 1  # behind

b {  # head
  # inner
  c: 2  # after c

  d: 3
  # tail

  # more
}  # after b
when x {
  y  # one
} else {  # two
  z
}

# end
"""
    assert formatted(text) == text


def test_many_empty_lines_become_one() -> None:
    assert (
        formatted("\n\na: 1\n\n\n\nb: 2\n \n\n# c\n\n\n\n# d\n\n") == "a: 1\n\nb: 2\n\n# c\n\n# d\n"
    )


def test_a_comment_inside_an_item_goes_above_it() -> None:
    assert formatted("a: [1, # one\n 2] # two\n") == "# one\na: [1, 2]  # two\n"


def test_nested_to_the_limit() -> None:
    for deep in ("-" * 199 + "1", "1" + " - 1" * 199, "1 if a else " * 199 + "1"):
        text = to_text(read("a { b: 1 " * 64 + f"c: {deep}" + "}" * 64))
        assert to_text(read(text)) == text
        formatted(f"c: {deep}")
    formatted("a { b: 1 " * 4 + "c: " + "(" * 60 + "1" + "+ 1) * 2" * 60 + "}" * 4)


def test_the_corpus_survives() -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not here")
    for path in CORPUS.rglob("*"):
        if path.is_file():
            tree = read(path.read_text("utf-8"))
            text = to_text(tree)
            again = read(text)
            assert again == tree, path
            assert to_text(again) == text, path
            assert comments_of(again) == comments_of(tree), path
