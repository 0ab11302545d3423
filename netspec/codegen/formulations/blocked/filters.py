"""Filters in the order in which blocked convolutions read them, made from ONNX's in each step."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from netspec.codegen.formulation import Forms
from netspec.codegen.formulations.slide import Slide
from netspec.ir.graph import Value
from netspec.ir.phrases import reshape


def _whole(forms: Forms, w: Value, slide: Slide) -> Value:
    """Filters with zeros where the last blocks are not full; a single channel stays single."""
    m, c, *_ = w.type.shape
    plain = forms.lengthened(forms.plain(w), forms.whole(m))
    return plain if slide.group > 1 and c == 1 else forms.lengthened(plain, forms.whole(c), axis=1)


def forward_filters(forms: Forms, w: Value, slide: Slide) -> Value:
    """[m/b][c/b][taps][b of c][b of m] in memory; depthwise [m/b][taps][b of m]."""

    def make() -> Value:
        op, block, whole = forms.op, forms.block, _whole(forms, w, slide)
        m, c, *kernel = whole.type.shape
        taps = prod(kernel)
        lines = op.ReorderInput(reshape(op, whole, 1, m, 1, c * taps), channels=m)
        if taps > 1 and c > 1:
            lines = reshape(op, lines, m // block, c // block, block, taps, block)
            lines = op.Transpose(lines, perm=(0, 1, 3, 2, 4))
        return reshape(op, lines, m, c, *kernel)

    return forms.once(("forward", w, slide.group), make)


def backward_filters(
    forms: Forms, w: Value, slide: Slide, rows: Sequence[int], columns: Sequence[int]
) -> Value:
    """The taps of `rows` x `columns` as filters from ȳ to x̄: in and out exchanged in each group.

    In memory [c/b][m/b of the group][taps][b of m][b of c].
    """
    op, block, group = forms.op, forms.block, slide.group
    m, c, *kernel = _whole(forms, w, slide).type.shape
    taps = prod(kernel)
    tap = np.array([i * kernel[1] + j for i in rows for j in columns])
    if group > 1 and c == 1:
        lines = reshape(op, forward_filters(forms, w, slide), m // block * taps, block)
        picked = np.arange(m // block)[:, None] * taps + tap
        got = op.Gather(lines, op.constant(picked.ravel().astype(np.int32)), axis=0)
        return reshape(op, got, m, 1, len(rows), len(columns))

    def make() -> Value:
        whole = _whole(forms, w, slide)
        if taps > 1:
            whole = op.ReorderInput(reshape(op, whole, m, c, 1, taps), channels=c)
        return reshape(op, whole, m * (c // block) * taps, block)

    lines = forms.once(("lines", w), make)
    out, into = group * c // block, m // group // block
    outer, inner, chosen, lane = np.meshgrid(
        np.arange(out), np.arange(into), tap, np.arange(block), indexing="ij"
    )
    own = outer // (c // block)  # the group
    filter = (own * into + inner) * block + lane
    picked = (filter * (c // block) + outer % (c // block)) * taps + chosen
    got = op.Gather(lines, op.constant(picked.ravel().astype(np.int32)), axis=0)
    return reshape(op, got, group * c, m // group, len(rows), len(columns))
