"""`netspec check --json`: the contract with other programs, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netspec.cli import main

WRONG = """input "data" { shape: 3x32x32 }
conv "conv1" { num_outputs: 20  kernel_size: 5 }
fc { num_output: 1 / 0 }
"""


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what stands on stdout, and stderr."""
    code = main(["check", *arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_a_right_spec(capsys: pytest.CaptureFixture[str]) -> None:
    code, report, err = check(capsys, "lenet", "--batch", "10")
    assert (code, err) == (0, "")
    assert {"version", "name", "phase", "batch", "layers", "totals", "errors", "warnings"} <= set(
        report
    )
    assert (report["version"], report["name"], report["phase"], report["batch"]) == (
        1,
        "LeNet",
        "TEST",
        10,
    )
    assert report["errors"] == []
    conv = next(layer for layer in report["layers"] if layer["name"] == "conv1")
    assert conv["type"] == "conv"
    assert conv["tops"] == [{"name": "conv1", "shape": [20, 24, 24]}]
    assert (conv["parameters"], conv["macs"]) == (520, 288_000)
    totals = report["totals"]
    assert (totals["parameters"], totals["macs"], totals["flops"]) == (
        431_080,
        2_293_000,
        4_586_000,
    )
    assert totals["parameters"] == sum(layer["parameters"] for layer in report["layers"])
    assert totals["activations"] == sum(layer["activations"] for layer in report["layers"])


def test_phases(capsys: pytest.CaptureFixture[str]) -> None:
    _, report, _ = check(capsys, "googlenet", "--phase", "TRAIN")
    assert (report["phase"], report["totals"]["parameters"]) == ("TRAIN", 13_378_280)


def test_a_wrong_spec(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.net"
    path.write_text(WRONG)
    code, report, err = check(capsys, str(path))
    assert (code, err) == (1, "")
    assert {"version", "name", "phase", "batch", "layers", "totals", "errors", "warnings"} <= set(
        report
    )
    assert report["version"] == 1
    assert report["layers"] == []
    found = [(e["code"], e["file"], e["line"], e["column"]) for e in report["errors"]]
    assert found == [("field", str(path), 2, 16), ("value", str(path), 3, 18)]
    assert "did you mean `num_output`?" in report["errors"][0]["message"]


@pytest.mark.parametrize("text", ["", "{", "relu {", '"', "relu", "\x00"])
def test_what_is_no_spec_is_an_object_too(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.net"
    path.write_text(text)
    code, report, _ = check(capsys, str(path))
    assert code == 1
    assert report["errors"]


def test_exit_codes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.net"
    path.write_text(WRONG)
    assert main(["check", "lenet"]) == 0
    assert main(["check", str(path)]) == 1
    assert main(["check", "no_such_spec"]) == 2
    assert main(["check", "lenet", "--set", "nothing=3"]) == 2
    assert main(["check", "lenet", "--batch", "0"]) == 2
    assert main(["check"]) == 2
    assert main(["check", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
