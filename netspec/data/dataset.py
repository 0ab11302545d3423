"""A data set: arrays by blob name, and whether they suit a net's inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.file import fault, read_whole
from netspec.data.files.image import MAX_BYTES
from netspec.data.lazy import Lazy, Rows, decoded
from netspec.data.manifest import Manifest
from netspec.data.tolerance import Bad, Tolerance
from netspec.diagnostics import DataError, printable
from netspec.ir.sections import DataSection
from netspec.ir.transform import ColourOrder
from netspec.ir.types import Shape, TensorType, occupied, size

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """Samples, the first axis of every array.

    `data` and other inputs are uint8 or float32, N x C x H x W or N x features; `label` is int64
    (float32 if the source holds floats). `classes` are the names of the labels, if the source knows
    them; `origin` is what to call the source in front of the user.
    """

    arrays: Mapping[str, Array]
    classes: tuple[str, ...]
    origin: str
    measured: Mapping[str, Array] = field(default_factory=dict)
    """What a transform reads beside the samples, by the names of `ir.measured`."""
    rows: NDArray[np.int64] | None = None
    """Which samples of the source these are, if not all."""
    streamed: Mapping[str, Lazy] = field(default_factory=dict)
    """What stands for the arrays that are not in memory."""
    manifest: str | None = None
    """The hash of the manifest that the files were compared with."""
    files: Sequence[Path] = ()
    """The file of each sample, where the source has one for each."""
    decoded: frozenset[str] = frozenset()
    """The arrays that were streamed before they were decoded to memory."""
    unread: Mapping[int, Bad] = field(default_factory=dict)
    """Samples whose places hold another one's images in `decoded`, since theirs are bad."""

    def __post_init__(self) -> None:
        counts = {name: found.shape[0] for name, found in self._all.items()}
        if not counts or not min(counts.values()):
            raise DataError(printable(f"{self.origin}: holds no samples"))
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count:,} of `{name}`" for name, count in counts.items())
            raise DataError(printable(f"{self.origin}: the arrays differ in samples: {found}"))

    @property
    def fed(self) -> dict[str, Array | Lazy]:
        """All that the graph of a batch reads."""
        return {**self.streamed, **self.held, **self.measured}

    @property
    def held(self) -> dict[str, Array]:
        """The arrays in memory: with an image that stands in for another stands all that is its."""
        if not self.unread:
            return {**self.arrays}
        rows = standing(len(self), self.unread)
        return {n: a if n in self.decoded else a[rows] for n, a in self.arrays.items()}

    def taken(self, rows: Rows) -> dict[str, Array]:
        """What the graph of a batch reads if these samples are the whole data set."""
        streamed: dict[str, Array] = {}
        if self.streamed:
            streamed, rows = decoded(self.streamed, rows)
        held = {name: np.ascontiguousarray(found[rows]) for name, found in self.held.items()}
        return {**streamed, **held, **self.measured}

    def chosen(self, rows: Rows) -> Dataset:
        """Some of the samples, in the order of `rows`; for a bad one none but these stands in."""
        bad = {i: self.unread[row] for i, row in enumerate(rows.tolist()) if row in self.unread}
        images = rows[standing(len(rows), bad)]
        return replace(
            self,
            arrays={n: a[images if n in self.decoded else rows] for n, a in self.arrays.items()},
            streamed={name: lazy.chosen(rows) for name, lazy in self.streamed.items()},
            files=[self.files[row] for row in rows] if self.files else (),
            rows=rows if self.rows is None else self.rows[rows],
            unread=bad,
        )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of a sample, by array, in memory or not."""
        return {name: found.shape[1:] for name, found in self._all.items()}

    @property
    def _all(self) -> dict[str, Array | Lazy]:
        return {**self.streamed, **self.arrays}

    def __len__(self) -> int:
        return int(next(iter(self._all.values())).shape[0])


def standing(count: int, unread: Mapping[int, Bad]) -> Rows:
    """Which of `count` samples stands at each place: for a bad one the next, as in `decode_rows`.

    DataError if all are bad.
    """
    rows = np.arange(count, dtype=np.int64)
    good = np.setdiff1d(rows, np.array([*unread], np.int64))
    if count and not good.size:
        raise next(iter(unread.values())).error
    return good[np.searchsorted(good, rows) % max(len(good), 1)]


LABEL = TensorType((), "int64")
"""What a class label is."""


@dataclass(frozen=True)
class Wanted:
    """What a net and its data section ask of a source."""

    split: str
    """`train`, `test`, or `val` of a source that holds validation samples apart."""
    section: DataSection
    folder: Path
    """Where the paths in the section begin."""
    shape: Shape | None = None
    """C x H x W of a stored image, where the caller knows it."""
    cropped: bool = False
    """Whether H and W are what is cut out of an image of any size."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """What becomes of images that cannot be read."""
    manifest: Manifest | None = None
    """What the files are to be."""

    def order(self, otherwise: ColourOrder) -> ColourOrder:
        """How images are decoded: as the section says, or as their format is read."""
        return self.section.channel_order or otherwise

    def content(self, image: Path) -> bytes:
        """The bytes of an image file, the very ones that the manifest tells of."""
        content = read_whole(image, MAX_BYTES)
        if self.manifest is not None:
            self.manifest.verify(image, content)
        return content


@dataclass(frozen=True)
class Reader:
    """A source format: what it looks like, whether a path is one, and how it is read.

    All that take a path raise DataError.
    """

    form: str
    claims: Callable[[Path], bool]
    read: Callable[[Path, Wanted], Dataset]
    probe: Callable[[Path, Wanted], dict[str, TensorType]]
    """The types of a sample by array, without a batch axis, from the first one alone."""
    takes: frozenset[str] = frozenset()
    """The fields of a data section and its transform that not every format takes."""
    transforms: bool = True
    """Whether a section of it may have a transform."""
    order: ColourOrder | None = None
    """Which of red and blue comes first, where the format says."""
    validates: Callable[[Path], bool] = lambda _: False
    """Whether a source holds validation samples beside its test samples."""
    files: Callable[[Path, Wanted], list[Path]] = lambda path, _: [path]
    """The files of all splits that are no images: compared with a manifest before they are read."""
    images: Callable[[Path, Wanted], list[Path]] = lambda _path, _wanted: []
    """Those that are images: compared when they are decoded, by `Wanted.content`."""


def afford(path: Path, count: int, what: str, shape: Shape, itemsize: int = 1) -> None:
    """Refuse to hold so many samples of a shape in more than this machine's memory."""
    needed = count * prod(shape) * itemsize
    if needed > _memory():
        text = f"{count:,} {what} of {size(shape)} take {needed:,} bytes"
        raise fault(path, f"{text}, more than this machine's memory")


