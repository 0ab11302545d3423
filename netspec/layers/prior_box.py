"""Prior boxes: where a detector looks, and in which shapes."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Flag, Positive, PositiveReal, Real, Says, many
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, checked, image
from netspec.ir.types import TensorType

if TYPE_CHECKING:
    import numpy.typing as npt

_Sizes = Annotated[tuple[PositiveReal, ...], BeforeValidator(many), Says("numbers above 0")]


class PriorBox(Layer):
    """1 x 2 x 4 for each box: its corners x1, y1, x2, y2 in parts of the image, its variances.

    Every cell of the first bottom has, for each size, a square of `min_size`, one of
    √(min_size · max_size), and for each aspect ratio a box of √ratio times the breadth and 1/√ratio
    times the height of the first. The second bottom is the image. Of both only the shape counts
    (SSD, Liu et al. 2016, arXiv:1512.02325; `prior_box_layer.cpp` of its fork of Caffe, which takes
    sizes as whole numbers).
    """

    keyword: ClassVar = "prior_box"
    caffe: ClassVar = CaffeType("PriorBox", "prior_box_param")
    bottoms: ClassVar = range(2, 3)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "map" { num_output: 8  kernel_size: 4  stride: 4 }
        prior_box { bottom: "map"  bottom: "data"  min_size: 8  max_size: 16  aspect_ratio: 2 }
    """

    min_size: _Sizes
    """Sides of the smaller squares, in cells of the image."""
    max_size: _Sizes = ()
    """What each larger square lies half-way to; none, or as many as min_size."""
    aspect_ratio: _Sizes = ()
    """Breadth by height of other boxes; 1 is always there."""
    flip: Flag = True
    """Whether each aspect ratio stands for its inverse, too."""
    clip: Flag = False
    """Whether boxes end where the image does."""
    variance: _Sizes = (0.1,)
    """One for all, or one for each of x1, y1, x2, y2: what offsets are multiplied by."""
    img_size: Positive | None = None
    """Height and breadth of the image, instead of the second bottom's."""
    img_h: Positive | None = None
    """Height of the image, with `img_w`."""
    img_w: Positive | None = None
    """Breadth of the image, with `img_h`."""
    step: PositiveReal | None = None
    """Cells of the image from one centre to the next; unless given, they fill the image."""
    step_h: PositiveReal | None = None
    """Vertical step, with `step_w`."""
    step_w: PositiveReal | None = None
    """Horizontal step, with `step_h`."""
    offset: Real = 0.5
    """Where in its cell a centre lies."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        cells, _ = (image([x]) for x in bottoms)
        for whole, sides in (("img_size", ("img_h", "img_w")), ("step", ("step_h", "step_w"))):
            given = [side for side in sides if getattr(self, side) is not None]
            if given and getattr(self, whole) is not None:
                raise ShapeError(f"{whole} excludes {given[0]}", field=given[0])
            if len(given) == 1:
                raise ShapeError(f"{sides[0]} and {sides[1]} go together", field=given[0])
        if len(self.variance) not in (1, 4):
            raise ShapeError(f"takes 1 variance or 4, not {len(self.variance)}", field="variance")
        self._check_sizes()
        h, w = cells.spatial
        return checked(cells.with_shape(1, 2, 4 * h * w * len(self._shapes())))

    def _check_sizes(self) -> None:
        if self.max_size and len(self.max_size) != len(self.min_size):
            raise ShapeError(
                f"{len(self.min_size)} min_size, but {len(self.max_size)} max_size",
                field="max_size",
            )
        if min(self.min_size, default=0) < 1:
            raise ShapeError("min_size must be at least 1", field="min_size")
        for small, large in zip(self.min_size, self.max_size, strict=False):
            if large <= small:
                raise ShapeError(f"max_size {large:g} must be above min_size {small:g}",
                                 field="max_size")  # fmt: skip

    def _ratios(self) -> list[float]:
        """The aspect ratios beside 1, each once."""
        ratios = [1.0]
        for ratio in self.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios += [ratio, 1 / ratio] if self.flip else [ratio]
        return ratios[1:]

    def _shapes(self) -> list[tuple[float, float]]:
        """Breadth and height of the boxes of a cell, in cells of the image."""
        shapes: list[tuple[float, float]] = []
        for i, size in enumerate(self.min_size):
            small = float(int(size))
            shapes.append((small, small))
            if self.max_size:
                large = sqrt(small * int(self.max_size[i]))
                shapes.append((large, large))
            shapes += [(small * sqrt(ratio), small / sqrt(ratio)) for ratio in self._ratios()]
        return shapes

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        import numpy as np

        cells, picture = (x.type.spatial for x in bottoms)
        corners = self._corners(cells, picture)
        boxes = corners.reshape(-1, 4)
        variances = np.broadcast_to(np.array(self.variance), boxes.shape)
        both = np.stack([boxes.ravel(), variances.ravel()])[None]
        return (context.op.Identity(context.op.constant(both.astype(np.float32))),)

    def _corners(self, cells: tuple[int, ...], picture: tuple[int, ...]) -> npt.NDArray[Any]:
        """Rows x columns x boxes x 4, in parts of the image."""
        import numpy as np

        sides = (self.img_h, self.img_w)
        height, width = (self.img_size or a or b for a, b in zip(sides, picture, strict=True))
        steps = (
            self.step or given or whole / n
            for given, whole, n in zip(
                (self.step_h, self.step_w), (height, width), cells, strict=True
            )
        )
        y, x = ((np.arange(n) + self.offset) * s for n, s in zip(cells, steps, strict=True))
        half = np.array(self._shapes()) / 2
        top, bottom = (y[:, None, None] + sign * half[:, 1] for sign in (-1, 1))
        left, right = (x[None, :, None] + sign * half[:, 0] for sign in (-1, 1))
        shape = (*cells, len(half))
        parts = [left / width, top / height, right / width, bottom / height]
        corners = np.stack([np.broadcast_to(part, shape) for part in parts], -1)
        return corners.clip(0, 1) if self.clip else corners
