"""`<source>.lock`: size and sha256 of every file of a source, so that what rots is not trained on.

A text of lines, sorted by name:

    netspec-data 1
    <sha256 in hexadecimal>  <bytes>  <name>

Names are relative to the source if it is a folder, else to the folder that it is in, with `/`
between their parts; one that is not printable, or begins with a quotation mark, stands as a JSON
string. The bit of a JPEG that has turned is seen by nothing else: most decode to other pixels.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from netspec.data.file import CHUNK, fault, open_regular, read_whole
from netspec.diagnostics import printable
from netspec.wire import Buffer
from netspec.wording import counted

_HEAD = "netspec-data 1"
_LINE = re.compile(r"([0-9a-f]{64})  (0|[1-9][0-9]{0,17})  (.+)")
_MAX_BYTES = 1 << 30
_SHOWN = 5
"""Files that a message names."""


class _Entry(NamedTuple):
    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What the files of a source are to be."""

    path: Path
    root: Path
    """What the names begin at."""
    entries: Mapping[str, _Entry]
    digest: str
    """Of the manifest itself, and so of all that it tells of."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries.values())

    def verify(self, file: Path, content: Buffer) -> None:
        """DataError unless these bytes of a file are those that it had."""
        self._compare(file, len(content), sha256(content).hexdigest)

    def verify_file(self, file: Path) -> None:
        """The same for a file that is read piece by piece; this reads it once before."""
        with open_regular(file) as stream:
            self._compare(file, os.fstat(stream.fileno()).st_size, lambda: digest_of(file))

    def check_names(self, files: Iterable[Path]) -> None:
        """DataError unless the source consists of the very files of the manifest."""
        found = {_name(file, self.root) for file in files}
        faults = [
            f"{counted(len(names), 'file')} {what}: {_some(names)}"
            for what, names in (
                ("missing", sorted(self.entries.keys() - found)),
                ("not in it", sorted(found - self.entries.keys())),
            )
            if names
        ]
        if faults:
            raise fault(self.path, "; ".join(faults))

    def _compare(self, file: Path, size: int, digest: Callable[[], str]) -> None:
        entry = self.entries.get(_name(file, self.root))
        if entry is None:
            raise fault(file, f"is not in {self.path}")
        if size != entry.size:
            raise fault(file, f"has {size:,} bytes, and {entry.size:,} by {self.path}")
        if digest() != entry.digest:
            raise fault(file, f"has changed: its sha256 is not that of {self.path}")


def beside(source: Path) -> Path:
    """Where the manifest of a source is looked for."""
    if source.name in ("", ".."):
        source = Path(os.path.abspath(source))
    return source.with_name(f"{source.name}.lock")


def root_of(source: Path) -> Path:
    """The folder that names begin at."""
    return source if source.is_dir() else source.parent


def read_manifest(path: Path, source: Path) -> Manifest:
    """The manifest of a source; DataError if it is none."""
    return parse_manifest(path, read_whole(path, _MAX_BYTES), source)


def parse_manifest(path: Path, content: bytes, source: Path) -> Manifest:
    """The manifest of a source whose text is to be, or is, in a file."""
    try:
        head, *lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise fault(path, f"byte {error.start}: not UTF-8") from None
    if head != _HEAD:
        raise fault(path, f"line 1: a manifest begins with `{_HEAD}`")
    if not lines or lines.pop():
        raise fault(path, "truncated: the last line has no end")
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(lines, 2):
        name, entry = _parsed(path, number, line)
        if name in entries:
            raise fault(path, f"line {number:,}: a second line for {name}")
        entries[name] = entry
    return Manifest(path, root_of(source), entries, sha256(content).hexdigest())


def write_text(files: Iterable[Path], source: Path) -> str:
    """The text of a manifest: every file is read."""
    lines = []
    for name, file in sorted((_name(file, root_of(source)), file) for file in set(files)):
        with open_regular(file) as stream:
            size = os.fstat(stream.fileno()).st_size
        plain = name.isprintable() and not name.startswith('"')
        lines.append(f"{digest_of(file)}  {size}  {name if plain else json.dumps(name)}\n")
    return f"{_HEAD}\n{''.join(lines)}"


def digest_of(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    total = sha256()
    with open_regular(file) as stream:
        try:
            while piece := stream.read(CHUNK):
                total.update(piece)
        except OSError as error:
            raise fault(file, f"cannot be read: {error.strerror}") from None
    return total.hexdigest()


def _parsed(path: Path, number: int, line: str) -> tuple[str, _Entry]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise fault(path, f"line {number:,}: not `sha256  bytes  name`: {line[:60]}")
    digest, size, name = match.groups()
    if name.startswith('"'):
        try:
            name = str(json.loads(name))
        except ValueError:
            raise fault(path, f"line {number:,}: the name is no JSON string") from None
    return name, _Entry(digest, int(size))


def _name(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more