def _memory() -> int:
    """Bytes of this machine's memory, or no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def fitted(dataset: Dataset, inputs: Mapping[str, TensorType]) -> Dataset:
    """The data set with arrays as the inputs take them, where that changes no value.

    Axes of one cell come and go (labels of N x 1 x 1 x 1 are labels), and whole numbers that are
    stored as floats become integers where an input takes these.
    """
    arrays = {name: _fit(array, inputs.get(name)) for name, array in dataset.arrays.items()}
    return replace(dataset, arrays=arrays)


def _fit(array: Array, expected: TensorType | None) -> Array:
    if expected is None:
        return array
    if occupied(array.shape[1:]) == occupied(expected.sample):
        array = array.reshape(len(array), *expected.sample)
    if expected.dtype == "int64" and array.dtype.kind in "fu":
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int64)
        return whole if (whole == array).all() else array
    return array


def check_dataset(
    dataset: Dataset,
    inputs: Mapping[str, TensorType],
    classes: int | None = None,
    *,
    layer: str = "",
    ignore_label: int | None = None,
) -> None:
    """Raise DataError, all faults in one, unless the data set can feed the net's inputs.

    `inputs` are types with the batch axis. `classes` is how many values the net tells apart, by the
    layer named `layer`; labels lie below it, but for those equal to `ignore_label`.
    """
    faults = [text for name in inputs for text in _misfit(dataset, name, inputs[name])]
    if not faults and classes is not None:
        outputs = (
            f"{classes} outputs of layer `{layer}`" if layer else f"{classes} outputs of the net"
        )
        if dataset.classes and len(dataset.classes) != classes:
            faults.append(f"{len(dataset.classes)} classes do not match the {outputs}")
        if "label" in inputs:
            faults += _strays(dataset.arrays["label"], classes, outputs, ignore_label)
    if faults:
        raise DataError(printable(f"{dataset.origin}: ") + "\n".join(map(printable, faults)))


def _misfit(dataset: Dataset, name: str, expected: TensorType) -> Iterator[str]:
    """Why the data set cannot feed the input `name`."""
    array = dataset.fed.get(name)
    if array is None:
        yield f"no array `{name}` for the input of that name; it holds {', '.join(dataset.shapes)}"
        return
    if array.shape[1:] != expected.sample:
        found, taken = _size(array.shape[1:]), _size(expected.sample)
        yield f"a row of `{name}` is {found}, the input takes {taken}"
    if expected.dtype == "int64" and array.dtype.kind not in "iu":
        yield f"`{name}` is {array.dtype}; class labels are integers"


def _size(shape: Shape) -> str:
    return size(shape) if shape else "a scalar"


def _strays(labels: Array, classes: int, outputs: str, ignore: int | None) -> Iterator[str]:
    """The first label outside [0, classes), and how many there are."""
    if labels.dtype.kind == "f":
        return
    stray = (labels < 0) | (labels >= classes)
    if ignore is not None:
        stray &= labels != ignore
    found = np.flatnonzero(stray)
    if not found.size:
        return
    row = int(found[0]) // max(1, labels[0].size)
    more = f" ({found.size:,} such labels)" if found.size > 1 else ""
    value = labels.flat[found[0]]
    yield f"row {row:,}: label {value} is outside [0, {classes}), the {outputs}{more}"
