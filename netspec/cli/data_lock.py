"""`netspec data lock`: what the files of a source are, so that it is noticed when they change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from netspec.cli import options
from netspec.cli.sections import WORD, Asked, asked
from netspec.data import manifest_for
from netspec.data.manifest import Manifest
from netspec.diagnostics import UsageError, printable
from netspec.files import write_durably
from netspec.report.columns import bytes_text
from netspec.report.json import VERSION
from netspec.wording import counted


@click.command("lock")
@WORD
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the manifest there.  [default: <source>.lock, where it is found by itself]",
)  # fmt: skip
@options.JSON
def command(source: str, out: Path | None, as_json: bool) -> int:
    """Write size and sha256 of every file of a source, or of those that SPEC names.

    From then on what is read is compared with it: a file that changed, is missing or has come is an
    error. A manifest elsewhere is named by the section's field `manifest`.
    """
    places = _places(asked(source))
    if out is not None and len(places) > 1:
        raise UsageError(f"{source} names {len(places)} sources: one manifest each, without -o")
    written = [_written(asking, out) for asking in places.values()]
    if as_json:
        options.print_json({"version": VERSION, "manifests": [*map(_facts, written)]})
        return 0
    for manifest in written:
        facts = f"{counted(len(manifest.entries), 'file')}, {bytes_text(manifest.size)}"
        click.echo(f"{printable(str(manifest.path))}: {facts}")
    return 0


def _written(asking: Asked, out: Path | None) -> Manifest:
    found, text = manifest_for(asking.section, asking.base)
    path = out or found.path
    write_durably(path, [text.encode()])
    return replace(found, path=path)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "manifest": str(manifest.path),
        "files": len(manifest.entries),
        "bytes": manifest.size,
        "sha256": manifest.digest,
    }


def _places(found: list[Asked]) -> dict[Path, Asked]:
    """One section for each source; its manifest tells of all splits."""
    return {asking.base / asking.section.source: asking for asking in reversed(found)}
