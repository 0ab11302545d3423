"""The memory of a forward pass, read off the blobs of a net: its peak, and Caffe's own sum."""

from __future__ import annotations

from collections import Counter

from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.types import TensorType

FLOAT = 4
"""Bytes of a float32."""


def nbytes(type: TensorType, value_bytes: int = FLOAT) -> int:
    """Bytes of a blob whose numbers take `value_bytes` each; labels keep their own size."""
    return type.numel * (value_bytes if type.dtype == "float32" else type.itemsize)


def forward_peak(net: Net, value_bytes: int = FLOAT, block: int = 0) -> int:
    """Bytes of the blobs alive at once, the worst moment of a forward pass.

    Runtimes let an activation take its bottom's place and a flattened blob lie where it lay, unless
    that is fed or read again. In TEST they also fold a normalisation into the convolution before
    it, and let a convolution add its result to what it is added to behind it. `block` is how many
    channels the CPU's convolutions compute together: the top of one whose channels that does not
    divide is made in whole blocks, and copied. 0 where there are none.
    """
    dies, places = _last_reads(net), _Placement(net).places
    alive: dict[str, int] = {"label": nbytes(net.label)} if net.label else {}
    total = sum(alive.values())
    peak = total
    for i, node in enumerate(net.nodes):
        for taken, reader in places[i]:
            if taken in alive and dies[taken] == reader and node.tops[0] not in alive:
                alive[node.tops[0]] = alive.pop(taken)
        for name, type in zip(node.tops, node.top_types, strict=True):
            if name not in alive:
                alive[name] = nbytes(type, value_bytes)
                total += alive[name]
        peak = max(peak, total + _in_blocks(node, value_bytes, block))
        for name in {*node.bottoms, *node.tops}:
            if dies.get(name, len(net.nodes)) == i:
                total -= alive.pop(name, 0)
    return peak


def caffe_bytes(net: Net) -> int:
    """Caffe's "Memory required for data": 4 bytes for each value of the tops of all its layers.

    In-place tops count again, and so do the copies of a blob that several layers read, since
    Caffe splits it; a label is a top of the data. Its training nets leave metrics to TEST.
    Source: `Net::Init`, `InsertSplits`, BVLC/caffe.
    """
    nodes = [n for n in net.nodes if n.layer.role is not Role.METRIC or net.phase is Phase.TEST]
    version: dict[str, str] = {}
    reads: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    if net.label:
        version["label"], sizes["label"] = "label", net.label.numel
    for node in nodes:
        reads.update(version[bottom] for bottom in node.bottoms)
        for top, type in zip(node.tops, node.top_types, strict=True):
            version[top] = f"{node.name}:{top}"
            sizes[version[top]] = type.numel
            reads[version[top]] += any(top == name for name, _ in node.weighed)
    split = sum(reads[blob] * count for blob, count in sizes.items() if reads[blob] > 1)
    return FLOAT * (sum(sizes.values()) + split)


class _Placement:
    """Which dead blobs' places the tops of a net may take, see `forward_peak`."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._fed = net.inputs
        self._reads = Counter(bottom for node in net.nodes for bottom in node.bottoms)
        self._makers = {top: i for i, n in reversed([*enumerate(net.nodes)]) for top in n.tops}
        self.places: list[list[tuple[str, int]]] = [[] for _ in net.nodes]
        """For each node the blobs, and the last that may read one: itself, or the sum behind it."""
        for i, node in enumerate(net.nodes):
            if node.layer.role is Role.HIDDEN and len(node.tops) == 1:
                self._find(i, node)

    def _find(self, i: int, node: Node) -> None:
        if len(node.bottoms) == 2 and self._net.phase is Phase.TEST and _adds(node):
            self._find_sum(i, node)
        elif len(node.bottoms) == 1 and node.bottoms[0] not in self._fed:
            (bottom,) = node.bottoms
            free = self._folds(bottom) if node.statistics else not node.parameters
            if (node.layer.in_place and free) or moves(node):
                self.places[i].append((bottom, i))

    def _find_sum(self, i: int, node: Node) -> None:
        """A convolution before a sum may add to the other bottom, and the sum does nothing then."""
        for body, other in (node.bottoms, node.bottoms[::-1]):
            blob = body
            if other in self._fed:
                continue
            while self._reads[blob] == 1 and blob in self._makers:
                made = self._makers[blob]
                if _convolves(self._net.nodes[made]):
                    self.places[i].append((body, i))
                    self.places[made].append((other, i))
                if not self._net.nodes[made].statistics:
                    break
                (blob,) = self._net.nodes[made].bottoms

    def _folds(self, bottom: str) -> bool:
        """Whether a normalisation of this blob goes into the convolution that makes it."""
        made = self._net.nodes[self._makers[bottom]]
        return self._net.phase is Phase.TEST and _convolves(made)


def _adds(node: Node) -> bool:
    """Whether a layer joins its bottoms value by value."""
    (top,) = node.top_types
    return not node.parameters and all(b.shape == top.shape for b in node.bottom_types)


def _convolves(node: Node) -> bool:
    """Whether a layer slides learned filters over an image."""
    window = node.layer.window(node.bottom_types) if node.parameters else None
    return window is not None and not window.transposed and bool(node.top_types[0].spatial)


def _in_blocks(node: Node, value_bytes: int, block: int) -> int:
    """Bytes of a convolution's top in whole blocks of channels, if those are not its own.

    Only images are made in blocks.
    """
    if not block or not _convolves(node):
        return 0
    top = max(node.top_types, key=lambda type: type.numel)
    if len(top.spatial) != 2:
        return 0
    channels = -(-top.channels // block) * block
    return 0 if channels == top.channels else nbytes(top, value_bytes) // top.channels * channels


def moves(node: Node) -> bool:
    """Whether a layer only names its values anew, as flatten does."""
    (bottom,), (top,) = node.bottom_types, node.top_types
    windowed = node.layer.window(node.bottom_types) is not None
    return not windowed and bottom.shape != top.shape and bottom.numel == top.numel


def _last_reads(net: Net) -> dict[str, int]:
    """The index of the last node that reads each blob; what nothing reads lives to the end."""
    reads = dict.fromkeys(net.outputs, len(net.nodes))
    for i, node in enumerate(net.nodes):
        for bottom in node.bottoms:
            reads[bottom] = max(i, reads.get(bottom, 0))
    return reads
