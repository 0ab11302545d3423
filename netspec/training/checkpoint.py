"""Checkpoints: the state of a training, in files that no crash loses and no damage passes."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open

from netspec.diagnostics import DataError, printable
from netspec.training.metrics import Averages

Tensors = Mapping[str, NDArray[Any]]
Sections = dict[str, dict[str, NDArray[Any]]]

_WRONG = "does not have the sha256 it was written with"

_VERSION = "1"
_SUFFIX = ".safetensors"
_MARGIN = 1 << 20
"""Bytes left free on the disk, for the file system's own and for the log."""

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


@dataclass(frozen=True)
class State:
    """Every tensor that training changes, by name: a checkpoint knows no offsets."""

    weights: dict[str, NDArray[np.float32]]
    slots: dict[str, dict[str, NDArray[np.float32]]]
    """The solver's memory, such as `momentum`: a tensor per trained weight."""
    statistics: dict[str, NDArray[np.float32]]


class Progress(BaseModel):
    """Everything beside the tensors that the rest of a training hangs on."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_inf_nan="constants"
    )

    iteration: NonNegativeInt = 0
    """Iterations done."""
    recorded: NonNegativeInt = 0
    """The last iteration after which the log got its row and the test, if due, was run."""
    averages: Averages = Averages()
    best: float | None = None
    """The best test accuracy so far, or the lowest test loss where there is no metric."""
    best_iteration: NonNegativeInt | None = None
    bad: NonNegativeInt = 0
    """Updates skipped in a row, up to now, because something was not finite."""
    skipped: NonNegativeInt = 0
    """Updates skipped in all."""
    last_loss: float | None = None
    """The last finite training loss."""
    test: dict[str, float] = {}
    """What the last test gave: `loss` and the metrics."""
    seed: int = 0
    spec: str = ""
    """The hash of the spec as run."""


def save(path: Path, state: State, progress: Progress) -> None:
    """Write a checkpoint; when this returns, it survives a power cut.

    Tensors are `weights/<name>`, `slots/<slot>/<name>` and `statistics/<name>`. Nothing is copied:
    the file is written from the arrays themselves. Raises DataError, the file that was there kept.
    """
    assert not any("/" in slot for slot in state.slots)
    slots = {f"slots/{slot}": tensors for slot, tensors in state.slots.items()}
    sections = {"weights": state.weights, **slots, "statistics": state.statistics}
    write_tensors(path, "checkpoint", sections, {"progress": progress.model_dump_json()})


def load(path: Path) -> tuple[State, Progress]:
    """Read a checkpoint and verify all of it; a DataError names the file and the section."""
    sections, facts = read_tensors(path, "checkpoint")
    try:
        progress = Progress.model_validate_json(facts["progress"])
        weights, statistics = sections.pop("weights"), sections.pop("statistics")
        slots = {name.removeprefix("slots/"): tensors for name, tensors in sections.items()}
    except (KeyError, ValidationError):
        raise _damaged(path, "header", "is not that of a checkpoint") from None
    return State(weights, slots, statistics), progress


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
    """The sections and facts of a file that `write_tensors` wrote, verified; else DataError."""
    flat, metadata = _parse(path)
    if metadata.pop("kind", None) != kind:
        raise _damaged(path, "header", f"is not that of a netspec {kind}")
    version = metadata.pop("version", "none")
    if version != _VERSION:
        raise _damaged(path, "header", f"has version {version}; this netspec reads {_VERSION}")
    with _rejecting(path, "header"):
        digests = {str(n): str(d) for n, d in dict(json.loads(metadata.pop("sha256"))).items()}
    if digests.pop("facts", None) != _facts_digest(metadata):
        raise _damaged(path, "header", _WRONG)
    sections: Sections = {name: {} for name in digests}
    for name, tensor in flat.items():
        section = next((s for s in digests if name.startswith(_join(s, ""))), None)
        if section is None:
            raise _damaged(path, "header", f"names a tensor of no section, `{name}`")
        sections[section][name.removeprefix(_join(section, ""))] = tensor
    for section, tensors in sections.items():
        if _digest(section, tensors) != digests[section]:
            raise _damaged(path, f"section `{section or 'tensors'}`", _WRONG)
    return sections, metadata


def write_durably(path: Path, chunks: Sequence[Any]) -> None:
    """Replace a file by contiguous buffers of bytes so that a crash leaves the old or the new.

    Beside it, flushed, renamed, and the folder flushed: a rename that reaches the disk before the
    bytes do would leave an empty file under the good name. Raises DataError.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    try:
        _make_room(path, sum(memoryview(chunk).nbytes for chunk in chunks))
        _write(temporary, chunks)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as fault:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(fault, OSError):
            reason = f"cannot be written: {fault.strerror or fault}; what was there is kept"
            raise DataError(f"{_show(path)}: {reason}") from None
        raise


