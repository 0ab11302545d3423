"""CIFAR-10 and CIFAR-100: batches of 32x32 colour images, of bytes or of Python's pickles."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netspec.data.dataset import LABEL, Array, Dataset, Reader, Wanted, afford
from netspec.data.file import fault, read_whole
from netspec.data.files.pickled import read_pickle
from netspec.data.files.tar import SUFFIXES, Member, read_members
from netspec.ir.types import Shape, TensorType, size

_IMAGE: Shape = (3, 32, 32)
_BYTES = 3 * 32 * 32
_MAX_FILE = 1 << 30


@dataclass(frozen=True)
class _Form:
    """One of the four published forms (https://www.cs.toronto.edu/~kriz/cifar.html)."""

    train: tuple[str, ...]
    test: str
    labels: Mapping[str, int]
    """Each kind of label in the order of a record, and how many classes it has."""
    names: Mapping[str, str]
    """The file that names the classes of each kind."""
    pickled: bool

    def batches(self, split: str) -> tuple[str, ...]:
        """The files of a split."""
        return self.train if split == "train" else (self.test,)

    def files(self, split: str) -> set[str]:
        """All that is read for a split."""
        return {*self.batches(split), *self.names.values()}


_TEN, _HUNDRED = {"label": 10}, {"coarse_label": 20, "fine_label": 100}
_NUMBERS = range(1, 6)
_FORMS = (
    _Form(tuple(f"data_batch_{i}.bin" for i in _NUMBERS), "test_batch.bin", _TEN,
          {"label": "batches.meta.txt"}, False),
    _Form(("train.bin",), "test.bin", _HUNDRED,
          {k: f"{k}_names.txt" for k in _HUNDRED}, False),
    _Form(tuple(f"data_batch_{i}" for i in _NUMBERS), "test_batch", _TEN,
          {"label": "batches.meta"}, True),
    _Form(("train",), "test", _HUNDRED, dict.fromkeys(_HUNDRED, "meta"), True),
)  # fmt: skip


def _claims(path: Path) -> bool:
    if not path.is_dir():
        return path.name.lower().endswith(SUFFIXES)
    return any(_form_of(_present(path, split), split) for split in ("train", "test"))


def _files_of(split: str) -> set[str]:
    """What is read for a split in any form."""
    return set().union(*(form.files(split) for form in _FORMS))


def _present(path: Path, split: str) -> set[str]:
    return {name for name in _files_of(split) if (path / name).is_file()}


def _form_of(found: Collection[str], split: str) -> _Form | None:
    """The form of which the classes' names are there, and a batch of the split."""
    for form in _FORMS:
        named = all(name in found for name in form.names.values())
        if named and any(batch in found for batch in form.batches(split)):
            return form
    return None


def _read(path: Path, wanted: Wanted) -> Dataset:
    files = _Files.of(path, wanted.split)
    form = files.form
    kind = _kind(path, form, wanted)
    batches = form.batches(wanted.split)
    parts = [_batch(files, name) for name in batches]
    for name, part in zip(batches, parts, strict=True):  # one cut between images looks whole
        if len(part["data"]) != len(parts[0]["data"]):
            text = f"{len(part['data']):,} images, and {len(parts[0]['data']):,} in {batches[0]}"
            raise fault(path, f"{name}: {text}")
    labels = {name: np.concatenate([part[name] for part in parts]) for name in form.labels}
    pixels = [part["data"] for part in parts]
    afford(path, len(labels[kind]), "images", _IMAGE)
    arrays = {"data": np.concatenate(pixels) if len(pixels) > 1 else pixels[0]}
    return Dataset({**arrays, "label": labels[kind], **labels}, _classes(files, kind), str(path))


def _locked(path: Path, wanted: Wanted) -> list[Path]:  # noqa: ARG001
    """What a manifest tells of: the archive, or the files of both splits."""
    if not path.is_dir():
        return [path]
    return [path / name for name in sorted(_present(path, "train") | _present(path, "test"))]


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    form = _Files.of(path, wanted.split).form
    _kind(path, form, wanted)
    kinds = dict.fromkeys(("label", *form.labels), LABEL)
    return {"data": TensorType(_IMAGE, "uint8"), **kinds}


def _kind(path: Path, form: _Form, wanted: Wanted) -> str:
    """Which kind of label is `label`: as the section says, else the finest."""
    kind = wanted.section.label or [*form.labels][-1]
    if kind not in form.labels:
        raise fault(path, f"has no `{kind}`; its labels are {', '.join(form.labels)}")
    return kind


@dataclass(frozen=True)
class _Files:
    """The files of a folder, or of a tar archive."""

    path: Path
    form: _Form
    members: Mapping[str, Member] | None
    """What the archive holds of them."""

    @classmethod
    def of(cls, path: Path, split: str) -> _Files:
        members = None if path.is_dir() else read_members(path, _files_of(split))
        form = _form_of(_present(path, split) if members is None else members.keys(), split)
        if form is None:
            raise fault(path, "an archive, but not of CIFAR-10 or CIFAR-100: unpack it first")
        return cls(path, form, members)

    def take(self, name: str) -> tuple[str, bytes | bytearray]:
        """What to call a file in faults, and its content."""
        if self.members is None:
            return str(self.path / name), read_whole(self.path / name, _MAX_FILE)
        if name not in self.members:
            raise fault(self.path, f"no {name} in it")
        return f"{self.path}: {self.members[name].name}", self.members[name].content


def _batch(files: _Files, file: str) -> dict[str, Array]:
    """`data` and each kind of label of a file, the labels known to be in range."""
    name, content = files.take(file)
    form = files.form
    read = _pickled if form.pickled else _records
    data, labels = read(name, content, form)
    for kind, values in labels.items():
        bad = np.flatnonzero((values < 0) | (values >= form.labels[kind]))
        if bad.size:
            row = int(bad[0])
            text = f"image {row:,}: {kind} {values[row]} is outside [0, {form.labels[kind]})"
            at = row * (_BYTES + len(form.labels)) + [*form.labels].index(kind)
            raise fault(name, text if form.pickled else f"byte {at}: {text}")
    return {"data": data.reshape(-1, *_IMAGE), **labels}


def _records(name: str, content: bytes | bytearray, form: _Form) -> tuple[Array, dict[str, Array]]:
    """Records of a byte per label and the 3,072 of the image: red, green, blue, row by row."""
    record = len(form.labels) + _BYTES
    if not content or len(content) % record:
        whole = len(content) // record
        text = f"{len(content):,} bytes are no whole number of records of {record:,}"
        raise fault(name, f"byte {whole * record}: truncated: {text}")
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = {kind: table[:, i].astype(np.int64) for i, kind in enumerate(form.labels)}
    return np.ascontiguousarray(table[:, len(form.labels) :]), labels


def _pickled(name: str, content: bytes | bytearray, form: _Form) -> tuple[Array, dict[str, Array]]:
    """A dict of `data`, N x 3,072 bytes, and a list of numbers for each kind of label."""
    found = read_pickle(name, bytes(content))
    held = found if isinstance(found, dict) else {}
    data = held.get(b"data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _BYTES:
        shape = size(data.shape) if isinstance(data, np.ndarray) else "nothing"
        raise fault(name, f"`data` is {shape}, not N x {_BYTES:,} bytes")
    return np.ascontiguousarray(data), {
        kind: _numbers(name, f"{kind}s", held.get(f"{kind}s".encode()), len(data))
        for kind in form.labels
    }


def _numbers(name: str, key: str, values: object, count: int) -> Array:
    if not isinstance(values, list) or len(values) != count:
        found = f"{len(values):,}" if isinstance(values, list) else "no list"
        raise fault(name, f"`{key}` is {found}, for {count:,} images")
    for row, value in enumerate(values):
        if type(value) is not int or abs(value) >> 31:
            raise fault(name, f"`{key}`: image {row:,}: not a whole number of 32 bits")
    return np.array(values, np.int64)


def _classes(files: _Files, kind: str) -> tuple[str, ...]:
    name, content = files.take(files.form.names[kind])
    count = files.form.labels[kind]
    names = tuple(_names(name, bytes(content), kind, files.form))
    if len(names) != count or len(set(names)) != count:
        raise fault(name, f"names {len(set(names)):,} classes for {count} of `{kind}`")
    return names


def _names(name: str, content: bytes, kind: str, form: _Form) -> Iterator[str]:
    """The classes' names: a line each, or the list of a pickle."""
    lines: object = [line.strip() for line in content.split(b"\n") if line.strip()]
    if form.pickled:
        found = read_pickle(name, content)
        lines = found.get(f"{kind}_names".encode()) if isinstance(found, dict) else None
    for line in lines if isinstance(lines, list) else ():
        try:
            yield line.decode("utf-8")
        except (AttributeError, UnicodeDecodeError):
            raise fault(name, f"`{kind}`: a name is not text of UTF-8") from None


READER = Reader(
    "CIFAR-10 or CIFAR-100 (the folder or .tar.gz as published, binary or Python version)",
    _claims,
    _read,
    _probe,
    frozenset({"label"}),
    order="RGB",
    files=_locked,
)
