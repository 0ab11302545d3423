"""What becomes of each tensor of a net and of each layer of a weight file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile

import numpy as np

from netspec.caffe.caffemodel import LayerBlobs
from netspec.caffe.holders import UNUSED, Holder, Tensor
from netspec.ir.types import Shape, size
from netspec.wire import Floats
from netspec.wording import counted

COLUMNS = ("layer", "tensor", "shape in file", "shape in net", "verdict")


class Verdict(StrEnum):
    """How a tensor and a file go together."""

    MATCHED = "matched"
    MISSING = "missing"
    """The file does not have it: it stays as the net has it."""
    OTHER_SHAPE = "other shape"
    """The file's is another one: it stays as the net has it."""
    IGNORED = "ignored"
    """The net does not have it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A tensor of the net, or what the net does not have of a layer of the file."""

    layer: str
    tensor: str
    """None of what is ignored."""
    found: tuple[Shape, ...]
    """Shapes in the file: the tensor's, if it is there, or those of all that is ignored."""
    wanted: Shape | None
    """The tensor's shape in the net."""
    verdict: Verdict

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of COLUMNS."""
        found = ", ".join(map(size, self.found))
        wanted = "" if self.wanted is None else size(self.wanted)
        return (self.layer, self.tensor, found, wanted, str(self.verdict))


@dataclass(frozen=True)
class Match:
    """The tensors that weight files gave, and a table that leaves nothing out."""

    arrays: Mapping[str, Floats]
    """By tensor name, in the net's shapes; no views of the files."""
    table: tuple[Row, ...]
    """The net's tensors in its order, then what was ignored."""

    def rows(self) -> list[tuple[str, ...]]:
        """The table as text, in the order of COLUMNS."""
        return [row.cells() for row in self.table]

    @property
    def missing(self) -> tuple[str, ...]:
        """The tensors that no file gave."""
        stay = (Verdict.MISSING, Verdict.OTHER_SHAPE)
        return tuple(row.tensor for row in self.table if row.verdict in stay)

    def then(self, later: Match) -> Match:
        """What both gave; of a tensor that both gave, the later one's."""
        given = {row.tensor: row for row in self.table if row.verdict is Verdict.MATCHED}
        tensors = [
            row if row.verdict is Verdict.MATCHED else given.get(row.tensor, row)
            for row in later.table
            if row.verdict is not Verdict.IGNORED
        ]
        ignored = [row for row in (*self.table, *later.table) if row.verdict is Verdict.IGNORED]
        return Match({**self.arrays, **later.arrays}, (*tensors, *ignored))


class Matching:
    """The blobs of a file, while they are put in their places."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        self.found: dict[str, Floats] = {}
        """By tensor name, in the net's shapes."""
        self._holders = holders
        self._by_name: dict[str, Holder] = {}
        for holder in holders:  # the first of a name takes the blobs (BVLC/caffe #7043)
            self._by_name.setdefault(holder.layer, holder)
        self._shapes: dict[str, Shape] = {}
        self._ignored: list[Row] = []
        self._misfits: list[str] = []
        self._short: list[tuple[LayerBlobs, Tensor]] = []
        self._unscaled: dict[str, Holder] = {}

    def take(self, layer: LayerBlobs) -> None:
        """Put a layer's blobs where they belong."""
        scale = self._scale_read_by(layer)
        holder = self._by_name.get(layer.name, scale)
        if holder is None:
            self._ignore(layer, layer.blobs)
            return
        if holder.scale is not None and layer.tops:
            self._unscaled[layer.tops[0]] = holder.scale
        tensors = _form(holder, layer.blobs)
        if len(layer.blobs) > len(tensors):
            has = f"layer `{layer.name}` has {_counted(layer)}, and in the net {len(tensors)}"
            self._misfits.append(has)
            self._ignore(layer, layer.blobs[len(tensors) :])
        for tensor in set(holder.tensors) - set(tensors):  # a fork's means, of factor 1
            self.found[tensor.name] = np.ones(tensor.shape, np.float32)
        for i, tensor in enumerate(tensors):
            blob = layer.blobs[i] if i < len(layer.blobs) else None
            if tensor is UNUSED:
                continue
            if blob is None:
                self._short.append((layer, tensor))
            else:
                self._put(layer, i, blob, tensor)

    @property
    def faults(self) -> list[str]:
        """What does not fit, in words. A tensor may be left to a layer that it is shared with."""
        short = [
            f"layer `{layer.name}` has {_counted(layer)}, none for `{tensor.name}`"
            for layer, tensor in self._short
            if tensor.name not in self._shapes
        ]
        return self._misfits + short

    def table(self) -> Iterator[Row]:
        """A row for each tensor of the net, then for each layer that it does not have."""
        rows: dict[str, Row] = {}
        for holder in self._holders:
            for tensor in filter(lambda tensor: tensor.kept, holder.tensors):
                rows.setdefault(tensor.name, self._row(holder, tensor))
        yield from rows.values()
        yield from self._ignored

    def _row(self, holder: Holder, tensor: Tensor) -> Row:
        shape = self._shapes.get(tensor.name)
        verdict = Verdict.MISSING if shape is None else Verdict.OTHER_SHAPE
        if tensor.name in self.found:
            verdict = Verdict.MATCHED
        found = () if shape is None else (shape,)
        return Row(holder.layer, tensor.name, found, tensor.shape, verdict)

    def _put(self, layer: LayerBlobs, index: int, blob: Floats, tensor: Tensor) -> None:
        if _alike(blob.shape, tensor.shape):
            self.found[tensor.name] = blob.reshape(tensor.shape)
            self._shapes[tensor.name] = blob.shape
            return
        self._shapes.setdefault(tensor.name, blob.shape)
        text = f"blob {index} is {size(blob.shape)}, `{tensor.name}` {size(tensor.shape)}"
        self._misfits.append(f"layer `{layer.name}`: {text}")

    def _ignore(self, layer: LayerBlobs, blobs: Sequence[Floats | None]) -> None:
        shapes = tuple(blob.shape for blob in blobs if blob is not None)
        if shapes:
            self._ignored.append(Row(layer.name, "", shapes, None, Verdict.IGNORED))

    def _scale_read_by(self, layer: LayerBlobs) -> Holder | None:
        """The place of a Scale that is the first to read a batch norm's top."""
        read = [self._unscaled.pop(name) for name in layer.bottoms if name in self._unscaled]
        return read[0] if read and layer.type == "Scale" and len(layer.bottoms) == 1 else None


def _form(holder: Holder, blobs: Sequence[Floats | None]) -> tuple[Tensor, ...]:
    """What a layer's blobs are, by their number and shapes."""
    shapes = [() if blob is None else blob.shape for blob in blobs]
    for form in holder.forks:
        if len(form) == len(shapes) and all(map(_alike, shapes, (t.shape for t in form))):
            return form
    return holder.tensors


def _counted(layer: LayerBlobs) -> str:
    count = sum(blob is not None for blob in layer.blobs)
    return counted(count, "blob")


def _alike(found: Shape, wanted: Shape) -> bool:
    """Whether shapes are the same but for leading axes of 1, or a vector's axes of 1 anywhere.

    Blobs had four axes once, the last ones in use (`blob.cpp`, `ShapeEquals`); forks keep vectors
    as 1xCx1x1.
    """
    if len(wanted) < 2:
        return [n for n in found if n != 1] == [n for n in wanted if n != 1]
    return _trimmed(found) == _trimmed(wanted)


def _trimmed(shape: Shape) -> Shape:
    return tuple(dropwhile(lambda extent: extent == 1, shape))
