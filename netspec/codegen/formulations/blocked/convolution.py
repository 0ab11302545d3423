"""Convolution and its gradient for the input, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from netspec.codegen.formulation import Forms, Sight, formulation, is_image
from netspec.codegen.formulations.blocked.filters import backward_filters, forward_filters
from netspec.codegen.formulations.blocked.words import (
    Ending,
    convolve,
    cropped,
    ending,
    interleaved,
    rescale,
    widened,
)
from netspec.codegen.formulations.phases import Phase, can_convolve, phases
from netspec.codegen.formulations.slide import Slide, in_blocks
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import reshape
from netspec.ir.types import Shape


def _accepts(sight: Sight, node: Op) -> bool:
    """Images whose groups fill whole blocks; one group may have any channels."""
    x, w, *_ = node.inputs
    assert w is not None
    return is_image(x) and in_blocks(sight.block, w.type.shape, node.attrs.get("group", 1))


@formulation("Conv", "blocked", layout="blocked", accepts=_accepts, joins=True)
def conv(forms: Forms, node: Op) -> Sequence[Value]:
    """y = conv(x, w) + b; x plain if it has fewer channels than a block."""
    x, w, *rest = node.inputs
    assert x is not None
    assert w is not None
    slide, last = Slide.of(node), ending(forms, node)
    whole = forms.whole(w.type.shape[0])
    bias = forms.lengthened(forms.plain(rest[0]), whole) if rest and rest[0] else None
    if x.type.channels % forms.block == 0:
        cells, slide = subsampled(forms, x, slide)
        cells, pads = padded(forms, cells, slide)
        parts, filters = [cells], [forward_filters(forms, w, slide)]
    else:
        pads = slide.pad + slide.pad
        parts = narrow(forms, x)
        filters = narrow_filters(forms, w, [part.type.channels for part in parts])
    y = last["added"]
    for part, taps in zip(parts, filters, strict=True):
        end = part is parts[-1]
        y = convolve(
            forms.op, part, taps, bias if end else None, y, stride=slide.stride, pads=pads,
            dilation=slide.dilation, group=slide.group,
            activation=last["activation"] if end else None,
        )  # fmt: skip
    assert y is not None
    return (y,)


def subsampled(forms: Forms, x: Value, slide: Slide) -> tuple[Value, Slide]:
    """A pointwise convolution with a stride is one without, over every s-th cell."""
    cells = forms.blocked(x)
    if set(slide.kernel) != {1} or set(slide.stride) == {1} or any(slide.pad):
        return cells, slide
    key = ("subsampled", x, slide.stride)
    cells = forms.once(key, lambda: rescale(forms, forms.blocked(x), stride=slide.stride))
    return cells, slide.with_stride(1, 1)


def padded(forms: Forms, cells: Value, slide: Slide, *, again: bool = False) -> tuple[Value, Shape]:
    """`cells` with its columns of padding, and the pads that are left for the convolution.

    Columns are added before, since inside of the convolution they take a slow path; rows of
    padding cost nothing there. The columns at the end that no filter reaches are left out.
    """
    (top, left), (spare_rows, spare) = slide.pad, slide.spare(cells.type.spatial)
    if depthwise_channels(slide, cells):
        return cells, slide.pad + slide.pad
    cells = widened(forms, cells, left, max(0, left - spare), again=again)
    return cells, (top, 0, max(0, top - spare_rows), 0)


def depthwise_channels(slide: Slide, cells: Value) -> bool:
    return slide.group == cells.type.channels


def narrow(forms: Forms, x: Value) -> list[Value]:
    """Plain parts of fewer channels than a block, which convolutions read without a reorder."""
    op, plain, channels = forms.op, forms.plain(x), x.type.channels
    count = -(-channels // (forms.block - 1))
    if count == 1:
        return [plain]
    sizes = [channels // count + (i < channels % count) for i in range(count)]
    parts: Sequence[Value] = op.Split(plain, op.ints(*sizes), outputs=count, axis=1)
    return list(parts)


def narrow_filters(forms: Forms, w: Value, sizes: Sequence[int]) -> list[Value]:
    """Filters for plain parts: [m/b][c][taps][b of m] in memory, cut along c."""
    op, block = forms.op, forms.block
    m, c, *kernel = w.type.shape
    taps = kernel[0] * kernel[1]
    whole = forms.whole(m)
    flat = forms.lengthened(forms.plain(w), whole)
    lines = op.ReorderInput(reshape(op, flat, 1, whole, 1, c * taps), channels=whole)
    if len(sizes) == 1:
        return [reshape(op, lines, whole, c, *kernel)]
    lines = reshape(op, lines, whole // block, c, taps * block)
    parts = op.Split(lines, op.ints(*sizes), outputs=len(sizes), axis=1)
    return [reshape(op, v, whole, n, *kernel) for v, n in zip(parts, sizes, strict=True)]


def _can_go_back(sight: Sight, node: Op) -> bool:
    y_bar, w = node.inputs
    assert w is not None
    shape, slide = node.attrs["shape"], Slide.of(node)
    if not is_image(y_bar) or not in_blocks(sight.block, w.type.shape, slide.group):
        return False
    if shape[1] % sight.block:
        return False
    if pointwise(slide) or set(slide.stride) == {1}:
        return slide.padded_within()
    assert y_bar is not None
    return set(slide.dilation) == {1} and all(
        map(can_convolve, _phases(slide, shape[2:], y_bar.type.spatial))
    )


def pointwise(slide: Slide) -> bool:
    """One tap, no padding: a product per cell."""
    return set(slide.kernel) == {1} and not any(slide.pad)


@formulation("ConvGradInput", "blocked", layout="blocked", accepts=_can_go_back, joins=True)
def conv_grad_input(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = a convolution of ȳ by the filters mirrored, one for every phase of the stride."""
    y_bar, w = node.inputs
    assert y_bar is not None
    assert w is not None
    slide, shape = Slide.of(node), node.attrs["shape"]
    cells = forms.blocked(y_bar)
    if set(slide.stride) == {1}:
        taps = [list(range(k))[::-1] for k in slide.kernel]
        filters = backward_filters(forms, w, slide, taps[0], taps[1])
        back = tuple(
            d * (k - 1) - p for d, k, p in zip(slide.dilation, slide.kernel, slide.pad, strict=True)
        )
        return (
            convolve(
                forms.op, cells, filters, pads=back + back, dilation=slide.dilation,
                group=slide.group, **ending(forms, node),
            ),
        )  # fmt: skip
    if pointwise(slide):
        x_bar = _spread(forms, cells, w, slide)
    else:
        x_bar = _by_phases(forms, cells, w, slide, shape)
    x_bar = cropped(forms, x_bar, *shape[2:])
    return (_finished(forms, x_bar, ending(forms, node)),)


