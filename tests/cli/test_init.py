"""`netspec init`: what it writes checks at once, trains when data is given, and spares files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec import zoo

Netspec = Callable[..., Any]


@pytest.mark.parametrize("origin", zoo.names())
def test_checks_at_once_and_is_formatted(netspec: Netspec, tmp_path: Path, origin: str) -> None:
    assert netspec("init", "mine", "--from", origin, "-o", tmp_path).code == 0
    file = tmp_path / "mine.net"
    checked = netspec("check", file, "--json")
    assert checked.code == 0, checked.out
    assert checked.json["name"] == "mine"
    original = netspec("check", origin, "--json").json["totals"]
    assert checked.json["totals"]["parameters"] == original["parameters"]
    assert netspec("fmt", "--check", file).code == 0
    assert file.read_text().splitlines()[0].startswith("#")


def test_trains_if_data_is_given(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert netspec("init", "small").code == 0
    trained = netspec("train", "small.net", "--set", "solver.max_iter=3", "--device", "cpu")
    assert trained.code == 0, trained.err


def test_brings_data_and_solver_where_there_are_none(netspec: Netspec, tmp_path: Path) -> None:
    netspec("init", "mine", "--from", "resnet18", "-o", tmp_path)
    text = (tmp_path / "mine.net").read_text()
    assert 'data "train" { source: "data"' in text
    assert "solver {" in text
    said = netspec("train", tmp_path / "mine.net", "--runs", tmp_path / "runs")
    assert said.code == 1
    assert "no such file or folder; a source is" in said.err


def test_keeps_what_is_there(netspec: Netspec, tmp_path: Path) -> None:
    file = tmp_path / "mine.net"
    file.write_text("mine")
    refused = netspec("init", "mine", "-o", tmp_path)
    assert refused.code == 2
    assert "is there already, and stays as it is" in refused.err
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", 'a"b', "a\nb", ".net", "a" * 129])
def test_refuses_names_that_are_none(netspec: Netspec, tmp_path: Path, name: str) -> None:
    assert netspec("init", name, "-o", tmp_path).code == 2
    assert not list(tmp_path.iterdir())


def test_suggests_a_spec(netspec: Netspec, tmp_path: Path) -> None:
    refused = netspec("init", "mine", "--from", "resnet81", "-o", tmp_path)
    assert refused.code == 2
    assert "did you mean `resnet18`?" in refused.err


def test_a_folder_that_is_not_there(netspec: Netspec, tmp_path: Path) -> None:
    refused = netspec("init", "mine", "-o", tmp_path / "none")
    assert refused.code == 1
    assert "cannot be written" in refused.err
