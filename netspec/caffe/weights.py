"""Caffe's weight files and a net: tensors are read and written by layer name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.caffe.caffemodel import LayerBlobs, caffemodel, read_caffemodel
from netspec.caffe.caffemodel_hdf5 import hdf5_file
from netspec.caffe.holders import FACTOR, MEAN, VARIANCE, Holder, holders, is_batch_norm
from netspec.caffe.match import Match, Matching
from netspec.diagnostics import MAX_ERRORS, DataError, UsageError, printable
from netspec.ir.net import Net
from netspec.wire import Buffer, Floats

Names: TypeAlias = Mapping[str, str]

_NONE: Names = {}


def load_caffemodels(
    paths: Sequence[Path], net: Net, *, ignore_mismatch: bool = False, names: Names = _NONE
) -> Match:
    """The tensors of several weight files, the later over the earlier (Caffe's `-weights a,b`)."""
    found = (load_caffemodel(p, net, ignore_mismatch=ignore_mismatch, names=names) for p in paths)
    return reduce(Match.then, found)


def load_caffemodel(
    path: Path, net: Net, *, ignore_mismatch: bool = False, names: Names = _NONE
) -> Match:
    """The tensors of a `.caffemodel` or `.caffemodel.h5` that are the net's, by layer name.

    As in Caffe (`net.cpp`, `CopyTrainedLayersFrom`), a layer that the net does not have is ignored,
    a tensor that the file does not have is missing, and a layer with another number of blobs or a
    blob of another shape is a DataError; with `ignore_mismatch` those blobs are missing. Of a name
    that the file has twice the last counts. `names` says what a node is called in Caffe, where that
    differs.

    The running mean and variance of a batch norm without `moving_average_fraction` are Caffe's sums
    divided by their factor, or 0 if that is 0; its weight and bias are those of the Scale that is
    first to read the BatchNorm's top in the file, or of a layer `<name>_scale`. A file that has no
    blob for the net is a DataError.
    """
    layers = read_caffemodel(path)
    matching = Matching(tuple(holders(net, names)))
    for layer in layers:
        matching.take(layer)
    if matching.faults and not ignore_mismatch:
        raise _misfit(path, matching.faults)
    if not matching.found and not matching.faults and net.parameters:
        raise _stranger(path, layers)
    arrays = {name: np.array(blob, np.float32) for name, blob in matching.found.items()}
    _divide(net, arrays)
    return Match(arrays, tuple(matching.table()))


def save_caffemodel(
    net: Net, arrays: Mapping[str, NDArray[Any]], *, hdf5: bool = False, names: Names = _NONE
) -> list[Buffer]:
    """The content of a `.caffemodel`, or a `.caffemodel.h5`, of a net's tensors by name.

    The layers that hold something, with their edges; a shared tensor stands in each, as in Caffe.
    A batch norm is written as BatchNorm, with the factor 1 if the net keeps none, and its weight
    and bias as a Scale named `<name>_scale`. Equal tensors give equal bytes.
    """
    layers = [_held(holder, arrays) for holder in holders(net, names) if holder.tensors]
    count: dict[str, int] = {}
    for layer in layers:
        count[layer.name] = count.get(layer.name, 0) + 1
    if twice := [name for name in count if count[name] > 1]:
        raise UsageError(f"a caffemodel of this net has two layers `{twice[0]}`: rename one")
    if hdf5:
        return [hdf5_file({layer.name: layer.blobs for layer in layers})]
    return caffemodel(layers, net.name)


def _held(holder: Holder, arrays: Mapping[str, NDArray[Any]]) -> LayerBlobs:
    one = np.ones(1, np.float32)
    blobs = tuple(arrays[t.name] if t.kept else one for t in holder.tensors)
    return LayerBlobs(holder.layer, holder.type, blobs, holder.bottoms, holder.tops)


def _divide(net: Net, arrays: dict[str, Floats]) -> None:
    """Make means of Caffe's sums, for the batch norms that keep no factor of their own."""
    for node in filter(is_batch_norm, net.nodes):
        factor = f"{node.name}.{FACTOR}"
        if factor in arrays and factor not in net.statistics:
            (total,) = arrays.pop(factor)
            for name in (f"{node.name}.{MEAN}", f"{node.name}.{VARIANCE}"):
                if name in arrays:
                    with np.errstate(all="ignore"):
                        arrays[name] *= np.float32(1) / total if total else np.float32(0)


def _misfit(path: Path, faults: Sequence[str]) -> DataError:
    shown = list(faults[:MAX_ERRORS])
    if len(faults) > len(shown):
        shown.append(f"… and {len(faults) - len(shown):,} more")
    text = f"{path}: does not fit the net: {'; '.join(shown)}; rename a layer to train it from "
    return DataError(printable(f"{text}scratch, or pass over what differs with --ignore-mismatch"))


def _stranger(path: Path, layers: Sequence[LayerBlobs]) -> DataError:
    names = [layer.name for layer in layers if layer.blobs]
    if not names:
        return DataError(printable(f"{path}: its {len(layers):,} layers hold no weights"))
    shown = ", ".join(f"`{name}`" for name in names[:5]) + ", …" * (len(names) > 5)
    return DataError(printable(f"{path}: no layer of the net is in it, but {shown}"))
