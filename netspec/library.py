"""Reads spec files and what they include, within the rules that keep a hostile spec harmless."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from netspec import zoo
from netspec.diagnostics import NetspecError, Source, Span, SpecError, UsageError, suggest
from netspec.grammar.ast import Field, String

MAX_BYTES = 2**20
"""Text of a spec with its includes."""

NETS = (".prototxt", ".pt", ".pbtxt", ".proto", ".txt", ".net")
"""How the files of Caffe's nets end."""

ZOO = "netspec:"
"""What an include of a bundled spec begins with."""


class Library:
    """Reads spec files within the rules: regular, small, UTF-8, inside their folder."""

    def __init__(self, root: Path, include_paths: Sequence[Path] = ()) -> None:
        self.root = root.resolve()
        self.include_paths = tuple(path.resolve() for path in include_paths)
        self.read: dict[str, str] = {}
        """The text of every file that was read, by the path shown to the user."""
        self.included: dict[str, str] = {}
        """The included files that do not come with netspec, by the path the spec's folder has."""
        self._places: dict[str, PurePosixPath] = {}
        self._bytes = 0

    def open(self, path: Path, shown: str) -> Source:
        """The text of a file; UsageError or NetspecError if it cannot be read."""
        if shown not in self.read:
            data = _read(path, shown)
            self._bytes += len(data)
            if self._bytes > MAX_BYTES:
                raise NetspecError(f"{shown}: a spec with its includes has at most 1 MiB of text")
            self.read[shown] = _decode(data, shown)
        return Source(shown, self.read[shown])

    def include(self, name: str, span: Span) -> Source:
        """The file that an include names, relative to the including file."""
        try:
            if name.startswith(ZOO):
                return self._open_bundled(name)
            if span.source.path.startswith(ZOO):
                folder = PurePosixPath(span.source.path.removeprefix(ZOO)).parent
                return self._open_bundled(ZOO + os.path.normpath(folder / name))
            path, shown = self._inside(Path(span.source.path).parent, name)
            source = self.open(path, shown)
            self.included[self._place(name, shown, span)] = source.text
            return source
        except NetspecError as error:
            raise SpecError(str(error), span, code="include") from None

    def open_net(self, solver: Path, named: Field) -> Source:
        """The net that a field of a Caffe solver names; SpecError if it cannot be read.

        Its path begins in one of the `caffe_folders`, and ends as that of a net does: a hostile
        solver shall not have other files shown.
        """
        assert isinstance(named.value, String)
        name, span = named.value.value, named.value.span
        if not name or "\0" in name:
            raise SpecError("a solver names the file of its net", span, code="include")
        if not name.endswith(NETS):
            message = f"the file of a net ends in {', '.join(NETS)}, not as `{name[-40:]}`"
            raise SpecError(message, span, code="include")
        found = next((f / name for f in caffe_folders(solver) if os.path.isfile(f / name)), None)
        if found is None:
            message = f"there is no `{name}`, here, beside the solver, or in a folder around it"
            raise SpecError(message, span, code="include")
        try:
            return self.open(found, os.path.relpath(found))
        except NetspecError as error:
            raise SpecError(str(error), span, code="include") from None

    def _open_bundled(self, shown: str) -> Source:
        name = shown.removeprefix(ZOO)
        file = name.removesuffix(".net") + ".net"
        if file not in zoo.files():
            raise NetspecError(f"netspec comes with no `{name}`{suggest(file, zoo.files())}")
        return self.open(zoo.folder() / file, ZOO + file)

    def _place(self, name: str, shown: str, span: Span) -> str:
        """Where an included file stands in a copy of the spec's folder: where no -I is needed."""
        folder = self._places.get(span.source.path, PurePosixPath()).parent
        self._places[shown] = PurePosixPath(os.path.normpath(folder / name))
        return str(self._places[shown])

    def _inside(self, base: Path, name: str) -> tuple[Path, str]:
        """The file and how to show it; links are followed before it is asked where they lead."""
        if not name or "\0" in name or "\\" in name or Path(name).is_absolute():
            raise NetspecError(f"`{name}` is no relative path of a spec")
        allowed = (self.root, *self.include_paths)
        for folder in (base, *self.include_paths):
            shown = os.path.normpath(folder / name)
            path = _resolved(folder / name, name)
            if not any(path.is_relative_to(root) for root in allowed):
                message = f"`{name}` leads out of the spec's folder; -I FOLDER allows another one"
                raise NetspecError(message)
            if os.path.exists(path):
                return path, shown
        raise NetspecError(f"there is no file `{name}` beside the spec")


def _resolved(path: Path, name: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # too long, or links in a circle
        raise NetspecError(f"`{name[:80]}` is no path of a file") from None


def locate(target: str) -> tuple[Path, str]:
    """The file that a path or the name of a zoo spec means, and how to show it."""
    path = Path(target)
    found = zoo.find(target)
    if os.path.exists(path) and not (found and path.is_dir()):  # a folder `lenet` hides no spec
        return path, target
    if found is not None:
        return found, str(found) if found.is_relative_to(Path.cwd()) else f"{ZOO}{target}.net"
    message = f"there is no file `{target[:200]}`, nor a bundled spec of that name"
    raise UsageError(message + suggest(target, zoo.names()))


def caffe_folders(path: Path) -> list[Path]:
    """Where a path in a Caffe file may begin, the likeliest first.

    In the working directory, as in Caffe; in the file's folder; or in one around that, since a
    repository's files name each other from its root.
    """
    return [Path(), *path.absolute().parents]


def _read(path: Path, shown: str) -> bytes:
    """At most 1 MiB of a regular file; never waits for a pipe or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NetspecError(f"{shown}: not a regular file")
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise NetspecError(f"{shown}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise NetspecError(f"{shown}: a spec has at most 1 MiB of text")
    return data


def _decode(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NetspecError(f"{shown}:{line}: byte {error.start} is not UTF-8") from None
