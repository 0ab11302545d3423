"""How the filters of a convolution slide, and what that asks of its gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from netspec.ir.graph import Op
from netspec.ir.types import Shape


@dataclass(frozen=True, slots=True)
class Slide:
    """How the filters slide, one entry per spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    group: int

    @classmethod
    def of(cls, node: Op) -> Slide:
        """The window of a convolution or of one of its gradients; pads are symmetric."""
        attrs, kernel = node.attrs, tuple(node.attrs["kernel_shape"])
        rank = len(kernel)
        pads, ones = tuple(attrs.get("pads", (0, 0) * rank)), (1,) * rank
        assert pads[:rank] == pads[rank:], f"{node.name}: asymmetric pads {pads}"
        return cls(
            kernel,
            tuple(attrs.get("strides", ones)),
            pads[:rank],
            tuple(attrs.get("dilations", ones)),
            attrs.get("group", 1),
        )

    @property
    def attrs(self) -> dict[str, Any]:
        """As ONNX's Conv and ConvTranspose want it."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.pad + self.pad,
            "dilations": self.dilation,
            "group": self.group,
        }

    def reach(self, extent: Shape) -> Shape:
        """Cells, padding included, from the first to the last that `extent` windows read."""
        return tuple(
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(extent, self.stride, self.dilation, self.kernel, strict=True)
        )

    def padded_within(self) -> bool:
        """Whether every window holds a cell: going back then takes padding, not cropping."""
        return all(
            p <= d * (k - 1) for p, d, k in zip(self.pad, self.dilation, self.kernel, strict=True)
        )

    def transposable(self) -> bool:
        """Whether a convolution with mirrored filters slides back over what this one made."""
        return set(self.stride) == {1} and self.padded_within()

    def with_stride(self, *stride: int) -> Slide:
        """The same window with other steps."""
        return replace(self, stride=stride)

    def spare(self, extent: Shape) -> Shape:
        """Cells at the end of each padded axis of `extent` cells that no window reads."""
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) % s
            for n, p, d, k, s in zip(
                extent, self.pad, self.dilation, self.kernel, self.stride, strict=True
            )
        )


def depthwise(shape: Shape, group: int) -> bool:
    """Whether filters of `shape` take one channel each and give one."""
    return 1 < group == shape[0] and shape[1] == 1


def in_blocks(block: int, shape: Shape, group: int) -> bool:
    """Whether onnxruntime's blocked convolution takes filters of `shape` in groups."""
    m, c, *_ = shape
    if group == 1:
        return True
    if depthwise(shape, group):
        return m % block == 0
    return c % block == 0 and m // group % block == 0
