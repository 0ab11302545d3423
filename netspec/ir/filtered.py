"""What layers of sliding filters share: geometry, groups, and a bias for each filter."""

from __future__ import annotations

from typing import Any

from netspec.ir.fields import Flag, Positive, PositivePerAxis
from netspec.ir.filler import Filler
from netspec.ir.layer import ShapeError, Types, Weight, shapes
from netspec.ir.types import Shape, TensorType
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed


class Filtered(Windowed):
    """Windows whose cells are learned: how many, how apart, and how they are initialised."""

    num_output: Positive
    """Number of filters, and so of channels in the top."""
    dilation: PositivePerAxis = (1,)
    """Cells from one filter cell to the next."""
    group: Positive = 1
    """Channel groups filtered apart; as many groups as channels is depthwise."""
    bias_term: Flag = True
    """Whether each filter adds a learned bias."""
    weight_filler: Filler = Filler(type="msra")
    """How the filters are initialised."""
    bias_filler: Filler = Filler()
    """How the biases are initialised."""

    def _slide(self, x: TensorType) -> Window:
        """How the filters slide over a bottom, or over the top that they make of it."""
        stride, pad, dilation = (self._per_axis(f, x) for f in ("stride", "pad", "dilation"))
        return Window(self._kernel(x), stride, pad, dilation)

    def _learned(self, shape: Shape) -> tuple[Weight, ...]:
        """The filters, of a shape with the kernel behind, and their biases."""
        weight = Weight("weight", shape, self.weight_filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", (self.num_output,), self.bias_filler)

    def _check_groups(self, x: TensorType, made: str) -> None:
        """A ShapeError unless the groups divide the channels and what the layer has `made`."""
        for count, what in ((x.channels, "channels of the bottom"), (self.num_output, made)):
            if count % self.group:
                raise ShapeError(f"{self.group} groups do not divide {count} {what}", field="group")

    def _check_alike(self, bottoms: Types) -> None:
        """A ShapeError unless the same weights fit all bottoms."""
        alike = {(len(x.shape), x.shape[1:2]) for x in bottoms}
        if len(alike) > 1:
            raise ShapeError(f"one weight does not fit {shapes(bottoms)}: channels differ")

    def _attrs(self, x: TensorType) -> dict[str, Any]:
        """The filters as ONNX's Conv and ConvTranspose want them said."""
        window = self._slide(x)
        return {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "pads": window.pads,
            "dilations": window.dilation,
            "group": self.group,
        }
