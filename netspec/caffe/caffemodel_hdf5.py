"""`.caffemodel.h5`: `/data/<layer>/<i>`, where a `/` in a layer's name makes nested groups."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np

from netspec.blob import narrowed
from netspec.diagnostics import UsageError
from netspec.hdf5 import Hdf5, Node, library, open_hdf5
from netspec.wire import Floats

MAX_DEPTH = 32
"""The most `/` of a layer's name, and one more."""

MAX_BLOBS = 100
"""The most blobs of a layer."""

Blobs: TypeAlias = tuple[Floats | None, ...]


def hdf5_blobs(path: Path) -> dict[str, Blobs]:
    """The blobs of each layer, None for one that is not there; else DataError.

    Caffe leaves out the blobs that a layer shares with an earlier one (`net.cpp`, `ToHDF5`).
    """
    with open_hdf5(path) as file:
        return _layers(file, file.root["data"])


def hdf5_file(layers: Mapping[str, Blobs]) -> bytes:
    """The content of a `.caffemodel.h5`; UsageError for names that HDF5 cannot tell apart."""
    content = BytesIO()
    with library("a .caffemodel.h5").File(content, "w") as file:
        data = file.create_group("data")
        for name, blobs in layers.items():
            if {"", "."} & set(name.split("/")):
                raise UsageError(f"the layer `{name}` has a name that HDF5 has no groups for")
            try:
                group = data.require_group(name)
                for i, blob in enumerate(blobs):
                    if blob is not None:
                        group.create_dataset(str(i), data=np.asarray(blob, "<f4"))
            except (TypeError, ValueError):
                text = f"the layer `{name}` takes the place of another one's blob in HDF5"
                raise UsageError(text) from None
    return content.getvalue()


def _layers(file: Hdf5, data: Node) -> dict[str, Blobs]:
    """Every group with arrays or without anything in it, depth first, in the order of the names."""
    layers: dict[str, Blobs] = {}
    pending = [("", data)]
    while pending:
        name, group = pending.pop()
        if name.count("/") > MAX_DEPTH:  # a group may be its own member
            raise ValueError(f"groups within groups, more than {MAX_DEPTH} deep")
        members = file.members(group)
        within = [(f"{name}/{n}", m) for n, m in members.items() if file.is_group(m)]
        pending += reversed(within)
        arrays = {n: m for n, m in members.items() if not file.is_group(m)}
        if arrays or not within:
            layer = name.removeprefix("/")
            layers[layer] = _blobs(file, layer, arrays)
    layers.pop("", None)
    return layers


def _blobs(file: Hdf5, layer: str, arrays: Mapping[str, Node]) -> Blobs:
    """The arrays in the order of their names, which are numbers."""
    known = {str(i): i for i in range(MAX_BLOBS)}
    if strange := [name for name in arrays if name not in known]:
        raise ValueError(f"`{layer}` has a blob `{strange[0]}`; they are named 0, 1, …")
    found = {known[name]: narrowed(file.array(node, "fiu")) for name, node in arrays.items()}
    return tuple(found.get(i) for i in range(1 + max(found, default=-1)))
