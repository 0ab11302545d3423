"""Reports as versioned JSON: the contract with other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netspec.diagnostics import Diagnostics, SpecError
from netspec.ir.analysis import Cost, LayerCost
from netspec.ir.net import Net

VERSION = 1
"""Raised when a field changes its meaning or goes; new fields may come at any time."""


def check_report(
    name: str | None,
    phase: str,
    batch: int | None,
    cost: Cost | None,
    training_memory: int | None,
    diagnostics: Diagnostics,
) -> dict[str, Any]:
    """What `netspec check --json` prints; a faulty spec has no layers and no totals."""
    return {
        "version": VERSION,
        "name": name,
        "phase": phase,
        "batch": batch,
        "layers": [_layer(layer) for layer in cost.layers] if cost else [],
        "totals": _totals(cost, training_memory) if cost else None,
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


def _layer(layer: LayerCost) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "tops": [{"name": name, "shape": list(shape)} for name, shape in layer.tops],
        "parameters": layer.parameters,
        "macs": layer.macs,
        "activations": layer.activations,
        "activation_bytes": layer.activation_bytes,
    }


def _totals(cost: Cost, training_memory: int | None) -> dict[str, Any]:
    return {
        "parameters": cost.parameters,
        "trained": cost.trained,
        "frozen": cost.frozen,
        "statistics": cost.statistics,
        "macs": cost.macs,
        "flops": cost.flops,
        "activations": cost.activations,
        "activation_bytes": cost.activation_bytes,
        "forward_memory": cost.forward_bytes,
        "training_memory": training_memory,
    }


def net_report(net: Net) -> dict[str, Any]:
    """A net as plain data: its layers with their fields, bottoms, tops and weights."""
    return {"version": VERSION, **net.model_dump(mode="json")}
