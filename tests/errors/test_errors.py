"""Every fault of `*.net` is reported where its mark stands: `# E: code: part of the message`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import NetspecError, SpecError, SpecErrors

_HERE = Path(__file__).parent
_MARK = re.compile(r"# E: (\w+): (.*?)\s*(?=# E:|$)")


def marks(path: Path) -> Iterator[tuple[str, int, str, str]]:
    """The (file, line, code, part of the message) that a spec expects."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        for code, part in _MARK.findall(line):
            yield path.name, number, code, part


def faults(path: Path) -> tuple[SpecError, ...]:
    """What netspec finds in a spec."""
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert not caught.value.more
    return caught.value.faults


@pytest.mark.parametrize("path", sorted(_HERE.glob("*.net")), ids=lambda path: path.stem)
def test_faults(path: Path) -> None:
    found = faults(path)
    files = {path, *(Path(fault.span.source.path) for fault in found)}
    expected = sorted(mark for file in files for mark in marks(file))
    assert expected, "a spec without a mark shows nothing"
    text = "\n".join(fault.render() for fault in found)
    places = [(Path(f.span.source.path).name, f.span.line, f.code) for f in found]
    assert sorted(places) == [mark[:3] for mark in expected], text
    for file, line, code, part in expected:
        here = [f for f, place in zip(found, places, strict=True) if place == (file, line, code)]
        assert any(part in fault.message for fault in here), f"{part!r} is not said in\n{text}"


def test_there_are_enough() -> None:
    assert sum(1 for _ in _HERE.glob("*.net")) >= 60


@pytest.mark.parametrize(
    "name",
    ["residual", "field_unknown", "in_a_block", "include_faulty", "share", "bottom_later",
     "sibling_field", "block_cycle", "let_twice", "window"],
)  # fmt: skip
def test_text(
    name: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user reads, whole: the two examples of the design are the first two."""
    monkeypatch.chdir(_HERE)
    shown = "\n".join(fault.render() for fault in faults(Path(f"{name}.net")))
    golden(f"errors/{name}.txt", re.sub(r" *# E: .*", "", shown) + "\n")


def test_many_faults_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.net"
    path.write_text('input "data" { shape: 8 }\n' + "".join(f"oops{i}\n" for i in range(30)))
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert len(caught.value.faults) == 20
    assert str(caught.value).endswith("… and 10 more errors")


INPUT = 'input "data" { shape: 8 }\n'
LIMITS = {
    "nesting": ("a " + "{ " * 65 + "} " * 65, "nested more than 64 deep"),
    "layers": (INPUT + "repeat 20000 { relu }", "more than 20,000 layers"),
    "steps": (INPUT + "repeat 1000000000 {}", "more than 600,000 steps"),
    "digits": (INPUT + "fc { num_output: 1234567890123456789 }", "18 digits"),
    "digits of a result": (INPUT + "fc { num_output: 999999999999 * 999999999 }", "18 digits"),
    "characters of a float": (
        INPUT + "dropout { dropout_ratio: 0." + "1" * 40 + " }",
        "40 characters",
    ),
    "values": (
        INPUT + "fc { num_output: 2147483647 } fc { num_output: 2147483647 }",
        "2^40 values",
    ),
    "axes": (f'input "x" {{ shape: [{"1, " * 32}1] }} relu', "34 axes: at most 32"),
    "a name": (INPUT + f'relu "{"x" * 129}"', "at most 128 characters, not 129"),
    "the name of the net": (f'name: "{"x" * 129}"\n' + INPUT + "relu", "128 at most"),
    "expansions": (
        INPUT + "".join(f"block b{i}() {{ b{i + 1}() }}\n" for i in range(200)) + "b0()",
        "nested more than 128 deep",
    ),
    "levels of an expression": (INPUT + "fc { num_output: 1" + " + 1" * 200 + " }", "200 levels"),
}


@pytest.mark.parametrize(("text", "says"), LIMITS.values(), ids=LIMITS)
def test_limits(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text(text)
    (fault,) = faults(path)
    assert says in fault.message


def test_the_longest_text(tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    for name in ("x", "blocks"):
        (tmp_path / f"{name}.net").write_text("#" * (2**20 + 1))
    with pytest.raises(NetspecError, match="at most 1 MiB of text"):
        read(str(path))
    path.write_text('include "blocks.net"\n' + INPUT + "relu")
    (fault,) = faults(path)
    assert (fault.code, "at most 1 MiB" in fault.message) == ("include", True)
    (tmp_path / "blocks.net").write_text("#" * 2**20)
    (fault,) = faults(path)
    assert "a spec with its includes has at most 1 MiB" in fault.message
