"""Zip archives of images, checked before anything of them is unpacked."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from netspec.data.file import bomb, fault, open_regular
from netspec.data.files.image import MAX_BYTES
from netspec.diagnostics import DataError, printable

_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, RuntimeError, ValueError,
    EOFError, OSError, OverflowError, IndexError, NotImplementedError,
)  # fmt: skip
"""What zipfile raises on broken or unusual archives."""

_END = struct.Struct("<4s6xHLLH")
"""A zip's end record: mark, entries, bytes and place of the directory, remark (APPNOTE 4.3.16)."""

_MAX_DIRECTORY = 256 << 20
"""Bytes of an archive's directory, which is held in memory: some three million entries."""

_HEADER = 30
"""Bytes of what stands before a file, without its name (APPNOTE 4.3.7)."""

_LENGTHS = struct.Struct("<26xHH")
"""How long the name and a remark behind it are, which end what stands before a file."""

_UTF8 = 0x800
"""The flag of a name in UTF-8; others are in the characters of the first PC."""

_ENTRY = 46
"""Bytes of an entry of the directory without its name: a longer remark on one hides another."""


class Archive:
    """A zip whose entries are known to be plain files of safe names and likely sizes.

    The file is opened for each image: nothing has to be closed, and threads wait for no other.
    """

    def __init__(self, path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
        self.path = path
        self._entries = {entry.filename: entry for entry in entries}
        self.files: list[str] = []
        """Every file's name, in the order of the directory."""
        self.folders: set[str] = set()
        """Every folder's name, without a slash at its end."""
        for entry in entries:
            self._add(entry)
        twice = [name for name, count in Counter(self.files).items() if count > 1]
        if twice:
            raise self._fault(self._entries[twice[0]], "stands in the archive twice")

    def name(self, file: str) -> str:
        """What faults call a file: with where it begins in the archive."""
        offset = self._entries[file].header_offset
        return f"{self.path}: {printable(file)} (byte {offset:,})"

    def content(self, file: str) -> bytes:
        """The bytes of a file, its checksum compared; threads may ask at the same time."""
        entry = self._entries[file]
        with open_regular(self.path) as stream:
            stream.seek(entry.header_offset)
            name, extra = _LENGTHS.unpack(stream.read(_LENGTHS.size).ljust(_LENGTHS.size))
            stream.seek(name + extra, os.SEEK_CUR)
            packed = stream.read(entry.compress_size)
        content = packed
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                    packed, entry.file_size + 1
                )
            except zlib.error as error:
                raise fault(self.name(file), f"damaged: {error}") from None
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise fault(self.name(file), "damaged: its length or its checksum does not hold")
        return content

    def _add(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename
        parts = name.rstrip("/").split("/")
        if "\\" in entry.orig_filename or ":" in parts[0] or {"", ".", ".."} & {*parts}:
            raise self._fault(entry, "its name leads out of the archive")
        self.folders.update("/".join(parts[:i]) for i in range(1, len(parts)))
        if entry.is_dir():
            self.folders.add("/".join(parts))
            return
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise self._fault(entry, "is a link or a device, not a file")
        if entry.flag_bits & 1:
            raise self._fault(entry, "is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._fault(entry, "is packed by another method than deflate")
        packed, size = entry.compress_size, entry.file_size
        if size > MAX_BYTES or bomb(packed, size):
            raise self._fault(entry, f"declares {size:,} bytes out of {packed:,}")
        self.files.append(name)

    def _fault(self, entry: zipfile.ZipInfo, message: str) -> DataError:
        return fault(f"{self.path}: {entry.filename} (byte {entry.header_offset:,})", message)


def read_directory(path: Path) -> Archive:
    """The archive of a file; DataError if it is none, or is not as its directory says."""
    with open_regular(path) as file:
        count = _stated(path, file)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except _DAMAGE as error:
            raise fault(path, f"not a zip archive, or a damaged one: {error}") from None
        hidden = any(len(e.comment) + len(e.extra) >= _ENTRY for e in entries)
        if hidden or count not in (len(entries), 0xFFFF):
            raise fault(path, "damaged: its directory does not hold as many entries as it says")
        _check_names(path, file, entries)
    return Archive(path, entries)


def _check_names(path: Path, file: IO[bytes], entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise DataError unless every file has the name that the directory gives it.

    No checksum covers the directory: a changed name would take an image from its class.
    """
    for entry in entries:
        name = entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
        file.seek(entry.header_offset)
        header = file.read(_HEADER + len(name))
        if header[:4] != b"PK\3\4" or header[_HEADER:] != name:
            where = f"{path}: {entry.filename} (byte {entry.header_offset:,})"
            raise fault(where, "damaged: no file of that name begins there")


def _stated(path: Path, file: IO[bytes]) -> int:
    """How many entries the end record states; 0xFFFF if a longer record does."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _END.size - 0xFFFF))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise fault(path, f"byte {size:,}: not a zip archive, or truncated: it has no end record")
    _, count, directory, _, _ = _END.unpack_from(tail, at)
    if _MAX_DIRECTORY < directory < 0xFFFFFFFF:
        raise fault(path, f"its directory takes {directory:,} bytes")
    return int(count)
