"""Reports as versioned JSON: the contract with other programs.

`netspec check --json` prints one object:

- `version`, `name`, `phase`, `batch`;
- `layers`: one object per layer with every column of `report.columns` by its key, and its edges:
  `bottoms`, and `tops` with `name` and `shape`; shapes are without the batch;
- `totals`: null for a faulty spec, else numbers for one input (`parameters` to `activations`) and
  bytes at the batch; `training` is null for a net without a loss, else the parts of
  `training_memory` and the `batch` they are for; `exact` says whether they were counted on the
  operators of the step or estimated from the net's blobs;
- `errors` and `warnings`: `code`, `file`, `line`, `column`, `message`, `notes`, `hint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from netspec.diagnostics import Diagnostics, SpecError
from netspec.ir.analysis import Cost, LayerCost
from netspec.ir.memory import TrainingMemory
from netspec.ir.net import Net
from netspec.report.columns import COLUMNS

VERSION = 1
"""Raised when a field changes its meaning or goes; new fields may come at any time."""


def check_report(
    name: str | None,
    phase: str,
    batch: int | None,
    cost: Cost | None,
    training: TrainingMemory | None,
    diagnostics: Diagnostics,
) -> dict[str, Any]:
    """What `netspec check --json` prints; a faulty spec has no layers and no totals."""
    return {
        "version": VERSION,
        "name": name,
        "phase": phase,
        "batch": batch,
        "layers": [_layer(layer, cost) for layer in cost.layers] if cost else [],
        "totals": totals(cost, training) if cost else None,
        "errors": faults(diagnostics.errors),
        "warnings": faults(diagnostics.warnings),
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


def totals(cost: Cost, training: TrainingMemory | None) -> dict[str, Any]:
    """What a net costs in all, by the names that `--assert` knows too."""
    return {
        "parameters": cost.parameters,
        "trained": cost.trained,
        "frozen": cost.frozen,
        "statistics": cost.statistics,
        "units": cost.units,
        "connections": cost.connections,
        "macs": cost.macs,
        "flops": cost.flops,
        "backward_macs": cost.backward_macs,
        "activations": cost.activations,
        "activation_bytes": cost.activation_bytes,
        "forward_memory": cost.forward_bytes,
        "caffe_memory": cost.caffe_bytes,
        "training_memory": training.total if training else None,
        "training": asdict(training) if training else None,
    }


def net_report(net: Net) -> dict[str, Any]:
    """A net as plain data: its layers with their fields, bottoms, tops and weights."""
    return {"version": VERSION, **net.model_dump(mode="json")}
