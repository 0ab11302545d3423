"""The fields of a layer that slides a window over one to three spatial axes."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from netspec.ir.fields import NonNegative, NonNegativePerAxis, Positive, PositivePerAxis
from netspec.ir.layer import Layer, ShapeError, Types, numbers
from netspec.ir.types import AXES, Shape, TensorType, size
from netspec.ir.window import Window
from netspec.wording import counted

_AXES = (("kernel_size", "kernel"), ("stride", "stride"), ("pad", "pad"))
_NAMES = {1: ("cell",), 2: ("row", "column"), 3: ("plane", "row", "column")}
"""What is lost on each spatial axis, by how many there are."""
_COUNTS = {1: "one axis", 2: "two axes", 3: "three axes"}


class Windowed(Layer):
    """Kernel, stride and padding: one value, one for each axis, or Caffe's `_h` and `_w`.

    One value is for every spatial axis alike: a blob is channels x length, channels x height x
    width, or channels x depth x height x width. `_h` and `_w` are for height x width alone. After
    validation `kernel_size`, `stride` and `pad` hold one value, or one for each axis.
    """

    spatial: ClassVar[tuple[int, ...]] = (2, 1, 3)
    """How many spatial axes it slides over, the usual number first."""

    kernel_size: PositivePerAxis | None = None
    """Extent of the window on each spatial axis, such as `3` or `3x5`, in cells."""
    kernel_h: Positive | None = None
    """Height of the window, with `kernel_w` instead of `kernel_size`."""
    kernel_w: Positive | None = None
    """Width of the window, with `kernel_h` instead of `kernel_size`."""
    stride: PositivePerAxis = (1,)
    """Cells between neighbouring windows."""
    stride_h: Positive | None = None
    """Vertical stride, with `stride_w` instead of `stride`."""
    stride_w: Positive | None = None
    """Horizontal stride, with `stride_h` instead of `stride`."""
    pad: NonNegativePerAxis = (0,)
    """Cells added to each side of each spatial axis."""
    pad_h: NonNegative | None = None
    """Vertical padding, with `pad_w` instead of `pad`."""
    pad_w: NonNegative | None = None
    """Horizontal padding, with `pad_h` instead of `pad`."""

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for pair, stem in _AXES:
            height, width = data.pop(f"{stem}_h", None), data.pop(f"{stem}_w", None)
            if height is None and width is None:
                continue
            if pair in data:
                raise ValueError(f"{pair} excludes {stem}_h and {stem}_w")
            if height is None or width is None:
                given, missing = ("h", "w") if width is None else ("w", "h")
                if pair == "kernel_size":
                    raise ValueError(f"{stem}_{given} needs {stem}_{missing} beside it")
                other = 1 if stem == "stride" else 0
                height, width = (other, width) if height is None else (height, other)
            data[pair] = [height, width]
        return data

    def _blob(self, bottoms: Types) -> TensorType:
        """The one bottom, a ShapeError unless it has as many spatial axes as windows can."""
        (x,) = numbers(bottoms)
        if len(x.spatial) not in self.spatial:
            taken = (" x ".join(("channels", *AXES[count])) for count in self.spatial)
            raise ShapeError(f"takes {', or '.join(taken)}, not {size(x.sample)}")
        return x

    def _kernel(self, x: TensorType) -> Shape:
        """The window on each spatial axis; a ShapeError if none is given."""
        if self.kernel_size is None:
            raise ShapeError("needs kernel_size, or kernel_h and kernel_w")
        return self._per_axis("kernel_size", x)

    def _per_axis(self, field: str, x: TensorType) -> Shape:
        """A field's value on each spatial axis."""
        values: Shape = getattr(self, field)
        if len(values) == 1:
            return values * len(x.spatial)
        if len(values) != len(x.spatial):
            raise ShapeError(
                f"{field} {size(values)} is {' x '.join(AXES[len(values)])}, but "
                f"{size(x.sample)} has {_COUNTS[len(x.spatial)]}",
                field=field,
            )
        return values

    def _fit(self, window: Window, extent: Shape) -> None:
        """A ShapeError if the window is larger than the padded input."""
        if min(window.slack(extent)) < 0:
            padded = f" padded by {size(window.pad)}" if any(window.pad) else ""
            raise ShapeError(
                f"a window of {window} does not fit into {size(extent)}{padded}",
                field="kernel_size",
            )

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        """Planes, rows and columns at the end that no window reaches."""
        x, y, window = bottoms[0], self.infer(bottoms)[0], self.window(bottoms)
        assert window is not None
        if any(s > r for s, r in zip(window.stride, window.reach, strict=True)):
            return ()  # a window that steps over cells is meant to leave some out
        lost = window.uncovered(x.spatial, y.spatial)
        axes = [counted(n, axis) for n, axis in zip(lost, _NAMES[len(lost)], strict=True) if n]
        if not axes:
            return ()
        said = " and ".join(filter(None, (", ".join(axes[:-1]), axes[-1])))
        return (f"the windows leave out the last {said} of {size(x.spatial)}",)
