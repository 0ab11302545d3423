"""Receptive fields: which cells of the input a value of each blob can see, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import TypeAlias

from netspec.ir.layer import Role
from netspec.ir.net import Net, Node
from netspec.ir.types import Shape, TensorType
from netspec.ir.window import Window

Extent: TypeAlias = "tuple[int | Fraction, ...]"
"""One number per spatial axis, in cells of the input; a fraction behind what enlarges an image."""


@dataclass(frozen=True, slots=True)
class Receptive:
    """What the values of a blob see of the input that they come from, per spatial axis.

    The padding around an input counts as cells of it, so that neither depends on where in the
    image a value lies (Araujo, Norris, Sim: Computing Receptive Fields of CNNs, distill.pub 2019).
    """

    size: Extent
    """Cells from the first to the last that a value sees; the largest along branches."""
    jump: Extent
    """Cells between what two neighbouring values see."""
    first: Extent
    """The first cell that the first value sees, counted from 0; negative in the padding."""
    cells: Shape
    """How many values lie along the axis; those of a blob without axes are of its last image."""

    @property
    def offset(self) -> Extent:
        """The centre of what the first value sees, as a cell counted from 0."""
        return tuple(a + Fraction(n - 1, 2) for a, n in zip(self.first, self.size, strict=True))


def receptive_fields(net: Net) -> dict[str, Receptive | None]:
    """The receptive field of the top of each layer, by the layer's name.

    None where nothing leads to an input with spatial axes, behind a layer that sees what the data
    say, and for losses and metrics.
    """
    blobs: dict[str, Receptive | None] = {}
    found: dict[str, Receptive | None] = {}
    lost: set[str] = set()  # blobs of which that is not known, and all that see them
    for node in net.nodes:
        seen = None
        if node.layer.role is Role.INPUT:
            seen = _single_cells(node.top_types[0])
        elif not node.layer.traceable(node.bottom_types) or lost.intersection(node.bottoms):
            lost.update(node.tops)
        elif node.layer.role is Role.HIDDEN:
            seen = _joined([blobs.get(bottom) for bottom in node.bottoms])
            seen = None if seen is None else _through(node, seen)
        blobs.update(dict.fromkeys(node.tops, seen))
        found[node.name] = seen
    return found


def _single_cells(image: TensorType) -> Receptive | None:
    """An input sees itself."""
    if not image.spatial:
        return None
    ones = (1,) * len(image.spatial)
    return Receptive(ones, ones, (0,) * len(ones), image.spatial)


def _joined(fields: Sequence[Receptive | None]) -> Receptive | None:
    """From the first cell to the last that any of the branches sees."""
    known = [field for field in fields if field is not None]
    if len(known) == 1:
        return known[0]
    if not known or len({len(field.size) for field in known}) > 1:
        return None
    first = tuple(map(min, zip(*(field.first for field in known), strict=True)))
    ends = (tuple(map(sum, zip(f.first, f.size, strict=True))) for f in known)
    last = tuple(map(max, zip(*ends, strict=True)))
    size = tuple(b - a for a, b in zip(first, last, strict=True))
    jump = tuple(map(max, zip(*(field.jump for field in known), strict=True)))
    return replace(known[0], size=size, jump=jump, first=first)


def _through(node: Node, seen: Receptive) -> Receptive | None:
    """What the top of a layer sees, whose bottoms see `seen`."""
    bottom, top = node.bottom_types[0], node.top_types[0]
    window = node.layer.window(node.bottom_types)
    if window is None and _sees_all(node):
        ones = (1,) * len(seen.cells)
        window = Window(seen.cells, ones, (0,) * len(ones), ones)
    if window is not None:
        if len(window.kernel) != len(seen.cells):
            return None
        seen = _enlarged(seen, window) if window.transposed else _widened(seen, window)
    if not top.spatial:
        cells = (1,) * len(seen.cells) if window is not None else seen.cells
        return replace(seen, cells=cells)
    if len(top.spatial) != len(seen.cells):
        return None if bottom.spatial else replace(seen, cells=seen.cells)
    return replace(seen, cells=top.spatial)


def _sees_all(node: Node) -> bool:
    """Whether a layer without a window mixes all cells of its bottom.

    It does if it multiplies, or if it leaves no axes and fewer values; else it moves values.
    """
    (bottom, *_), top = node.bottom_types, node.top_types[0]
    if node.parameters and node.layer.macs(node.bottom_types):
        return not top.spatial
    return bool(bottom.spatial) and not top.spatial and prod(top.sample) < prod(bottom.sample)


def _widened(seen: Receptive, window: Window) -> Receptive:
    """A window of cells that each see `seen`."""
    axes = zip(seen.size, seen.jump, seen.first, window.reach, window.pad, strict=True)
    size, first = [], []
    for cells, jump, start, reach, pad in axes:
        size.append(cells + (reach - 1) * jump)
        first.append(start - pad * jump)
    jumps = tuple(jump * s for jump, s in zip(seen.jump, window.stride, strict=True))
    return replace(seen, size=tuple(size), jump=jumps, first=tuple(first))


def _enlarged(seen: Receptive, window: Window) -> Receptive:
    """A window that each cell is spread over: a value sees the cells whose windows reach it.

    These are ⌈reach / stride⌉ at most, and their centre lies at (value + pad - (reach - 1) / 2) /
    stride cells of the bottom.
    """
    axes = zip(seen.size, seen.jump, seen.offset, window.reach, window.stride, window.pad,
               strict=True)  # fmt: skip
    size, jumps, first = [], [], []
    for cells, jump, offset, reach, stride, pad in axes:
        size.append(cells + (-(-reach // stride) - 1) * jump)
        jumps.append(Fraction(jump, stride))
        centre = offset + (pad - Fraction(reach - 1, 2)) / stride * jump
        first.append(centre - Fraction(size[-1] - 1, 2))
    return replace(seen, size=tuple(size), jump=tuple(jumps), first=tuple(first))
