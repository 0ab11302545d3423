"""Faults and lints as SARIF 2.1.0, which code scanning and editors read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from netspec.diagnostics import Diagnostics, Span, SpecError, printable
from netspec.library import ZOO
from netspec.version import __version__

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif_log(found: Diagnostics, failure: tuple[str, str] | None = None) -> dict[str, Any]:
    """One run with a result for each fault and lint, and a rule for each code among them.

    `failure` is (file, message) of a spec that could not be read at all.
    """
    results = [
        *(_result(fault, "error") for fault in found.errors),
        *(_result(lint, "warning") for lint in found.warnings),
    ]
    if failure is not None:
        results.append(_unreadable(*failure))
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(result["ruleId"] for result in results)},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }


def _driver(codes: Iterable[str]) -> dict[str, Any]:
    return {
        "name": "netspec",
        "semanticVersion": __version__,
        "rules": [{"id": code, "name": code} for code in sorted(set(codes))],
    }


def _result(fault: SpecError, level: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": fault.code,
        "level": level,
        "message": {"text": _sentences(fault)},
        "locations": [{"physicalLocation": _location(fault.span)}],
    }
    if fault.trail:
        result["relatedLocations"] = [
            {"physicalLocation": _location(span), "message": {"text": printable(label)}}
            for label, span in fault.trail
        ]
    return result


def _unreadable(file: str, message: str) -> dict[str, Any]:
    return {
        "ruleId": "file",
        "level": "error",
        "message": {"text": printable(message)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(file)}}}],
    }


def _sentences(fault: SpecError) -> str:
    """The message, what led to it, and the answer, a line each."""
    return "\n".join([fault.message, *fault.notes, *([fault.hint] if fault.hint else [])])


def _location(span: Span) -> dict[str, Any]:
    """Lines and columns from 1; the end is the column after the last one."""
    end_line, end_column = span.source.position(span.end)
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": end_line,
        "endColumn": end_column,
    }
    return {"artifactLocation": {"uri": _uri(span.source.path)}, "region": region}


def _uri(path: str) -> str:
    """Relative to where the command ran if it is; a bundled spec has a scheme of its own."""
    if path.startswith(ZOO):
        return ZOO + quote(path.removeprefix(ZOO))
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())
