"""The nets of the corpus as OpenCV's Caffe importer takes them, and weights to compare with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod, sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from netspec.caffe import forms
from netspec.caffe.holders import is_batch_norm
from netspec.caffe.parts import CaffeLayer
from netspec.caffe.state import NetState, filter_net
from netspec.caffe.upgrade import Wishes
from netspec.caffe.weights import save_caffemodel
from netspec.compiler import Spec, elaborate, read
from netspec.diagnostics import Diagnostics, Source
from netspec.grammar.ast import Element
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.types import Shape

from ..caffe.corpus import Entry

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

DATA = frozenset(
    f"{kind}Data" for kind in ("", "Image", "HDF5", "Memory", "Window", "Dummy", "Annotated")
)
LEFT_OUT = frozenset(
    {
        "Accuracy", "ContrastiveLoss", "DetectionOutput", "MultiStageMeanfield", "SoftmaxWithLoss",
        "Yolov3DetectionOutput",
    }
)  # fmt: skip
"""Ends of nets that OpenCV does not have or netspec does not run."""

FACTORS = (1, 0.25, 3, 999.5)
"""What Caffe divides the statistics of a BatchNorm by."""
FLOOR = 1e-2
"""The least variance of a channel."""

cv2.setLogLevel(0)  # it logs what it raises, too


def is_deploy(entry: Entry) -> bool:
    """Whether a net is fed one blob, and has no data layer."""
    if entry.kind != "net" or entry.types & (DATA | {"Python"}):
        return False
    text = re.sub(r"#.*", "", entry.path.read_text(encoding="utf-8", errors="replace"))
    inputs = re.findall(r"(?m)^\s*input\s*:|type\s*:\s*[\"']Input[\"']", text)
    return len(inputs) == 1


@dataclass(frozen=True)
class Case:
    """A net of the corpus that is fed one blob, beside its label."""

    entry: Entry
    batch: int | None = None
    """Samples at once; those of the file unless given."""

    @cached_property
    def spec(self) -> Spec:
        """A net that says what it is fed is taken by its word."""
        shapes = {} if is_deploy(self.entry) else self.entry.wishes.shapes
        return read(str(self.entry.path), wishes=Wishes(shapes=shapes, lenient=self.lenient))

    @property
    def lenient(self) -> bool:
        """Whether strict Caffe refuses it: for an end that is not run, or V1's CROP of a fork."""
        ends = {"Yolov3DetectionOutput", "MultiStageMeanfield"}
        return bool(self.entry.types & ends) or self.entry.accepted.startswith("fails")

    @cached_property
    def net(self) -> Net:
        return elaborate(self.spec, batch=self.batch).test.net

    @cached_property
    def fed(self) -> tuple[str, Shape]:
        """The blob that is fed, and its shape."""
        ((name, type),) = [(n, t) for n, t in self.net.inputs.items() if n != "label"]
        return name, type.shape

    @cached_property
    def nodes(self) -> list[Node]:
        """The layers that OpenCV has, too."""
        return [
            node
            for node in self.net.nodes
            if node.layer.role is Role.HIDDEN and _word(node) not in LEFT_OUT
        ]

    @cached_property
    def probes(self) -> list[str]:
        """The blobs that none of these layers reads, what a Softmax reads, and two on the way."""
        made = list(dict.fromkeys(top for node in self.nodes for top in node.tops))
        read = {bottom for n in self.nodes for bottom in n.bottoms if bottom not in n.tops}
        logits = [n.bottoms[0] for n in self.nodes if _word(n) == "Softmax"]
        wanted = {made[len(made) // 4], made[len(made) // 2], *logits} | (set(made) - read)
        return [blob for blob in made if blob in wanted]

    @cached_property
    def constants(self) -> set[str]:
        """The blobs that no sample changes: boxes, and what is made of them alone."""
        found: set[str] = set()
        for node in self.nodes:
            if _word(node) == "PriorBox" or found.issuperset(node.bottoms):
                found.update(node.tops)
        return found

    @cached_property
    def text(self) -> str:
        """The file, or what phase TEST has of it, fed by an `input`: OpenCV looks at no rules."""
        text = self.entry.path.read_text(encoding="utf-8")
        ruled = re.search(r"\b(in|ex)clude\b", text)
        if is_deploy(self.entry) and not (ruled or self.lenient):
            return text
        tree = parse(Source(self.entry.file, text))
        tree = forms.upgrade_net(tree, lenient=True, diagnostics=Diagnostics())
        tree = filter_net(tree, NetState(Phase.TEST), diagnostics=Diagnostics())
        layers = [i for i in tree.items if isinstance(i, Element) and i.word == "layer"]
        kept = [e for e in layers if _kept(CaffeLayer.of(e))]
        name, shape = self.fed
        dims = " ".join(f"dim: {extent}" for extent in shape)
        head = f'input: "{name}" input_shape {{ {dims} }}\n'
        return head + to_text(replace(tree, items=tuple(kept)))

    def imported(self, arrays: Arrays) -> Any:
        """OpenCV's net, computed layer by layer: it fuses some wrongly."""
        caffemodel = b"".join(save_caffemodel(self.net, arrays))
        net = cv2.dnn.readNetFromCaffe(
            np.frombuffer(self.text.encode(), np.uint8), np.frombuffer(caffemodel, np.uint8)
        )
        net.enableFusion(False)
        net.enableWinograd(False)
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        return net

    def layers(self, net: Any) -> list[tuple[int, str]]:
        """Number and name of OpenCV's layers for `nodes`: in the same order, some renamed.

        Where it normalises by the batch, it puts a layer `…/mvn` before the BatchNorm.
        """
        names = enumerate(net.getLayerNames(), 1)
        return [(i, name) for i, name in names if not name.endswith("/mvn")]

    def forward(self, arrays: Arrays, x: Array, blobs: Sequence[str]) -> list[Array]:
        """Blobs as OpenCV computes them; the last layer that writes one has its final values."""
        net = self.imported(arrays)
        written = zip(self.nodes, self.layers(net), strict=True)
        last = {top: name for node, (_, name) in written for top in node.tops}
        net.setInput(x, self.fed[0])
        found: list[Array] = net.forward([last[blob] for blob in blobs])
        return found

    def zeros(self) -> Arrays:
        """Weights that only have shapes."""
        shapes = {p.name: p.shape for p in self.net.parameters}
        shapes |= {name: s.shape for name, s in self.net.statistics.items()}
        return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def drawn(self, x: Array) -> Arrays:
        """Weights that keep activations of order 1, with the statistics of `x`."""
        rng = np.random.default_rng(8)
        arrays = self.zeros()
        for parameter in self.net.parameters:
            arrays[parameter.name] = _drawn(rng, parameter.name, parameter.shape)
        norms = [node for node in self.net.nodes if is_batch_norm(node)]
        for node in norms:  # what changes nothing
            arrays[f"{node.name}.running_var"] += 1 - node.layer.eps
            arrays[f"{node.name}.scale_factor"] += 1
        if norms:
            with _recording() as seen:
                net = self.imported(arrays)
                net.setInput(x, self.fed[0])
                net.forward()
            for node, (mean, variance) in zip(norms, seen, strict=True):
                if node.layer.use_global_stats is not False:
                    _keep(arrays, node.name, rng.choice(FACTORS), mean, variance)
        return arrays


def _word(node: Node) -> str:
    return node.layer.caffe.type if node.layer.caffe else ""


def _kept(layer: CaffeLayer) -> bool:
    return bool(layer.bottoms) and layer.word not in LEFT_OUT


def _float32(values: Any) -> Array:
    return np.asarray(values, np.float32)


def _drawn(rng: np.random.Generator, name: str, shape: Shape) -> Array:
    """He et al.'s filters, smaller matrices, scales and slopes near 1, and small biases."""
    if len(shape) > 1:
        gain = 2 if len(shape) > 2 else 0.25
        drawn = rng.normal(0, sqrt(gain / prod(shape[1:])), shape)
    elif name.endswith("bias"):
        drawn = rng.normal(0, 0.1, shape)
    else:
        drawn = rng.uniform(0.5, 1.5, shape)
    return _float32(drawn)


def _keep(arrays: Arrays, name: str, factor: float, mean: Array, variance: Array) -> None:
    """Statistics as Caffe's sums over a factor."""
    arrays[f"{name}.running_mean"] = _float32(mean * factor)
    arrays[f"{name}.running_var"] = _float32((variance + FLOOR) * factor)
    arrays[f"{name}.scale_factor"] = _float32([factor])


@contextmanager
def _recording() -> Iterator[list[tuple[Array, Array]]]:
    """OpenCV's BatchNorm normalises what it is given, and tells the mean and variance."""
    seen: list[tuple[Array, Array]] = []

    class Recorder:
        def __init__(self, params: dict[str, Any], blobs: Sequence[Array]) -> None:
            pass

        def getMemoryShapes(self, inputs: Any) -> Any:
            return inputs

        def forward(self, inputs: Sequence[Array]) -> list[Array]:
            (x,) = inputs
            axes = (0, *range(2, x.ndim))
            mean, variance = x.mean(axes, np.float64), x.var(axes, np.float64)
            seen.append((mean, variance))
            edge = (1, -1) + (1,) * (x.ndim - 2)
            return [_float32((x - mean.reshape(edge)) / np.sqrt(variance + FLOOR).reshape(edge))]

    cv2.dnn_registerLayer("BatchNorm", Recorder)
    try:
        yield seen
    finally:
        cv2.dnn_unregisterLayer("BatchNorm")
