"""Reports as versioned JSON: the contract with other programs.

`netspec check --json` prints one object; `check.schema.json` beside this file is its JSON Schema:

- `version`, `name`, `phase`, `batch`;
- `layers`: one object per layer, or per block with `--depth`, with every column of
  `report.columns` by its key, and its edges: `bottoms`, and `tops` with `name` and `shape`; shapes
  are without the batch;
- `totals`: null for a faulty spec, else numbers for one input and bytes at the batch, by the names
  that `--assert` knows; `training` holds the parts of `training_memory`, null without a loss, and
  `exact`, whether they were counted on the operators of the step or estimated from the blobs, and
  `shards`, in how many parts a batch is computed;
- `budgets`: each `--assert`, whether it holds, the totals it reads and the layers that cost most;
- `errors` and `warnings`: `code`, `file`, `line`, `column`, `message`, `notes`, `hint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from netspec.diagnostics import Diagnostics, SpecError
from netspec.ir.analysis import Cost, LayerCost
from netspec.ir.net import Net
from netspec.report.budget import Budget
from netspec.report.columns import COLUMNS
from netspec.report.summary import Summary

VERSION = 1
"""Raised when a field changes its meaning or goes; new fields may come at any time."""


def check_report(
    summary: Summary, layers: Cost, budgets: Sequence[Budget], diagnostics: Diagnostics
) -> dict[str, Any]:
    """What `netspec check --json` prints of a right spec; `layers` are the rows to show."""
    training = summary.training
    return {
        "version": VERSION,
        "name": summary.name,
        "phase": summary.phase,
        "batch": summary.cost.batch,
        "layers": [_layer(layer, layers) for layer in layers.layers],
        "totals": {**summary.totals, "training": asdict(training) if training else None},
        "budgets": [budget.as_data() for budget in budgets],
        "errors": [],
        "warnings": faults(diagnostics.warnings),
    }


def faulty_report(
    phase: str,
    batch: int | None,
    errors: Sequence[dict[str, Any]],
    warnings: Sequence[SpecError] = (),
) -> dict[str, Any]:
    """What it prints of a faulty spec: no layers and no totals."""
    return {
        "version": VERSION,
        "name": None,
        "phase": phase,
        "batch": batch,
        "layers": [],
        "totals": None,
        "budgets": [],
        "errors": list(errors),
        "warnings": faults(warnings),
    }


def unreadable(file: str, message: str) -> dict[str, Any]:
    """A fault of a whole file, as plain data: there is no line to point at."""
    place = {"code": "file", "file": file, "line": None, "column": None}
    return {**place, "message": message, "notes": [], "hint": None}


def faults(found: Sequence[SpecError]) -> list[dict[str, Any]]:
    """Faults or lints as plain data."""
    return [
        {
            "code": fault.code,
            "file": fault.span.source.path,
            "line": fault.span.line,
            "column": fault.span.column,
            "message": fault.message,
            "notes": list(fault.notes),
            "hint": fault.hint,
        }
        for fault in found
    ]


def _layer(layer: LayerCost, cost: Cost) -> dict[str, Any]:
    return {
        **{key: column.value(layer, cost) for key, column in COLUMNS.items()},
        "bottoms": list(layer.bottoms),
        "tops": [{"name": name, "shape": list(shape)} for name, shape in layer.tops],
    }


def net_report(net: Net) -> dict[str, Any]:
    """A net as plain data: its layers with their fields, bottoms, tops and weights."""
    return {"version": VERSION, **net.model_dump(mode="json")}
