"""What a blob of a trained net is for every sample: features that another net may learn from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netspec.data.archive import Entry, npz_chunks
from netspec.data.dataset import Array
from netspec.diagnostics import UsageError, suggest
from netspec.files import stream_durably
from netspec.ir.deploy import deploy, predictions
from netspec.ir.heads import class_head
from netspec.ir.net import Net
from netspec.ir.types import Shape
from netspec.runtime.device import Device
from netspec.training.testing.candidate import Candidate
from netspec.training.testing.predicting import Predictor

DATA, LABEL, CLASSES = "data", "label", "classes"
"""The arrays of a file of features, as the reader of `.npz` has them."""


class Features:
    """The blob of a layer over the samples of a candidate, computed as the file is written."""

    def __init__(self, candidate: Candidate, layer: str, device: Device) -> None:
        """NetspecError if the net has no such layer, or it hangs on the label."""
        net, dataset = candidate.net, candidate.dataset
        self.blob = _blob(net, layer)
        self._weights = candidate.weights
        self._predictor = Predictor(net, [self.blob], dataset.fed, device, candidate.for_batch)
        self.shape: Shape = self._predictor.types[self.blob].shape
        """Samples, then the shape of each one's features."""
        read = deploy(net, [self.blob])[0].inputs
        beside = {n: a for n, a in dataset.held.items() if n not in read and n != DATA}
        head = class_head(net)
        if head is not None and head.label != LABEL:
            beside[LABEL] = beside.pop(head.label)
        if dataset.classes:
            beside[CLASSES] = np.array(dataset.classes)
        self.beside: dict[str, Array] = beside
        """What goes with the features: the labels, other targets, the names of the classes."""

    def write(self, path: Path) -> None:
        """An `.npz` that is a data set; DataError if it cannot be written."""
        data = Entry(self.shape, np.dtype(np.float32), self._parts())
        entries = {DATA: data} | {name: Entry.of(array) for name, array in self.beside.items()}
        size = sum(entry.nbytes for entry in entries.values())
        stream_durably(path, npz_chunks(entries), size)

    def _parts(self) -> Iterator[Array]:
        for _, parts in self._predictor.parts(self._weights):
            yield parts[self.blob]


def _blob(net: Net, layer: str) -> str:
    """The first top of a layer, or the blob of that name; what a loss predicts is one."""
    tops = {node.name: node.tops[0] for node in net.nodes if node.tops}
    blobs = {top for node in net.nodes for top in node.tops} | predictions(net).keys()
    if layer in blobs:
        return layer
    if layer not in tops:
        raise UsageError(f"there is no layer `{layer}`{suggest(layer, sorted({*tops, *blobs}))}")
    return tops[layer]
