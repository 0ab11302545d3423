"""`netspec init`: a spec of one's own, begun from one of the zoo."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from netspec import zoo
from netspec.cli.spec_for_pictures import spec_for_pictures
from netspec.compiler import elaborate, read
from netspec.diagnostics import UsageError, printable, suggest
from netspec.files import write_durably
from netspec.grammar.ast import Field, Message
from netspec.ir.construction import MAX_NAME
from netspec.ir.net import Net

_DATA = """
# The samples: a folder with an image folder per class, an .npz, IDX files, or `mnist`.
data "train" { source: "data"  batch_size: 32  transform { scale: 1/255 } }
data "test" { source: "data"  batch_size: 32  transform { scale: 1/255 } }
"""

_SOLVER = """
solver {
  type: SGD  base_lr: 0.01  momentum: 0.9  weight_decay: 0.0005
  lr_policy: poly  power: 1
  max_epoch: 10
}
"""


@click.command("init")
@click.argument("name")
@click.option(
    "--from", "origin", metavar="SPEC", help="The bundled spec to begin from.  [default: lenet]",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path),
    help="Begin with a small net for the pictures of a folder or zip, by class.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path(),
    show_default=True, help="The folder to write into.",
)  # fmt: skip
def command(name: str, origin: str | None, data: Path | None, out: Path) -> int:
    """Begin a spec called NAME, as NAME.net: a bundled one, with data and solver to fill in.

    Or, with `--data`, one that trains on the pictures of a folder as it is.
    """
    if not _is_name(name):
        raise UsageError(f"`{printable(name)}` is no name for a spec")
    file = out / f"{name}.net"
    if os.path.lexists(file):
        raise UsageError(f"{printable(str(file))} is there already, and stays as it is")
    if data is not None and origin is not None:
        raise UsageError("--from begins with a bundled net, --data with one for pictures: take one")
    begun = "lenet" if origin is None else origin
    text = _bundled(name, begun) if data is None else spec_for_pictures(name, data, out)
    write_durably(file, [text.encode()])
    shown, word = printable(str(file)), shlex.quote(printable(str(file)))
    what = f"a small ResNet for {data}" if data else f"{begun} under a new name"
    click.echo(f"{shown}: {printable(what)}; `netspec check {word}` counts it")
    return 0


def _bundled(name: str, origin: str) -> str:
    """The text of a bundled spec under another name, with what it lacks to be trained."""
    path = zoo.find(origin)
    if path is None:
        raise UsageError(
            f"there is no bundled spec `{printable(origin)}`{suggest(origin, zoo.names())}"
        )
    spec = read(str(path))
    net = elaborate(spec).train.net
    return renamed(spec.path.read_text("utf-8"), spec.tree, name) + _missing(net)


def _is_name(text: str) -> bool:
    """Whether a spec and its file can be called so."""
    printed = bool(text.strip()) and text.isprintable() and len(text) <= MAX_NAME
    return printed and not set(text) & set('/\\"') and not text.startswith((".", "-"))


def renamed(text: str, tree: Message, name: str) -> str:
    """The text with its `name` field changed; with one on top if it had none."""
    for item in tree.fields("name"):
        if isinstance(item, Field):
            span = item.value.span
            return f'{text[: span.start]}"{name}"{text[span.end :]}'
    return f'name: "{name}"\n{text}'


def _missing(net: Net) -> str:
    """What a net with a loss lacks to be trained."""
    if not any(node.weighed for node in net.nodes):
        return ""
    return _DATA * (net.data is None) + _SOLVER * (net.solver is None)
