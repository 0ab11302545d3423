"""`netspec check`: the table, the JSON contract, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec import zoo

Netspec = Callable[..., Any]
FAULTY = """
input "data" { shape: 1x28x28 }
conv { num_outputs: 20  kernel_size: 5 }
fc { num_output: 10 }
poool
"""


def test_table(netspec: Netspec) -> None:
    result = netspec("check", "lenet")
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].split() == ["layer", "type", "top", "parameters", "MACs", "activations"]
    assert lines[2].split() == ["conv1", "conv", "20x24x24", "520", "288,000", "4.39", "MiB"]
    assert "LeNet, phase TEST, batch 100" in lines
    assert [line.split()[1] for line in lines if line.startswith("parameters")] == ["431,080"]
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("name", zoo.names())
def test_json(name: str, netspec: Netspec) -> None:
    result = netspec("check", name, "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert list(report) == [
        "version", "name", "phase", "batch", "layers", "totals", "errors", "warnings",
    ]  # fmt: skip
    assert report["version"] == 1
    assert report["phase"] == "TEST"
    assert report["errors"] == []
    for layer in report["layers"]:
        assert {"name", "type", "tops", "parameters", "macs"} <= layer.keys()
        for top in layer["tops"]:
            assert isinstance(top["name"], str)
            assert all(isinstance(n, int) for n in top["shape"])
    totals = report["totals"]
    assert totals["flops"] == 2 * totals["macs"]
    assert totals["parameters"] == sum(layer["parameters"] for layer in report["layers"])
    assert totals["macs"] == sum(layer["macs"] for layer in report["layers"])
    assert totals["trained"] + totals["frozen"] == totals["parameters"]
    if not name.startswith("inception_"):  # a part of a network, without a loss
        assert totals["training_memory"] > totals["forward_memory"] / report["batch"]


def test_batch_and_sets(netspec: Netspec) -> None:
    one = netspec("check", "resnet18", "--json").json
    many = netspec("check", "resnet18", "--batch", "8", "--set", "width=32", "--json").json
    assert (one["batch"], many["batch"]) == (1, 8)
    assert many["totals"]["macs"] < one["totals"]["macs"] / 3
    assert many["layers"][1]["tops"][0]["shape"] == [32, 112, 112]


def test_errors_as_json(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "faulty.net"
    path.write_text(FAULTY)
    result = netspec("check", path, "--json")
    assert (result.code, result.err) == (1, "")
    report = result.json
    assert report["version"] == 1
    assert report["layers"] == []
    assert report["totals"] is None
    assert len(report["errors"]) >= 2
    for error in report["errors"]:
        assert {"code", "file", "line", "column", "message"} <= error.keys()
    first = report["errors"][0]
    assert (first["code"], first["line"], first["column"]) == ("field", 3, 8)
    assert (first["file"], "did you mean `num_output`?" in first["message"]) == (str(path), True)
    said = netspec("check", path)
    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith(f"{path}:3:8: error[field]: conv has no field `num_outputs`")


def test_lints_as_json(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "lint.net"
    path.write_text(
        'input "data" { shape: 1x28x28 }\nconv { num_output: 2  kernel_size: 3  stride: 2 }'
    )
    result = netspec("check", path, "--json")
    assert (result.code, result.err) == (0, "")
    assert [warning["line"] for warning in result.json["warnings"]] == [2]
    assert "warning[" in netspec("check", path).err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"#" * (2**20 + 1), "a spec has at most 1 MiB of text"),
    ],
)
def test_unreadable_files_as_json(
    content: bytes, said: str, netspec: Netspec, tmp_path: Path
) -> None:
    path = tmp_path / "x.net"
    path.write_bytes(content)
    result = netspec("check", path, "--json")
    assert result.code == 1
    (error,) = result.json["errors"]
    assert (error["file"], error["line"], error["column"]) == (str(path), None, None)
    assert error["message"].endswith(said)
    plain = netspec("check", path)
    assert (plain.code, plain.out) == (1, "")
    assert plain.err.endswith(f"{said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lennet"], "there is no file `lennet`, nor a bundled spec of that name; did you mean"),
        (["lenet", "--set", "x"], "--set takes name=value, not `x`"),
        (["resnet18", "--set", "widht=3"], "has no top-level `let widht`; did you mean `width`?"),
        (["lenet", "--phase", "train"], "'train' is not one of 'TEST', 'TRAIN'"),
        (["lenet", "--batch", "0"], "0 is not in the range"),
        (["lenet", "--btach", "2"], "No such option"),
        ([], "Missing argument 'SPEC'"),
    ],
)  # fmt: skip
def test_usage(words: list[str], said: str, netspec: Netspec) -> None:
    result = netspec("check", *words)
    assert (result.code, result.out) == (2, "")
    assert said in " ".join(result.err.split())


def test_a_folder_hides_no_spec(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lenet", "other"):
        (tmp_path / name).mkdir()
    assert netspec("check", "lenet").code == 0
    assert netspec("check", "other").code == 1


def test_imports_nothing_heavy() -> None:
    script = """
import sys
from netspec.cli import main
assert main(["check", "resnet18"]) == 0
heavy = {"numpy", "onnx", "onnxruntime", "PIL", "rich", "safetensors"} & sys.modules.keys()
assert not heavy, heavy
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
