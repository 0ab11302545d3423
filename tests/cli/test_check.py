"""`netspec check`: the table, the JSON contract, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec import zoo
from netspec.compiler import elaborate, read
from netspec.ir.analysis import cost
from netspec.report.columns import DEFAULT, find_columns
from netspec.report.table import check_table

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
    assert lines[0].split() == [
        "layer", "type", "output", "window", "parameters", "MACs", "activations", "field",
    ]  # fmt: skip
    assert lines[2].split() == [
        "conv1", "conv", "20x24x24", "5x5", "520", "288,000", "4.39", "MiB", "5",
    ]  # fmt: skip
    assert "LeNet, phase TEST, batch 100" in lines
    assert [line.split()[1] for line in lines if line.startswith("parameters")] == ["431,080"]
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("name", zoo.names())
def test_json(name: str, netspec: Netspec) -> None:
    result = netspec("check", name, "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert list(report) == [
        "version", "name", "phase", "batch", "layers", "totals", "budgets", "errors", "warnings",
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
        (["lenet", "--set", "solver.max_time=2s"],
         "`2s` is not a value; a text takes quotes: --set 'solver.max_time=\"2s\"'"),
        (["lenet", "--set", "data.train.source=a.b"],
         "`a.b` is a name with parts; a text takes quotes: --set 'data.train.source=\"a.b\"'"),
        (["lenet", "--set", "data.train.source=a.npz"], "--set 'data.train.source=\"a.npz\"'"),
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


@pytest.mark.parametrize(
    ("options", "more"), [(["--estimate"], {"numpy", "onnx"}), (["--exact"], set())]
)
def test_imports_nothing_heavy(options: list[str], more: set[str]) -> None:
    """To count operators takes numpy and onnx; nothing is ever run."""
    script = f"""
import sys
from netspec.cli import main
assert main(["check", "resnet18", *{options}]) == 0
heavy = {{"onnxruntime", "PIL", "rich", "safetensors", *{more}}} & sys.modules.keys()
assert not heavy, heavy
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--columns", "name,maks"], "there is no column `maks`; did you mean `macs`?; there are"),
        (["--columns", "name,,macs"], "--columns takes names with commas between them"),
        (["--sort", "cost"], "there is no column `cost`"),
        (["--depth", "0"], "0 is not in the range"),
        (["--dtype", "int8"], "'int8' is not one of 'float32', 'float16'"),
        (["--optimizer", "Adm"], "'Adm' is not one of"),
        (["--memory", "8 apples"], "`8 apples` is no amount of memory, such as 8GiB"),
        (["--memory", "-1"], "`-1` is no amount of memory"),
        (["--assert", "gates < 5M"], "unknown name `gates`; there are layers, parameters,"),
        (["--assert", "paramters < 5M"], "did you mean `parameters`?; there are layers"),
        (["--assert", "parameters"], "a test must be true or false, not 431080"),
        (["--assert", "parameters <"], "is no test, such as 'parameters < 5M'"),
        (["--assert", "true {} relu when true"], "is no test, such as"),
        (["--assert", "macs < 5Q"], "is no test"),
        (["--assert", "1 < 2"], "reads no total; there are layers, parameters"),
        (["--assert", "macs / 0 < 1"], "division by zero"),
        (["--assert", "largest_batch > 3"], "largest_batch is not known here: it takes --memory"),
    ],
)
def test_usage_of_reports(words: list[str], said: str, netspec: Netspec) -> None:
    result = netspec("check", "lenet", *words)
    assert (result.code, result.out) == (2, "")
    assert said in " ".join(result.err.split())


def test_columns_and_sort(netspec: Netspec) -> None:
    result = netspec("check", "lenet", "--columns", "name,macs,line", "--sort", "macs")
    lines = result.out.splitlines()
    assert lines[0].split() == ["layer", "MACs", "line"]
    assert [line.split()[0] for line in lines[1:5]] == ["conv2", "ip1", "conv1", "ip2"]
    assert lines[1].split() == ["conv2", "1,600,000", "12"]


def test_one_column(netspec: Netspec) -> None:
    assert netspec("check", "lenet", "--columns", "name").out.startswith("layer\ndata\nconv1\n")


