"""Protobuf's wire format: the fields of a message, without its schema."""

from netspec.wire.fault import WireError, decoding
from netspec.wire.frame import MAX_FIELDS, Buffer
from netspec.wire.message import Doubles, Floats, Integers, Message
from netspec.wire.writer import Writer

__all__ = [
    "MAX_FIELDS",
    "Buffer",
    "Doubles",
    "Floats",
    "Integers",
    "Message",
    "WireError",
    "Writer",
    "decoding",
]