def remove_orphans(folder: Path) -> None:
    """Delete what a killed writer left behind; only for who holds the run's lock."""
    for orphan in folder.glob(".*.tmp"):
        with suppress(OSError):
            orphan.unlink()


@dataclass(frozen=True)
class Found:
    """A checkpoint that was read and verified, and newer ones that turned out to be damaged."""

    path: Path
    state: State
    progress: Progress
    damaged: tuple[tuple[Path, DataError], ...]


class Keeper:
    """The checkpoints of a run, `<iteration>.safetensors`: the last few and the best."""

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Oldest first."""
        found = [p for p in self.folder.glob(f"[0-9]*{_SUFFIX}") if p.stem.isdecimal()]
        return sorted(found, key=lambda p: int(p.stem))

    def path(self, iteration: int) -> Path:
        """Where the checkpoint after so many iterations is or would be."""
        return self.folder / f"{iteration:08d}{_SUFFIX}"

    def save(self, state: State, progress: Progress) -> Path:
        """Write one; only then let go of those that are neither recent nor the best."""
        path = self.path(progress.iteration)
        save(path, state, progress)
        best = progress.best_iteration
        kept = {path, *self.paths()[-self.keep :], *([] if best is None else [self.path(best)])}
        for old in self.paths():
            if old not in kept:
                with suppress(OSError):  # one too many harms nobody
                    old.unlink()
        return path

    def newest(self) -> Found | None:
        """The newest that is whole; None where none was written; DataError if all are damaged."""
        damaged: list[tuple[Path, DataError]] = []
        for path in reversed(self.paths()):
            try:
                return Found(path, *load(path), tuple(damaged))
            except DataError as fault:
                damaged.append((path, fault))
        if damaged:
            raise DataError(f"{_show(self.folder)}: no checkpoint can be read: {damaged[0][1]}")
        return None

    @staticmethod
    def set_aside(found: Found) -> None:
        """Rename damaged checkpoints, so that they do not count as recent ones."""
        for path, _ in found.damaged:
            with suppress(OSError):
                path.rename(path.with_suffix(".damaged"))


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
        raise DataError(f"{_show(path)}: cannot be read: {fault.strerror}") from None
    if not regular:
        raise DataError(f"{_show(path)}: is not a regular file")
    with _rejecting(path, "header"), safe_open(path, framework="numpy") as file:
        known, names = set(_DTYPES.values()), list(file.keys())
        for name in names:
            if file.get_slice(name).get_dtype() not in known:
                raise _damaged(path, f"tensor `{name}`", "has a type that netspec does not write")
        tensors = {name: file.get_tensor(name) for name in names}
        return tensors, dict(file.metadata() or {})


@contextmanager
def _rejecting(path: Path, part: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise _damaged(path, part, f"cannot be read: {str(fault)[:200]}") from None


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


def _damaged(path: Path, part: str, what: str) -> DataError:
    return DataError(f"{_show(path)}: {printable(part)} {printable(what)}")


def _show(path: Path) -> str:
    return printable(str(path))


def _make_room(path: Path, size: int) -> None:
    total, _, free = shutil.disk_usage(path.parent)
    if total and free < size + _MARGIN:  # a file system that does not tell says 0
        raise DataError(
            f"{_show(path)}: needs {size / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free; "
            "what was there is kept"
        )


def _write(path: Path, chunks: Sequence[Any]) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest.nbytes:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