@pytest.mark.parametrize("name", ["resnet50", "googlenet", "lenet"])
def test_default_columns_fit_a_terminal(name: str) -> None:
    """100 columns: long names lose their beginning, numbers are whole."""
    counted = cost(elaborate(read(name)).test.net)
    lines = list(check_table(counted, find_columns(DEFAULT)).lines(100))
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_depth(depth: int, netspec: Netspec) -> None:
    whole = netspec("check", "resnet20", "--json").json
    report = netspec("check", "resnet20", "--depth", str(depth), "--json").json
    names = [layer["name"] for layer in report["layers"]]
    assert len(set(names)) == len(names)
    assert max(name.count("/") for name in names) < depth
    assert report["totals"] == whole["totals"]
    for key in ("parameters", "macs", "activations", "activation_bytes", "kept_bytes", "units"):
        folded, single = ([layer[key] for layer in r["layers"]] for r in (report, whole))
        assert sum(folded) == sum(single)


def test_a_block_is_a_row(netspec: Netspec) -> None:
    report = netspec("check", "resnet20", "--depth", "1", "--json").json
    (stage,) = [layer for layer in report["layers"] if layer["name"] == "stage2"]
    assert (stage["type"], stage["output"], stage["bottoms"]) == (
        "block", [[32, 16, 16]], ["stage1/basic3/relu1"],
    )  # fmt: skip
    lines = (zoo.folder() / "resnet20.net").read_text().splitlines()
    assert lines[stage["line"] - 1].startswith("stage(")  # where it is expanded


def test_half_precision_and_another_optimizer(netspec: Netspec) -> None:
    half = netspec("check", "lenet", "--dtype", "float16", "--json").json["totals"]
    whole = netspec("check", "lenet", "--estimate", "--json").json["totals"]
    assert 2 * half["activation_bytes"] == whole["activation_bytes"]
    assert (half["parameters"], half["macs"]) == (whole["parameters"], whole["macs"])
    assert half["training"]["exact"] is False
    adam = netspec("check", "lenet", "--optimizer", "Adam", "--estimate", "--json").json["totals"]
    assert adam["training"]["solver"] == 2 * whole["training"]["solver"] == 2 * 4 * 431_080


def test_largest_batch(netspec: Netspec) -> None:
    totals = netspec("check", "resnet20", "--memory", "1GiB", "--json").json["totals"]
    largest = totals["largest_batch"]
    words = ("check", "resnet20", "--json", "--batch")
    fits = netspec(*words, str(largest)).json["totals"]["training_memory"]
    assert 0.97 * 2**30 < fits <= 1.01 * 2**30
    assert netspec("check", "resnet20", "--memory", "1KiB", "--json").json["totals"][
        "largest_batch"
    ] == 0  # fmt: skip
    shown = netspec("check", "resnet20", "--memory", "1GiB").out
    assert f"largest batch {largest} of training in 1.00 GiB" in " ".join(shown.split())


def test_budgets(netspec: Netspec) -> None:
    kept = netspec("check", "lenet", "--assert", "parameters < 5M and macs <= 2293000")
    assert (kept.code, kept.err) == (0, "")
    tests = ["parameters < 400K", "train_memory < 8GiB", "macs < 1.5M"]
    words = [word for test in tests for word in ("--assert", test)]
    result = netspec("check", "lenet", *words)
    assert result.code == 3
    assert "LeNet, phase TEST" in result.out
    assert result.err.splitlines() == [
        "budget exceeded: parameters < 400K: parameters is 431,080",
        "     = most of parameters: ip1 400,500, conv2 25,050, ip2 5,010, conv1 520",
        "budget exceeded: macs < 1.5M: macs is 2,293,000",
        "     = most of macs: conv2 1,600,000, ip1 400,000, conv1 288,000, ip2 5,000",
    ]
    data = netspec("check", "lenet", *words, "--json")
    assert data.code == 3
    budgets = data.json["budgets"]
    assert [budget["holds"] for budget in budgets] == [False, True, False]
    assert budgets[0]["values"] == {"parameters": 431_080}
    assert budgets[0]["largest"]["parameters"][0] == {"layer": "ip1", "value": 400_500}


def test_a_net_without_a_loss_has_no_training(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text('input "data" { shape: 4 }\nfc { num_output: 3 }')
    totals = netspec("check", path, "--json").json["totals"]
    assert (totals["training"], totals["training_memory"]) == (None, None)
    result = netspec("check", path, "--assert", "train_memory < 1GiB")
    assert result.code == 2
    assert "train_memory is not known here: the net has no loss to train" in result.err


def test_what_set_gives_is_shown_as_the_file_would_have_it(netspec: Netspec) -> None:
    err = netspec("check", "lenet", "--set", "solver.base_lr=0").err
    assert "--set:1:10: error[value]: solver: `base_lr` must be above 0, not 0" in err
    assert "  1 | base_lr: 0\n" in err
