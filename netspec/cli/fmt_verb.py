"""`netspec fmt`: the one style for specs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from netspec.diagnostics import Source
from netspec.files import write_file
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.library import Library


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
def command(files: tuple[Path, ...], check: bool) -> int:
    """Format FILES in place; `-` formats standard input to standard output."""
    changed = 0
    for path in files:
        if str(path) == "-":
            click.echo(to_text(parse(Source("<stdin>", sys.stdin.read()))), nl=False)
            continue
        source = Library(path.parent).open(path, str(path))
        formatted = to_text(parse(source))
        if formatted == source.text:
            continue
        changed += 1
        if check:
            click.echo(f"{path}: would be formatted", err=True)
        else:
            write_file(path, formatted.encode())
            click.echo(f"{path}: formatted", err=True)
    return 1 if check and changed else 0
