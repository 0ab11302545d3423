"""The curves of a training for TensorBoard: an event file, written a record at a time.

A record is its length (u64), the length's checksum, the bytes, and theirs: masked CRC-32C, all
little-endian (tensorflow/core/lib/io/record_writer.cc). The bytes are an `Event` message of
tensorboard/compat/proto/event.proto, with a `Summary` of scalars (summary.proto).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import nan
from pathlib import Path
from struct import pack

from netspec.diagnostics import printable
from netspec.training.logs.appended import Appended
from netspec.training.logs.events import Event, Number, Resumed, RolledBack, Row, Tested
from netspec.wire.writer import Writer

_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.netspec")

# The fields of Event, of its SessionLog, and of Summary and its values, by number.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7
_STATUS, _START = 1, 1
_VALUE = 1
_TAG, _SIMPLE_VALUE = 1, 2


class TensorBoard:
    """Hears a training's events and writes its curves into a new event file of the run's folder.

    `loss/train` and `loss/test` stand beside each other, so do the metrics; `lr` is the learning
    rate. When a training goes on, a record tells the step from which TensorBoard is to forget what
    it read before. There is no file before there is a number to be shown.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn
        self._file: Appended | None = None
        self._forget: int | None = None

    def hear(self, event: Event) -> None:
        """Write what an event holds of numbers."""
        if isinstance(event, Resumed | RolledBack):
            self._forget = event.iteration + 1
        elif isinstance(event, Row):
            self._scalars(event, {"lr": event.lr, **_tags(event.train, "train")})
        elif isinstance(event, Tested):
            self._scalars(event, _tags(event.test, "test"))

    def _scalars(self, event: Event, scalars: Mapping[str, Number]) -> None:
        summary = Writer()
        for tag, value in scalars.items():
            scalar = Writer()
            scalar.text(_TAG, tag)
            scalar.single(_SIMPLE_VALUE, nan if value is None else value)
            summary.message(_VALUE, scalar)
        message = _begun(event.time, event.iteration)
        message.message(_SUMMARY, summary)
        if self._file is None:
            self._file = self._opened(event)
        if self._forget is not None:
            self._file.append(_restart(event.time, self._forget))
            self._forget = None
        self._file.append(record(message))

    def _opened(self, event: Event) -> Appended:
        """A file that TensorBoard, which reads them in the order of their names, reads last."""
        last = 0
        with suppress(OSError):  # the clock alone tells well enough
            names = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
            last = max((int(name[1]) for name in names if name), default=0)
        stamp = max(int(event.time), last + 1)
        file = Appended(self._folder / f"events.out.tfevents.{stamp:010d}.netspec", 0, self._warn)
        head = _begun(event.time, 0)
        head.text(_FILE_VERSION, "brain.Event:2")
        file.append(record(head))
        return file


def _restart(time: float, step: int) -> bytes:
    """The record from which TensorBoard forgets what it read of this step and later ones."""
    session = Writer()
    session.integer(_STATUS, _START)
    message = _begun(time, step)
    message.message(_SESSION_LOG, session)
    return record(message)


def _tags(values: Mapping[str, Number], split: str) -> dict[str, Number]:
    return {f"{printable(name)}/{split}": value for name, value in values.items()}


def _begun(time: float, step: int) -> Writer:
    message = Writer()
    message.double(_WALL_TIME, time)
    message.integer(_STEP, step)
    return message


def record(message: Writer) -> bytes:
    """A message as it stands in the file."""
    content = b"".join(message.chunks)
    length = pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and moved, since that of bytes with a CRC in them is weak."""
    crc = crc32c(content)
    return pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """The CRC of Castagnoli's polynomial, bits reflected (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for octet in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _row(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
    return octet


_TABLE = tuple(map(_row, range(256)))
