"""Tensor files: safetensors with a sha256 per section, verified when they are read."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from netspec.diagnostics import DataError, printable
from netspec.files import write_durably

Tensors = Mapping[str, NDArray[Any]]
Sections = dict[str, dict[str, NDArray[Any]]]

_WRONG = "does not have the sha256 it was written with"

_VERSION = "1"

_DTYPES: dict[np.dtype[Any], str] = {
    np.dtype("<f8"): "F64",
    np.dtype("<f4"): "F32",
    np.dtype("<f2"): "F16",
    np.dtype("<i8"): "I64",
    np.dtype("<i4"): "I32",
    np.dtype("<u8"): "U64",
    np.dtype("u1"): "U8",
    np.dtype("?"): "BOOL",
}


class OutOfReach(DataError):
    """The system does not give out a file, which may be whole."""


def write_tensors(
    path: Path, kind: str, sections: Mapping[str, Tensors], facts: Mapping[str, str]
) -> None:
    """Write sections of tensors as one safetensors file with a sha256 per section, durably.

    A tensor is named `<section>/<name>`, or `<name>` in a section named "". The same input gives
    the same bytes.
    """
    assert not {"kind", "version", "sha256"} & set(facts)
    held = {
        name: {n: np.asarray(t, order="C") for n, t in ts.items()} for name, ts in sections.items()
    }
    digests = {name: _digest(name, tensors) for name, tensors in held.items()}
    digests["facts"] = _facts_digest(facts)
    metadata = {"kind": kind, "version": _VERSION, **facts, "sha256": json.dumps(digests)}
    flat = {_join(section, n): t for section, tensors in held.items() for n, t in tensors.items()}
    write_durably(path, _serialise(flat, metadata))


def read_tensors(path: Path, kind: str) -> tuple[Sections, dict[str, str]]:
    """The sections and facts of a file that `write_tensors` wrote, verified.

    DataError if it is not one any more, OutOfReach if that is not known.
    """
    flat, metadata = _parse(path)
    if metadata.pop("kind", None) != kind:
        raise damaged(path, "header", f"is not that of a netspec {kind}")
    version = metadata.pop("version", "none")
    if version != _VERSION:
        raise damaged(path, "header", f"has version {version}; this netspec reads {_VERSION}")
    with _rejecting(path, "header"):
        digests = {str(n): str(d) for n, d in dict(json.loads(metadata.pop("sha256"))).items()}
    if digests.pop("facts", None) != _facts_digest(metadata):
        raise damaged(path, "header", _WRONG)
    sections: Sections = {name: {} for name in digests}
    for name, tensor in flat.items():
        section = next((s for s in digests if name.startswith(_join(s, ""))), None)
        if section is None:
            raise damaged(path, "header", f"names a tensor of no section, `{name}`")
        sections[section][name.removeprefix(_join(section, ""))] = tensor
    for section, tensors in sections.items():
        if _digest(section, tensors) != digests[section]:
            raise damaged(path, f"section `{section or 'tensors'}`", _WRONG)
    return sections, metadata


def _serialise(tensors: Tensors, metadata: Mapping[str, str]) -> list[Any]:
    """The buffers of a safetensors file: length, header, then the arrays, the widest type first.

    Source: https://github.com/huggingface/safetensors#format. Not its own `save_file`, which does
    not fsync, nor its `save`, which holds the state twice more.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    payload: list[Any] = []
    offset = 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].itemsize, n)):
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        payload.append(_bytes(tensor))
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    return [len(text).to_bytes(8, "little") + text, *payload]


def _parse(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A safetensors file's tensors and metadata; its checks bound the memory by the file's size."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as fault:
        raise _out_of_reach(path, fault) from None
    if not regular:
        raise DataError(f"{printable(str(path))}: is not a regular file")
    with _rejecting(path, "header"), safe_open(path, framework="numpy") as file:
        known, names = set(_DTYPES.values()), list(file.keys())
        for name in names:
            if file.get_slice(name).get_dtype() not in known:
                raise damaged(path, f"tensor `{name}`", "has a type that netspec does not write")
        tensors = {name: file.get_tensor(name) for name in names}
        return tensors, dict(file.metadata() or {})


@contextmanager
def _rejecting(path: Path, part: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise _out_of_reach(path, fault) from None
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise damaged(path, part, f"cannot be read: {str(fault)[:200]}") from None


def _out_of_reach(path: Path, fault: OSError) -> OutOfReach:
    return OutOfReach(f"{printable(str(path))}: cannot be read: {fault.strerror or fault}")


def _digest(section: str, tensors: Tensors) -> str:
    total = sha256(section.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, _DTYPES[tensor.dtype], tensor.shape]).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def _facts_digest(facts: Mapping[str, str]) -> str:
    return sha256(json.dumps(sorted(facts.items())).encode()).hexdigest()


def _bytes(tensor: NDArray[Any]) -> memoryview:
    return tensor.reshape(-1).view(np.uint8).data


def _join(section: str, name: str) -> str:
    return f"{section}/{name}" if section else name


def damaged(path: Path, part: str, what: str) -> DataError:
    """The fault of a part of a file."""
    return DataError(f"{printable(str(path))}: {printable(part)} {printable(what)}")
