"""`netspec show`: pictures as files, whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

Netspec = Callable[..., Any]


def test_svg_and_html(netspec: Netspec, tmp_path: Path) -> None:
    for name in ("net.svg", "net.html"):
        done = netspec("show", "googlenet", "-o", tmp_path / name)
        assert done.code == 0, done.err
        assert "146 nodes" in done.out
    svg = (tmp_path / "net.svg").read_text()
    assert ElementTree.fromstring(svg).get("viewBox")
    page = (tmp_path / "net.html").read_text()
    assert svg in page
    assert "http:" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_fold_and_phase(netspec: Netspec, tmp_path: Path) -> None:
    file = tmp_path / "net.svg"
    train = netspec("show", "googlenet", "--phase", "TRAIN", "-o", file)
    assert "164 nodes" in train.out
    folded = netspec("show", "googlenet", "--fold", "-o", file)
    assert "26 nodes, 12 of them folded blocks" in folded.out
    assert netspec("show", "googlenet", "--depth", "2", "-o", file).code == 0


def test_the_name_comes_from_the_spec(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert netspec("show", "lenet").code == 0
    assert (tmp_path / "lenet.svg").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "net.pdf"], 2, "a picture is .svg or .html"),
        (["-o", "none/net.svg"], 1, "cannot be written"),
        (["--fold", "--depth", "2"], 2, "one of them is enough"),
    ],
)
def test_refuses(
    netspec: Netspec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = netspec("show", "lenet", *words)
    assert refused.code == code
    assert said in refused.err
    assert not list(tmp_path.iterdir())


def test_a_net_too_large_leaves_the_old_picture(netspec: Netspec, tmp_path: Path) -> None:
    spec, out = tmp_path / "big.net", tmp_path / "big.svg"
    spec.write_text('input "x" { shape: 4 }\nblock b() { repeat 600 { relu } }\nb() b()')
    out.write_text("old")
    refused = netspec("show", spec, "-o", out)
    assert refused.code == 2
    assert "holds 1,000 nodes" in refused.err
    assert out.read_text() == "old"
    assert netspec("show", spec, "-o", out, "--fold").code == 0


def test_a_faulty_spec_writes_nothing(netspec: Netspec, tmp_path: Path) -> None:
    spec = tmp_path / "x.net"
    spec.write_text('input "x" { shape: 4 }\nfc { }')
    assert netspec("show", spec, "-o", tmp_path / "x.svg").code == 1
    assert not (tmp_path / "x.svg").exists()


def test_without_graphviz(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    refused = netspec("show", "lenet", "-o", tmp_path / "x.svg")
    assert refused.code == 2
    assert "laid out by Graphviz; pip install netspec[draw]" in refused.err
    assert not (tmp_path / "x.svg").exists()
