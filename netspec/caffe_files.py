"""From Caffe's files to native specs: which files they name, and what their data tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from netspec.caffe.recognise import recognise
from netspec.caffe.upgrade import Upgrader, Wishes
from netspec.diagnostics import Diagnostics, UsageError
from netspec.grammar.ast import Element, Field, Message, String
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.layer import Phase
from netspec.ir.types import Shape
from netspec.layers import LAYERS
from netspec.library import Library, caffe_folders, locate


def source_folder(tree: Message, path: Path) -> Path | None:
    """Where the paths of a file begin: the folder in which a source of its data sections lies."""
    sections = [i.body for i in tree.fields("data") if isinstance(i, Element) and i.body]
    fields = [f.value for s in sections for f in s.fields("source") if isinstance(f, Field)]
    sources = [value.value for value in fields if isinstance(value, String) and value.value]
    held = (f for f in caffe_folders(path) if any(os.path.exists(f / source) for source in sources))
    return next(held, None)


def native(
    tree: Message,
    path: Path,
    library: Library,
    wishes: Wishes | None,
    diagnostics: Diagnostics,
    net: Message | None = None,
    data: Path | None = None,
    phase: Phase = Phase.TEST,
) -> Message:
    """The native tree of a Caffe file; `net` is a solver's, whatever that names."""

    def probed(source: str) -> Mapping[str, Shape] | None:
        from netspec.data import probe

        if data is not None:
            return probe(str(data), Path())
        return next(filter(None, (probe(source, folder) for folder in caffe_folders(path))), None)

    upgrader = Upgrader(LAYERS, wishes or Wishes(), probed, diagnostics, phase)
    if recognise(tree) == "net":
        made = upgrader.net(tree)
    else:
        made = upgrader.solver(tree, lambda named: net or parse(library.open_net(path, named)))
    diagnostics.check()
    return made


def upgrade(
    target: str,
    solver: str | None = None,
    *,
    wishes: Wishes | None = None,
    diagnostics: Diagnostics | None = None,
) -> str:
    """The native text of a Caffe net, or of a solver and its net; SpecErrors if it has none.

    `solver` is the file of one that trains the net.
    """
    diagnostics = Diagnostics() if diagnostics is None else diagnostics
    path, shown = locate(target)
    library = Library(path.parent)
    tree = parse(library.open(path, shown))
    kind = recognise(tree)
    if kind is None:
        raise UsageError(f"{shown}: is no Caffe file, but a native spec already")
    if solver is None:
        return to_text(native(tree, path, library, wishes, diagnostics))
    trainer = parse(library.open(Path(solver), solver))
    if kind != "net" or recognise(trainer) != "solver":
        raise UsageError("upgrade takes a Caffe net and a solver, in this order")
    return to_text(native(trainer, Path(solver), library, wishes, diagnostics, net=tree))
