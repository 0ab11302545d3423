"""The options that say how a spec is read reach the reading, whatever the verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from netspec.cli import cli

Netspec = Callable[..., Any]

MORE = {
    "diff": ["lenet"],
    "features": ["--layer", "ip1", "--weights", "none.npz"],
    "test": ["--weights", "none.npz"],
}
"""What a verb needs beside a spec."""


def taking(option: str, group: click.Group = cli, *path: str) -> Iterator[tuple[str, ...]]:
    """The verbs that have an option."""
    context = click.Context(group)
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        if isinstance(verb, click.Group):
            yield from taking(option, verb, *path, name)
        elif verb and option in {word for found in verb.params for word in found.opts}:
            yield *path, name


@pytest.mark.parametrize("verb", [*taking("--set")], ids=" ".join)
def test_overrides_are_heard(verb: tuple[str, ...], netspec: Netspec) -> None:
    result = netspec(*verb, "lenet", *MORE.get(verb[-1], ()), "--set", "nothing=1")
    assert (result.code, result.out) == (2, "")
    assert result.err == "--set nothing: the spec has no top-level `let nothing`\n"


@pytest.mark.parametrize("verb", [*taking("-I")], ids=" ".join)
def test_folders_of_includes_are_looked_in(
    verb: tuple[str, ...], netspec: Netspec, tmp_path: Path
) -> None:
    """The included file is there, and at fault."""
    apart = tmp_path / "apart"
    apart.mkdir()
    (apart / "blocks.net").write_text("let width =\n")
    spec = tmp_path / "net.net"
    spec.write_text('include "blocks.net"\ninput "data" { shape: 1x8x8 }\nrelu\n')
    result = netspec(*verb, spec, *MORE.get(verb[-1], ()), "-I", apart)
    assert (result.code, result.out) == (1, "")
    assert "blocks.net:" in result.err
    assert "error[syntax]" in result.err


CAFFE = [verb for verb in taking("--set") if verb in {*taking("--stage")}]
"""Those that read a spec or a Caffe file; `upgrade` takes Caffe's alone."""


@pytest.mark.parametrize("verb", CAFFE, ids=" ".join)
def test_wishes_for_caffe_s_files_are_heard(verb: tuple[str, ...], netspec: Netspec) -> None:
    result = netspec(*verb, "lenet", *MORE.get(verb[-1], ()), "--stage", "a,b")
    assert (result.code, result.out) == (2, "")
    assert "is no Caffe file, and has no levels, stages or unknown shapes" in result.err
