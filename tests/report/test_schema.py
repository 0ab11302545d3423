"""`check --json` is what `check.schema.json` says."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from netspec import zoo
from netspec.cli import main
from netspec.ir.layer import Layer
from netspec.layers import LAYERS
from netspec.report.columns import COLUMNS

SCHEMA = json.loads(files("netspec.report").joinpath("check.schema.json").read_text("utf-8"))
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
         "number": (int, float), "null": type(None)}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Where a value is not what a schema of the words used here says."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = [k for k in kinds if isinstance(value, KINDS[k])]
    if kinds and (not fits or (isinstance(value, bool) and "boolean" not in kinds)):
        return [f"{path}: {value!r} is no {kinds}"]
    if "const" in schema and value != schema["const"]:
        return [f"{path}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is not among {schema['enum']}"]
    found = []
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += faults(item, schema["items"], f"{path}[{i}]")
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema["additionalProperties"]
        found += [
            f"{path}: {key} is missing" for key in schema.get("required", ()) if key not in value
        ]
        for key, item in value.items():
            if key in known or isinstance(more, dict):
                found += faults(item, known.get(key, more), f"{path}.{key}")
            else:
                found.append(f"{path}: {key} is not known")
    return found


def report(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    main(["check", *words, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", zoo.names())
def test_specs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(report(capsys, name, "--estimate"), SCHEMA) == []


@pytest.mark.parametrize(
    "words",
    [
        ["lenet", "--memory", "1GiB", "--assert", "parameters < 1 or train_memory < 1"],
        ["googlenet", "--depth", "1", "--phase", "TRAIN"],
        ["lenet", "--dtype", "float16", "--sort", "macs"],
    ],
)
def test_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(report(capsys, *words), SCHEMA) == []


@pytest.mark.parametrize(
    "text",
    [
        "relo",
        'input "data" { shape: 4 }\nfc { num_output: 3 }',
        'input "data" { shape: 1x8x8 }\nconv { num_output: 2  kernel_size: 3  stride: 2 }',
    ],
)
def test_faulty_and_small_specs(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.net"
    path.write_text(text)
    assert faults(report(capsys, str(path)), SCHEMA) == []


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_layer_is_counted_by_what_it_declares(
    layer: type[Layer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "example.net"
    path.write_text(dedent(layer.example))
    for phase in ("TEST", "TRAIN"):
        found = report(capsys, str(path), "--phase", phase)
        assert faults(found, SCHEMA) == []
        for row in found["layers"]:
            assert min(v for v in row.values() if isinstance(v, int)) >= 0
            assert row["backward_macs"] <= 2 * row["macs"]


def test_columns_are_described_as_the_schema_does() -> None:
    layer = SCHEMA["properties"]["layers"]["items"]["properties"]
    assert {key: layer[key]["description"] for key in COLUMNS} == {
        key: column.about for key, column in COLUMNS.items()
    }


def test_a_fault_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = report(capsys, "lenet", "--estimate")
    wrong["layers"][0]["macs"] = "many"
    wrong["totals"].pop("macs")
    wrong["more"] = 1
    assert faults(wrong, SCHEMA) == [
        "$.layers[0].macs: 'many' is no ['integer']",
        "$.totals: macs is missing",
        "$: more is not known",
    ]
