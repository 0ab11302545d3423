"""`netspec fmt`: the one style for specs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from netspec.diagnostics import NetspecError, Source, printable
from netspec.files import write_durably
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.library import Library


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
def command(files: tuple[Path, ...], check: bool) -> int:
    """Format FILES in place; `-` formats standard input to standard output."""
    faulty = changed = 0
    for path in files:
        try:
            changed += _standard_input(check) if str(path) == "-" else _file(path, check)
        except NetspecError as error:
            faulty += 1
            click.echo(str(error), err=True)
    return 1 if faulty or (check and changed) else 0


def _standard_input(check: bool) -> bool:
    try:
        source = Source("<stdin>", sys.stdin.buffer.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NetspecError(f"<stdin>: byte {error.start} is not UTF-8") from None
    formatted = to_text(parse(source))
    if not check:
        click.echo(formatted, nl=False)
    elif formatted != source.text:
        click.echo("<stdin>: would be formatted", err=True)
    return formatted != source.text


def _file(path: Path, check: bool) -> bool:
    source = Library(path.parent).open(path, str(path))
    formatted = to_text(parse(source))
    if formatted == source.text:
        return False
    if not check:
        write_durably(path, [formatted.encode()])
    click.echo(f"{printable(str(path))}: {'would be ' * check}formatted", err=True)
    return True
