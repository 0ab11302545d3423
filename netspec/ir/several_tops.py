"""Layers whose tops follow from how many the spec names."""

from __future__ import annotations

from typing import Self

from pydantic import PrivateAttr

from netspec.ir.layer import Layer


class SeveralTops(Layer):
    """One top, and others for who names them."""

    _count: int = PrivateAttr(default=1)

    def with_tops(self, count: int) -> Self:
        named = self.model_copy()
        named._count = count
        return named