def _of_one_group(_: Sight, node: Op) -> bool:
    return is_image(node.inputs[0]) and node.attrs.get("group", 1) == 1


@formulation("ConvGradInput", "columns", layout="blocked", accepts=_of_one_group, blocked=())
def columns(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = col2im(wᵀ·ȳ), for a number of channels that fills no blocks.

    ConvTranspose is the same to the last bit, image by image, each product a call of its own; here
    the columns of all images lie in memory together.
    """
    y_bar, w = node.inputs
    assert y_bar is not None
    assert w is not None
    op, slide = forms.op, Slide.of(node)
    n, m, *extent = y_bar.type.shape
    per_cell = prod(w.type.shape[1:])
    taps = op.Transpose(reshape(op, forms.plain(w), m, per_cell), perm=(1, 0))
    lines = op.MatMul(taps, reshape(op, forms.plain(y_bar), n, m, prod(extent)))
    x_bar: Value = op.Col2Im(
        lines, op.ints(*node.attrs["shape"][2:]), op.ints(*slide.kernel),
        strides=slide.stride, pads=slide.pad + slide.pad, dilations=slide.dilation,
    )  # fmt: skip
    return (x_bar,)


def _finished(forms: Forms, x: Value, last: Ending) -> Value:
    if last["added"] is not None:
        x = forms.op.Add(last["added"], x)
    return forms.op.Relu(x) if last["activation"] else x


def _spread(forms: Forms, cells: Value, w: Value, slide: Slide) -> Value:
    """One tap: a product per cell of ȳ, and zeros between the results."""
    filters = backward_filters(forms, w, slide, [0], [0])
    some = convolve(forms.op, cells, filters, group=slide.group)
    none = forms.op.constant(np.zeros(some.type.shape, np.float32))
    rows, columns = slide.stride
    return interleaved(
        forms,
        [[some if r == c == 0 else none for c in range(columns)] for r in range(rows)],
    )


def _by_phases(forms: Forms, cells: Value, w: Value, slide: Slide, shape: Shape) -> Value:
    """Cells of x̄ that lie alike between the windows make a convolution of their own."""
    height, width = _phases(slide, shape[2:], cells.type.spatial)
    found: list[list[Value]] = []
    for row in height:
        found.append([])
        for column in width:
            filters = backward_filters(forms, w, slide, row.indices, column.indices)
            (top, bottom), (left, right) = row.pads, column.pads
            pads = (top, left, bottom, right)
            found[-1].append(convolve(forms.op, cells, filters, pads=pads, group=slide.group))
    return interleaved(forms, found)


def _phases(slide: Slide, extent: Shape, positions: Shape) -> list[list[Phase]]:
    """For both axes."""
    spans = zip(slide.kernel, slide.stride, slide.pad, extent, positions, strict=True)
    return [phases(*span) for span in spans]
