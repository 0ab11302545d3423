"""Reads the plain values of a pickle without unpickling it: nothing in the file is ever called.

`pickle.load` runs whatever a file names. Here `pickletools` splits the file into opcodes, and a
stack of our own carries out those alone that Python 2 wrote for numbers, strings, lists, dicts
and arrays of bytes. A name such as `numpy.dtype` stays a name: what is done with those that are
known is decided here, and any other is a fault.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.data.file import fault
from netspec.diagnostics import DataError
from netspec.ir.types import size

MAX_STEPS = 2_000_000
"""Opcodes of a file: each may make an object, and 50,000 images with names need 300,000."""

_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_NDARRAY, _DTYPE = "numpy ndarray", "numpy dtype"


@dataclass(frozen=True)
class _Name:
    """What a file asks for by module and name: a word, not the thing."""

    text: str


@dataclass(eq=False)
class _Made:
    """An array or a type of one, before its state is known and after."""

    kind: str
    state: Any = None


class _Mark:
    """Where the items of a list or a tuple begin on the stack."""


def read_pickle(name: Path | str, content: bytes) -> Any:
    """The value of a pickle: None, bool, int, bytes, tuple, list, dict, and uint8 arrays.

    Strings are bytes, as Python 2 wrote them. DataError names the offset and the opcode of anything
    else, whatever it would have done.
    """
    machine = _Machine(name)
    at = 0
    try:
        for steps, (opcode, argument, place) in enumerate(pickletools.genops(content)):
            at = place or 0
            if steps > MAX_STEPS:
                raise fault(name, f"byte {at}: over {MAX_STEPS:,} opcodes")
            machine.step(opcode.name, argument, at)
        if at + 1 != len(content):
            raise fault(name, f"byte {at + 1}: the file goes on after its value")
        return machine.result()
    except DataError:
        raise
    except Exception as error:  # a damaged file leads the stack astray in every way
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise fault(name, f"byte {at}: not a pickle, or a damaged one: {reason}") from None


class _Machine:
    """The stack and the memo of a pickle's opcodes (PEP 307; Lib/pickletools.py names them)."""

    def __init__(self, name: Path | str) -> None:
        self._name = name
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def step(self, opcode: str, argument: Any, at: int) -> None:
        """Carry out one opcode."""
        stack = self._stack
        match opcode:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                stack.append(_Mark())
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2":
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if opcode == "EMPTY_LIST" else {})
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._tuple(0 if opcode == "EMPTY_TUPLE" else int(opcode[-1]))
            case "TUPLE" | "LIST" | "DICT":
                items = self._marked()
                values = _pairs(items) if opcode == "DICT" else items
                stack.append(tuple(items) if opcode == "TUPLE" else values)
            case "APPEND":
                item = stack.pop()
                _of(list, stack[-1]).append(item)
            case "APPENDS":
                items = self._marked()
                _of(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _of(dict, stack[-1]).update(_pairs([key, value]))
            case "SETITEMS":
                items = self._marked()
                _of(dict, stack[-1]).update(_pairs(items))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(self._named(argument, at))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                stack.append(self._built(_of(_Made, stack.pop()), state, at))
            case _:
                raise fault(self._name, f"byte {at}: opcode {opcode}, which is not carried out")

    def _marked(self) -> list[Any]:
        """The items above the last mark, which goes with them."""
        stack = self._stack
        begin = next(i for i in reversed(range(len(stack))) if isinstance(stack[i], _Mark))
        items = stack[begin + 1 :]
        del stack[begin:]
        return items

    def _tuple(self, count: int) -> None:
        stack = self._stack
        begin = len(stack) - count
        if begin < 0:
            raise IndexError("the stack is empty")
        stack[begin:] = [tuple(stack[begin:])]

    def _named(self, name: str, at: int) -> _Name:
        if name not in (*_RECONSTRUCT, _NDARRAY, _DTYPE):
            text = f"asks for `{name[:60].replace(' ', '.')}`, which is never called"
            raise fault(self._name, f"byte {at}: {text}")
        return _Name(name)

    def _built(self, made: _Made, state: Any, at: int) -> Any:
        """An array from its version, shape, type, order and bytes; a type as it was."""
        if made.kind == "dtype":
            return made
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Made) or kind.state not in (b"u1", b"|u1"):
            raise fault(self._name, f"byte {at}: an array of other values than bytes")
        if not _axes(shape) or prod(shape) != len(_of(bytes, content)):
            held = f"an array of {size(shape) if _axes(shape) else '?'}"
            raise fault(self._name, f"byte {at}: {held} with {len(content):,} bytes")
        return _array(content, shape, fortran=bool(fortran))


def _axes(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)


def _array(content: bytes, shape: tuple[int, ...], *, fortran: bool) -> NDArray[np.uint8]:
    flat = np.frombuffer(content, np.uint8)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _made(named: Any, arguments: Any) -> _Made:
    """What a call would have given, as far as arrays are made by it."""
    text = _of(_Name, named).text
    if text == _DTYPE:
        return _Made("dtype", _of(bytes, arguments[0]))
    if text in _RECONSTRUCT and arguments[0] == _Name(_NDARRAY):
        return _Made("array")
    raise ValueError("an array is made in another way")


def _pairs(items: list[Any]) -> dict[bytes, Any]:
    pairs: Iterator[tuple[Any, Any]] = zip(items[::2], items[1::2], strict=True)
    return {_of(bytes, key): value for key, value in pairs}


def _of(kind: type, value: Any) -> Any:
    """The value, known to be of a kind."""
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value
