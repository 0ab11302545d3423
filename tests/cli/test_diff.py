"""`netspec diff`: what changed, matched by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Netspec = Callable[..., Any]
BEFORE = """
name: "a"
input "data" { shape: 3x8x8 }
conv "c" { num_output: 4  kernel_size: 3 }
relu "r"
fc "out" { num_output: 10 }
softmax_loss "loss"
"""
AFTER = """
name: "b"
input "data" { shape: 3x8x8 }
conv "c" { num_output: 8  kernel_size: 3  bias_term: false }
batch_norm "norm"
fc "out" { num_output: 10 }
softmax_loss "loss"
"""


@pytest.fixture
def specs(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "before.net", tmp_path / "after.net"
    for path, text in zip(paths, (BEFORE, AFTER), strict=True):
        path.write_text(text)
    return paths


def test_json(netspec: Netspec, specs: tuple[Path, Path]) -> None:
    result = netspec("diff", *specs, "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert (report["version"], report["same"], report["inputs"]) == (1, False, [])
    assert [report[side]["name"] for side in ("before", "after")] == ["a", "b"]
    assert [layer["name"] for layer in report["removed"]] == ["r"]
    assert report["added"] == [{"name": "norm", "type": "batch_norm", "parameters": 16, "macs": 0}]
    changed = {
        entry["name"]: {c["what"]: (c["before"], c["after"]) for c in entry["changes"]}
        for entry in report["changed"]
    }
    assert changed == {
        "c": {
            "output": ([[4, 6, 6]], [[8, 6, 6]]),
            "parameters": (4 * 27 + 4, 8 * 27),
            "macs": (4 * 36 * 27, 8 * 36 * 27),
            "num_output": (4, 8),
            "bias_term": (None, False),
        },
        "out": {
            "parameters": (144 * 10 + 10, 288 * 10 + 10),
            "macs": (1_440, 2_880),
        },
    }
    totals = {change["what"]: (change["before"], change["after"]) for change in report["totals"]}
    assert totals["parameters"] == (1_562, 3_122)
    assert totals["statistics"] == (0, 16)
    assert "layers" not in totals


def test_text(netspec: Netspec, specs: tuple[Path, Path]) -> None:
    lines = [line.split() for line in netspec("diff", *specs).out.splitlines()]
    assert ["-", "r", "relu", "nothing"] in lines
    assert ["+", "norm", "batch_norm", "16", "parameters"] in lines
    assert ["~", "c", "output", "4x6x6", "8x6x6"] in lines
    assert ["parameters", "1,562", "3,122", "+1,560", "(+99.9%)"] in lines


def test_the_same(netspec: Netspec) -> None:
    result = netspec("diff", "lenet", "lenet")
    assert (result.code, result.out) == (0, "lenet and lenet are the same\n")
    assert netspec("diff", "lenet", "lenet", "--json").json["same"] is True


def test_set_is_for_the_second(netspec: Netspec) -> None:
    report = netspec("diff", "resnet18", "resnet18", "--set", "width=32", "--json").json
    totals = {change["what"]: change for change in report["totals"]}
    assert totals["parameters"]["before"] == 11_689_512
    assert totals["parameters"]["after"] < 11_689_512 / 3
    assert (report["added"], report["removed"]) == ([], [])


def test_other_inputs_are_told_and_compared(netspec: Netspec) -> None:
    result = netspec("diff", "lenet", "lenet5")
    assert result.code == 0
    assert result.out.startswith("the inputs are not the same: data\n")
    assert ["~", "input", "data", "1x28x28", "1x32x32"] in [
        line.split() for line in result.out.splitlines()
    ]
    (change,) = netspec("diff", "lenet", "lenet5", "--json").json["inputs"]
    assert change == {"what": "data", "before": [1, 28, 28], "after": [1, 32, 32]}


def test_faults(netspec: Netspec, tmp_path: Path) -> None:
    faulty = tmp_path / "x.net"
    faulty.write_text("relo")
    assert netspec("diff", "lenet", faulty).code == 1
    assert netspec("diff", "lenet").code == 2
    assert netspec("diff", "lenet", "lennet").code == 2
