"""What a transform makes of the values: by numbers, by files, by what the training data say."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from netspec.ir.fields import Fields, Flag, NonNegativeReal, PositiveReal, Real, Reals, Text, many


class Arithmetic(Fields):
    """The fields of a transform that change values and move nothing.

    Some are measured once on the training data, for both phases, and kept by the run.
    """

    scale: Real = 1.0
    """Multiplies every value; `1/255` takes bytes to [0, 1]."""
    mean_value: Reals = ()
    """Subtracted first: one value, or one per channel, in the units of the source."""
    mean_file: Text = ""
    """A mean image that is subtracted first, `.binaryproto` or `.npy`, relative to the spec.

    It is of the images' size before they are cut, and is cut as they are.
    """
    mean: Literal["IMAGE", "CHANNEL"] | None = None
    """Subtracts the mean of the training images, or that of each channel; it is measured."""
    std: Annotated[tuple[PositiveReal, ...], BeforeValidator(many)] = ()
    """Divides last: one value, or one per channel, in units after `scale`."""
    standardize: Flag = False
    """Whether each channel becomes (x - mean) / deviation of the training data, whatever `scale`.

    Both are measured; one that never changes becomes 0.
    """
    whiten: Literal["PCA", "ZCA"] | None = None
    """Makes the values of a sample uncorrelated and of variance 1, by its principal components.

    PCA puts these out, the strongest first; ZCA turns back, so that images look like images
    (Bell & Sejnowski 1997; Stanford's CS231n). Measured on the training data less their mean and
    times `scale`, and done before all else. A sample has 3,072 values at most.
    """
    whiten_epsilon: PositiveReal = 1e-5
    """Added to the variances that `whiten` divides by the roots of."""
    pca_jitter: NonNegativeReal = 0.0
    """Shifts the colour of each image along the principal components of all training pixels.

    By a·σ of each, a normal of this deviation (Krizhevsky et al. 2012, §4.1, who use 0.1 and write
    σ² for σ, which hangs on the units); before anything moves, in TRAIN alone; 0: none.
    """
    mixup: NonNegativeReal = 0.0
    """α of mixup, which makes each sample λ·x + (1 - λ)·x', x' another of the batch; 0: none.

    After all else, and in TRAIN alone. λ is drawn for each batch from Beta(α, α). A loss is then
    λ·L(y) + (1 - λ)·L(y') for their labels, and so is a metric (Zhang et al. 2018).
    """
    cutmix: NonNegativeReal = 0.0
    """α of CutMix, which gives each image a box of another of the batch; 0: none.

    The box has 1 - λ of the area, as far as it lies in the image, and λ in the losses is what is
    left (Yun et al. 2019, algorithm A1). With `mixup`, too, a batch has one of both by lot.
    """

    @model_validator(mode="after")
    def _one_way(self) -> Arithmetic:
        for one, other in (
            *combinations(("mean_file", "mean_value", "mean", "standardize", "whiten"), 2),
            *((by, "std") for by in ("standardize", "whiten")),
            ("whiten", "pca_jitter"),
        ):
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"takes {one} or {other}, not both")
        return self
