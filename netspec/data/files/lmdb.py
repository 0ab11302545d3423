"""The records of an LMDB database, read page by page without the library.

The library maps the file and trusts it: one that is cut short ends the process (SIGBUS). The
layout is that of LMDB 0.9 on 64-bit little-endian machines (`mdb.c`: MDB_page, MDB_node, MDB_meta).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from netspec.data.file import fault
from netspec.diagnostics import DataError
from netspec.mapped import map_file

FILE = "data.mdb"

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")
"""Of a page: its number, padding, kind, and where the free space begins and ends."""
_META = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
"""Of a database: page size, flags, depth, branch, leaf and overflow pages, entries, root."""
_TAIL = struct.Struct("<QQ")
"""Of a meta page: the last page in use and the transaction that wrote it."""
_NODE = struct.Struct("<HHHH")
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG, _SUBTREE = 1, 2
_SORTED_DUPLICATES = 4
_NONE = (1 << 64) - 1
_DEEPEST = 32
"""LMDB's CURSOR_STACK."""


class Record(NamedTuple):
    """A key and the bytes behind it, which lie in the mapped file."""

    key: bytes
    value: memoryview


@dataclass(frozen=True)
class _Meta:
    """What a transaction left: the last page, and the tree of the main database."""

    transaction: int
    page_size: int
    last: int
    flags: int
    depth: int
    entries: int
    root: int


def records(path: Path) -> Iterator[Record]:
    """Every record in the order of the keys; `path` is the file. Raises DataError."""
    return _Pages(path).records()


class _Pages:
    """A file's pages; what they say of themselves is compared with what is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = map_file(path)
        self.meta = self._newest()
        self._left = self.meta.last + 1
        """Pages that may still be visited: a damaged tree may lead in circles."""

    def records(self) -> Iterator[Record]:
        """The records of the main database."""
        meta, found = self.meta, 0
        if meta.root != _NONE:
            if not 0 < meta.depth <= _DEEPEST:
                raise self._fault(meta.root, f"a tree of depth {meta.depth}")
            for record in self._below(meta.root, meta.depth):
                found += 1
                yield record
        if found != meta.entries:
            raise fault(self._path, f"{meta.entries:,} records by its header, {found:,} are there")

    def _newest(self) -> _Meta:
        """The later of the two meta pages; the second begins where the first says pages end."""
        first = self._meta(0)
        meta = max(first, self._meta(first.page_size), key=lambda meta: meta.transaction)
        if (meta.last + 1) * meta.page_size > len(self._bytes):
            raise fault(
                self._path,
                f"truncated: {(meta.last + 1) * meta.page_size:,} bytes by its header, "
                f"{len(self._bytes):,} are there",
            )
        if meta.flags & _SORTED_DUPLICATES:
            raise fault(self._path, "keys with several values; Caffe's databases have none")
        return meta

    def _meta(self, at: int) -> _Meta:
        size = _HEADER.size + _META.size + 2 * _TREE.size + _TAIL.size
        if at + size > len(self._bytes):
            raise fault(self._path, f"byte {at}: truncated: no LMDB header")
        _, _, kind, _, _ = _HEADER.unpack_from(self._bytes, at)
        at += _HEADER.size
        magic, version, _, _ = _META.unpack_from(self._bytes, at)
        if kind & 0xF != _META_PAGE or magic != _MAGIC:
            raise fault(self._path, f"byte {at}: not an LMDB file of a 64-bit machine")
        if version != _VERSION:
            raise fault(self._path, f"byte {at + 4}: LMDB of version {version}; 1 is read")
        at += _META.size
        page_size, *_ = _TREE.unpack_from(self._bytes, at)
        if page_size not in (1 << n for n in range(8, 17)):
            raise fault(self._path, f"byte {at}: pages of {page_size:,} bytes")
        _, flags, depth, _, _, _, entries, root = _TREE.unpack_from(self._bytes, at + _TREE.size)
        last, transaction = _TAIL.unpack_from(self._bytes, at + 2 * _TREE.size)
        return _Meta(transaction, page_size, last, flags, depth, entries, root)

    def _below(self, number: int, depth: int) -> Iterator[Record]:
        """The records of a tree of so many levels."""
        page = self._page(number)
        _, _, kind, lower, upper = _HEADER.unpack_from(page)
        if kind & 0xF != (_LEAF if depth == 1 else _BRANCH):
            raise self._fault(number, f"is of kind {kind}, {depth} levels above the records' end")
        if not _HEADER.size <= lower <= upper <= len(page) or lower % 2:
            raise self._fault(number, f"free space from {lower} to {upper}")
        for (place,) in struct.iter_unpack("<H", page[_HEADER.size : lower]):
            if place + _NODE.size > len(page):
                raise self._fault(number, f"an entry at byte {place}")
            low, high, flags, length = _NODE.unpack_from(page, place)
            start = place + _NODE.size
            if depth > 1:
                yield from self._below(low | high << 16 | flags << 32, depth - 1)
                continue
            key = bytes(page[start : start + length])
            if len(key) < length:
                raise self._fault(number, f"a key of {length} bytes at byte {start}")
            yield Record(key, self._value(number, page, start + length, low | high << 16, flags))

    def _value(
        self, number: int, page: memoryview, start: int, size: int, flags: int
    ) -> memoryview:
        """A record's bytes: on its page, or on pages of their own."""
        if flags & _SUBTREE:
            raise self._fault(number, "a database within; Caffe's have none")
        if not flags & _BIG:
            value = page[start : start + size]
        elif start + 8 > len(page):
            raise self._fault(number, f"a record at byte {start}")
        else:
            (number,) = struct.unpack_from("<Q", page, start)
            value = self._overflow(number, size)
        if len(value) < size:
            raise self._fault(number, f"a record of {size:,} bytes, {len(value):,} are there")
        return value

    def _overflow(self, number: int, size: int) -> memoryview:
        head = self._page(number)
        _, _, kind, low, high = _HEADER.unpack_from(head)
        pages = low | high << 16
        if kind & 0xF != _OVERFLOW or pages > self.meta.last + 1 - number:
            raise self._fault(number, f"is of kind {kind} and {pages:,} pages, not of a record's")
        begin = number * self.meta.page_size
        whole = self._bytes[begin : begin + pages * self.meta.page_size]
        return whole[_HEADER.size : _HEADER.size + size]

    def _page(self, number: int) -> memoryview:
        meta = self.meta
        if not 2 <= number <= meta.last:
            raise self._fault(number, f"does not exist; the last is {meta.last:,}")
        self._left -= 1
        if self._left < 0:
            raise self._fault(number, "is reached twice")
        return self._bytes[number * meta.page_size : (number + 1) * meta.page_size]

    def _fault(self, page: int, message: str) -> DataError:
        return fault(self._path, f"damaged: page {page:,}: {message}")
