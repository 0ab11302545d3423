"""Where Caffe holds the tensors of a net: which layer's blobs, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from netspec.ir.net import Net, Node
from netspec.ir.types import Shape

MEAN, VARIANCE, FACTOR = "running_mean", "running_var", "scale_factor"
"""What batch norm keeps: Caffe's blobs 0, 1 and 2."""


OPAQUE = "opaque"
"""The keyword of layers of which only the edges are known."""


class Tensor(NamedTuple):
    """What a blob is to the net, by net-wide name."""

    name: str
    shape: Shape
    kept: bool = True
    """Whether the net has it; the factor of a batch norm only serves to read the others."""


UNUSED = Tensor("", (1,), kept=False)
"""A blob that stands for nothing."""


@dataclass(frozen=True)
class Holder:
    """A layer of Caffe's that holds tensors of the net."""

    layer: str
    type: str
    tensors: tuple[Tensor, ...]
    """What its blobs are, as BVLC's Caffe has them."""
    forks: tuple[tuple[Tensor, ...], ...] = ()
    """What they are in forks that have more of them."""
    scale: Holder | None = None
    """Of a batch norm: the layer that holds what it learns."""
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()


def holders(net: Net, names: Mapping[str, str]) -> Iterator[Holder]:
    """The layers that a Caffe net of the same meaning has, in order.

    Their blobs are a node's learned tensors and then its statistics. `names` says what a node is
    called in Caffe, where that differs.

    Batch norm is the exception: Caffe's BatchNorm holds sums of means and variances and the factor
    to divide them by, and learns nothing; weight and bias are those of a Scale behind it, here
    named `<layer>_scale`. In NVIDIA's fork they are two more blobs, and with DIGITS they came
    first; the BN of SegNet's and PSPNet's forks has weight, bias, mean and variance. A layer of
    which only the edges are known has no holder: what a file holds of it is ignored.
    """
    for node in net.nodes:
        if node.layer.keyword == OPAQUE:
            continue
        layer = names.get(node.name, node.name)
        statistics = tuple(Tensor(f"{node.name}.{s.name}", s.shape) for s in node.statistics)
        learned = tuple(Tensor(p.name, p.shape) for p in node.parameters)
        if is_batch_norm(node):
            yield from _batch_norm(node, layer, learned, statistics)
        else:
            caffe = node.layer.caffe
            word = caffe.type if caffe else node.layer.keyword
            tensors = learned + statistics
            yield Holder(layer, word, tensors, bottoms=node.bottoms, tops=node.tops)


def is_batch_norm(node: Node) -> bool:
    """Whether it stands for Caffe's BatchNorm, and not for a fork's BN of four plain blobs."""
    return node.layer.caffe is not None and node.layer.caffe.type == "BatchNorm"


def _batch_norm(
    node: Node, layer: str, learned: tuple[Tensor, ...], statistics: tuple[Tensor, ...]
) -> Iterator[Holder]:
    mean, variance, *count = statistics
    factor = count[0] if count else Tensor(f"{node.name}.{FACTOR}", (1,), kept=False)
    sums, scale = (mean, variance, factor), None
    forks: tuple[tuple[Tensor, ...], ...] = ()
    if learned:
        scale = Holder(f"{layer}_scale", "Scale", learned, bottoms=node.tops, tops=node.tops)
        means = (*learned, mean, variance)
        forks = means, (*means, UNUSED), (*sums, *learned)
    yield Holder(layer, "BatchNorm", sums, forks, scale, node.bottoms, node.tops)
    if scale is not None:
        yield scale
