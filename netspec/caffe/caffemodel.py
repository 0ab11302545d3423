"""`.caffemodel`: the blobs of a net's layers, in every form that Caffe wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from netspec.blob import read_blob, write_blob
from netspec.caffe.caffemodel_hdf5 import hdf5_blobs
from netspec.caffe.schema import v1_types
from netspec.diagnostics import DataError, printable
from netspec.hdf5 import is_hdf5
from netspec.mapped import map_file
from netspec.wire import Buffer, Floats, Message, Writer, decoding


@dataclass(frozen=True, eq=False, slots=True)
class LayerBlobs:
    """A layer as a weight file holds it."""

    name: str
    type: str
    """Caffe's word for it: `Convolution`, and in V0 files `conv`; none in HDF5 files."""
    blobs: tuple[Floats | None, ...]
    """In Caffe's order; None where an HDF5 file leaves one to the layer that it is shared with."""
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()


# Field numbers of caffe.proto.
_NET_NAME, _NET_LAYERS, _NET_LAYER = 1, 2, 100
_NAME, _TYPE, _BOTTOM, _TOP, _BLOBS = 1, 2, 3, 4, 7
_V1_LAYER, _V1_BOTTOM, _V1_TOP, _V1_NAME, _V1_TYPE, _V1_BLOBS = 1, 2, 3, 4, 5, 6
_V0_NAME, _V0_TYPE, _V0_BLOBS = 1, 2, 50


def read_caffemodel(path: Path) -> tuple[LayerBlobs, ...]:
    """The layers of a `.caffemodel` or `.caffemodel.h5` in the file's order; else DataError.

    Current (`layer`), V1 (`layers`) and V0 (a `layer` within `layers`) files. Arrays are float32
    and read-only; those of a binary file are views of it, mapped into memory.
    """
    if is_hdf5(path):
        found = hdf5_blobs(path)
        layers = tuple(LayerBlobs(name, "", blobs) for name, blobs in found.items())
    else:
        with decoding(path):
            layers = tuple(_layers(Message(map_file(path))))
    if not layers:
        raise DataError(printable(f"{path}: holds no layers: is it a caffemodel?"))
    return layers


def caffemodel(layers: Sequence[LayerBlobs], name: str = "") -> list[Buffer]:
    """The content of a `.caffemodel` of these layers, in the current form; arrays are not copied.

    The same layers give the same bytes.
    """
    net = Writer()
    if name:
        net.text(_NET_NAME, name)
    for layer in layers:
        net.message(_NET_LAYER, _written(layer))
    return net.chunks


def _written(layer: LayerBlobs) -> Writer:
    writer = Writer()
    writer.text(_NAME, layer.name)
    writer.text(_TYPE, layer.type)
    for bottom in layer.bottoms:
        writer.text(_BOTTOM, bottom)
    for top in layer.tops:
        writer.text(_TOP, top)
    for blob in layer.blobs:
        assert blob is not None, "only HDF5 files leave blobs out"
        writer.message(_BLOBS, write_blob(blob))
    return writer


def _layers(net: Message) -> Iterator[LayerBlobs]:
    if net.has(_NET_LAYER) and net.has(_NET_LAYERS):
        raise net.fault("has both `layer` and `layers`, which Caffe refuses", _NET_LAYERS)
    for layer in net.messages(_NET_LAYER, "layer"):
        yield LayerBlobs(
            layer.text(_NAME), layer.text(_TYPE), _blobs(layer, _BLOBS),
            layer.texts(_BOTTOM), layer.texts(_TOP),
        )  # fmt: skip
    for layer in net.messages(_NET_LAYERS, "layers"):
        yield _v1(layer)


def _v1(layer: Message) -> LayerBlobs:
    edges = layer.texts(_V1_BOTTOM), layer.texts(_V1_TOP)
    v0 = layer.message(_V1_LAYER, "layer")
    if v0 is not None:
        return LayerBlobs(v0.text(_V0_NAME), v0.text(_V0_TYPE), _blobs(v0, _V0_BLOBS), *edges)
    number = layer.integer(_V1_TYPE)
    types = ("", *v1_types().values())
    known = 0 <= number < len(types)  # forks have more of them
    word = types[number] if known else str(number)
    return LayerBlobs(layer.text(_V1_NAME), word, _blobs(layer, _V1_BLOBS), *edges)


def _blobs(layer: Message, number: int) -> tuple[Floats, ...]:
    return tuple(read_blob(blob) for blob in layer.messages(number, "blobs"))
