"""The verbs that only read: `expand`, `fmt`, `layers`, `doctor`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec import zoo
from netspec.ir.sections import Solver
from netspec.layers import LAYERS

Netspec = Callable[..., Any]
UGLY = 'input "data" {shape:1x28x28}\nrelu   {}\n'
NEAT = 'input "data" { shape: 1x28x28 }\nrelu {}\n'


@pytest.mark.parametrize("name", zoo.names())
def test_expand(name: str, netspec: Netspec, tmp_path: Path) -> None:
    result = netspec("expand", name)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("name: ")
    for word in ("block", "repeat", "residual", "inception", "let"):
        assert not [line for line in result.out.splitlines() if line.split()[:1] == [word]]
    flat = tmp_path / "flat.net"
    flat.write_text(result.out)
    totals = [netspec("check", spec, "--json").json["totals"] for spec in (name, flat)]
    assert totals[0] == totals[1]


def test_expand_as_json(netspec: Netspec) -> None:
    report = netspec("expand", "googlenet", "--json").json
    assert report.keys() == {"TRAIN", "TEST"}
    for phase, net in report.items():
        assert (net["version"], net["phase"], net["name"]) == (1, phase, "GoogLeNet")
        node = net["nodes"][1]
        assert {"name", "layer", "bottoms", "tops", "parameters"} <= node.keys()
    assert len(report["TRAIN"]["nodes"]) > len(report["TEST"]["nodes"])


def test_expand_refuses_a_faulty_spec(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text("relo")
    for words in (["expand", path], ["expand", path, "--json"]):
        result = netspec(*words)
        assert (result.code, result.out) == (1, "")
        assert result.err


def test_fmt(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    path.write_text(UGLY)
    result = netspec("fmt", path, "--check")
    assert (result.code, result.err) == (1, f"{path}: would be formatted\n")
    assert path.read_text() == UGLY
    result = netspec("fmt", path)
    assert (result.code, result.err) == (0, f"{path}: formatted\n")
    assert path.read_text() == NEAT
    for words in (["fmt", path], ["fmt", path, "--check"]):
        result = netspec(*words)
        assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")
def test_fmt_keeps_links_and_permissions(netspec: Netspec, tmp_path: Path) -> None:
    path, link = tmp_path / "a.net", tmp_path / "link.net"
    path.write_text(UGLY)
    path.chmod(0o600)
    link.symlink_to(path)
    assert netspec("fmt", link).code == 0
    assert link.is_symlink()
    assert path.read_text() == NEAT
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.net", "link.net"]


def test_fmt_leaves_a_faulty_file_and_does_the_others(netspec: Netspec, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.net", tmp_path / "good.net"
    bad.write_text("relu {{")
    good.write_text(UGLY)
    result = netspec("fmt", bad, good, tmp_path / "none.net")
    assert result.code == 1
    assert result.err.startswith(f"{bad}:1:7: error[syntax]")
    assert "none.net" in result.err
    assert bad.read_text() == "relu {{"
    assert good.read_text() == NEAT


def test_fmt_of_standard_input(process: Netspec) -> None:
    result = process("fmt", "-", input=UGLY)
    assert (result.code, result.out, result.err) == (0, NEAT, "")
    result = process("fmt", "-", "--check", input=UGLY)
    assert (result.code, result.out) == (1, "")
    assert process("fmt", "-", "--check", input=NEAT).code == 0
    for wrong in ("relu {{", b"\xff"):
        result = process("fmt", "-", input=wrong)
        assert (result.code, result.out) == (1, "")
        assert "Traceback" not in result.err
        assert "<stdin>" in result.err


@pytest.mark.parametrize("name", zoo.names())
def test_the_bundled_specs_are_formatted(name: str, netspec: Netspec) -> None:
    assert netspec("fmt", "--check", zoo.find(name)).code == 0


def test_layers(netspec: Netspec) -> None:
    result = netspec("layers")
    assert result.code == 0
    terms = [line.split()[0] for line in result.out.splitlines() if line[0] != " "]
    assert terms == sorted(LAYERS)


@pytest.mark.parametrize("keyword", LAYERS)
def test_each_layer(keyword: str, netspec: Netspec) -> None:
    page = netspec("layers", keyword)
    assert (page.code, page.err) == (0, "")
    assert page.out.split()[0].strip(",") == keyword
    (entry,) = netspec("layers", keyword, "--json").json["layers"]
    assert entry["keyword"] == keyword
    for field in entry["fields"]:
        assert any(line.split()[:1] == [field["name"]] for line in page.out.splitlines())
    assert entry["example"] in page.out


def test_no_such_layer(netspec: Netspec) -> None:
    result = netspec("layers", "pol")
    assert (result.code, result.out) == (2, "")
    assert result.err == "there is no layer type `pol`; did you mean `pool`?\n"


def test_doctor(netspec: Netspec, monkeypatch: pytest.MonkeyPatch) -> None:
    result = netspec("doctor", "--json", "--device", "cpu")
    assert result.code == 0, result.out
    report = result.json
    assert report["version"] == 1
    assert report["training"]["accuracy"] > 0.85
    assert report["fault"] is None
    assert report["cpu"] == "works"
    assert "layout" in report


def test_doctor_without_onnxruntime(process: Netspec, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so is missing')")
    root = Path(__file__).parents[2]
    result = process("doctor", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"})
    assert result.code == 1
    verdict = [line for line in result.out.splitlines() if line.startswith("verdict")]
    assert verdict[0].endswith("ImportError: libcudart.so is missing")


def test_the_solver_has_a_page_too(netspec: Netspec) -> None:
    (entry,) = netspec("layers", "solver", "--json").json["layers"]
    assert [field["name"] for field in entry["fields"]] == list(Solver.model_fields)
    assert all(field["description"].endswith(".") for field in entry["fields"])
    page = netspec("layers", "solver").out
    assert "solver, Caffe's SolverParameter" in page
    assert "number above 0, or -1 for none" in page
