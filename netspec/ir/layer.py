"""The layer contract: the facts a layer type declares, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import ClassVar, Protocol, TypeAlias

from netspec.ir.fields import Fields
from netspec.ir.filler import Filler
from netspec.ir.graph import Ops, Value
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window

MAX_NUMEL = 2**40
"""The most elements a tensor may have."""

Types: TypeAlias = Sequence[TensorType]
Values: TypeAlias = Sequence[Value]


class Phase(StrEnum):
    """What a net is built for, as in Caffe."""

    TRAIN = "TRAIN"
    TEST = "TEST"


class Role(StrEnum):
    """How a layer stands in the flow."""

    INPUT = "input"
    """Makes a blob out of nothing, from what it is fed."""
    SOURCE = "source"
    """Makes blobs out of nothing that nobody feeds; the first is the current blob if none is."""
    HIDDEN = "hidden"
    """Takes the current blob; its top becomes the current blob."""
    LOSS = "loss"
    """Reads the current blob and `label`, leaves the flow where it was, and is minimised."""
    METRIC = "metric"
    """Like a loss, but only reported."""
    SINK = "sink"
    """Reads blobs, makes none, and leaves the flow where it was."""


@dataclass(frozen=True, slots=True)
class CaffeType:
    """The Caffe layer type that a layer stands for."""

    type: str
    """`Convolution`, as in `layer { type: … }`."""
    param: str | None = None
    """The block that holds its fields, such as `convolution_param`."""
    v1: str | None = None
    """The enum word of V1 `layers`, such as `CONVOLUTION`."""
    also: tuple[str, ...] = ()
    """What forks of Caffe call the same layer, such as `DepthwiseConvolution`."""

    @property
    def words(self) -> tuple[str, ...]:
        """Every word for it in Caffe's files."""
        words = (self.type, self.v1 or self.type, *self.also)
        return tuple(dict.fromkeys(words))


@dataclass(frozen=True, slots=True)
class Weight:
    """A learned tensor that a layer asks for."""

    name: str
    shape: Shape
    filler: Filler


@dataclass(frozen=True, slots=True)
class Statistic:
    """A tensor that a layer keeps from batch to batch but does not learn by gradient."""

    name: str
    shape: Shape
    initial: float
    """What training begins with."""
    neutral: float | None = None
    """What a net has that was never trained; `initial` unless given."""


class ShapeError(ValueError):
    """Bottoms that do not fit a layer; `field` names the parameter at fault, if one is."""

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


def checked(*tops: TensorType) -> tuple[TensorType, ...]:
    """The tops themselves; a ShapeError if one is empty or too large to index."""
    for top in tops:
        assert min(top.shape, default=1) > 0, top
        if top.numel > MAX_NUMEL:
            raise ShapeError(f"the top {size(top.shape)} has more than 2^40 values")
    return tops


def numbers(bottoms: Types) -> Types:
    """The bottoms themselves; a ShapeError if one holds labels."""
    for bottom in bottoms:
        if bottom.dtype != "float32":
            raise ShapeError(f"takes numbers, not labels ({bottom})")
    return bottoms


def batched(bottoms: Types) -> Types:
    """The bottoms themselves; a ShapeError if one is a single number for the whole batch."""
    if any(not bottom.shape for bottom in bottoms):
        raise ShapeError("takes a value for each sample, not one number for the whole batch")
    return bottoms


def image(bottoms: Types) -> TensorType:
    """The one bottom, a ShapeError unless it is batch x channels x height x width."""
    (x,) = numbers(bottoms)
    if len(x.shape) != 4:
        raise ShapeError(f"takes channels x height x width, not {size(x.sample)}")
    return x


def axis_of(axis: int, x: TensorType, *, first: int = 1, field: str = "axis") -> int:
    """An axis counted from the front; negative ones count from the end, axis 0 is the batch."""
    rank = len(x.shape)
    found = axis + rank if axis < 0 else axis
    if not first <= found < rank:
        fault = f"{field} {axis} is the batch" if found == 0 else f"there is no {field} {axis}"
        raise ShapeError(f"{fault}: the bottom is {size(x.shape)}, batch included", field=field)
    return found


def over_batch(axis: int, x: TensorType) -> bool:
    """Whether an axis, counted from either end, is the batch."""
    return axis in (0, -len(x.shape))


def shapes(bottoms: Types) -> str:
    """The bottoms' shapes, for a message; without the batch where that is one and the same."""
    alike = len({bottom.shape[:1] for bottom in bottoms}) == 1
    shown = [size(bottom.sample if alike else bottom.shape) for bottom in bottoms]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


class Context(Protocol):
    """What a layer may ask for while it is lowered."""

    @property
    def op(self) -> Ops:
        """Where the layer's operators go."""
        ...

    @property
    def training(self) -> bool:
        """Phase TRAIN: dropout drops, batch norm looks at the batch."""
        ...

    def random(self, shape: Shape) -> Value:
        """A float32 tensor, uniform in [0, 1): new in each iteration, equal for equal seeds."""
        ...

    def statistic(self, name: str) -> Value:
        """The running value of one of the layer's statistics."""
        ...

    def observe(self, name: str, batch: Value, fraction: float) -> None:
        """Fold a batch's value into a statistic: running += fraction * (batch - running)."""
        ...


class Layer(Fields):
    """A layer type: its parameters, as fields, and the facts that follow from its bottoms.

    `keyword`, `example`, `infer` and `lower` are required; the rest default to a layer that learns
    nothing, multiplies nothing and sees one cell. Everything countable derives from these.
    """

    keyword: ClassVar[str]
    """The word of the language, such as `conv`."""
    caffe: ClassVar[CaffeType | None] = None
    """The Caffe type, if Caffe has the layer."""
    role: ClassVar[Role] = Role.HIDDEN
    bottoms: ClassVar[range] = range(1, 2)
    """How many bottoms it takes."""
    tops: ClassVar[range] = range(1, 2)
    """How many tops it makes."""
    in_place: ClassVar[bool] = False
    """Whether a top may overwrite its bottom, as Caffe's activations do."""
    reuses_name: ClassVar[bool] = False
    """Whether a top may have the name of its bottom all the same, beside it in memory."""
    labels: ClassVar[frozenset[int]] = frozenset()
    """The places of bottoms that are labels: numbers there are read as integers."""
    counts_labels: ClassVar[bool] = False
    """Whether labels at the other places are read as numbers; else they are refused."""
    example: ClassVar[str]
    """A whole spec of a few lines that uses the layer: shown in the reference, run by the tests."""

    @property
    def word(self) -> str:
        """What reports call its type: the keyword, unless it stands for a type of another name."""
        return self.keyword

    @property
    def obstacle(self) -> str | None:
        """Why it is counted but never run, such as `is a Python layer`; None if it runs."""
        return None

    def read(self, bottoms: Types) -> Types:
        """The bottoms as the layer takes them: in Caffe labels are numbers, and here integers."""
        return tuple(
            bottom.with_dtype("int64")
            if place in self.labels
            else bottom.with_dtype("float32")
            if self.counts_labels
            else bottom
            for place, bottom in enumerate(bottoms)
        )

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        """The types of the tops; a ShapeError if the bottoms do not fit."""
        raise NotImplementedError

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        """The learned tensors, in Caffe's order, which is the order `lower` receives them in."""
        return ()

    def statistics(self, bottoms: Types) -> tuple[Statistic, ...]:
        """The tensors kept from batch to batch."""
        return ()

    def window(self, bottoms: Types) -> Window | None:
        """The sliding window, for receptive fields and lints."""
        return None

    def traceable(self, bottoms: Types) -> bool:
        """Whether it is known, whatever the data, which cells of its bottoms a value sees.

        Through its window, or all of them, or those at its own place.
        """
        return True

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        """What is legal here but probably not meant."""
        return ()

    def bound(self, bottoms: Types) -> bool:
        """Whether weights or constants hold the batch size, so that the net runs at no other."""
        return False

    def macs(self, bottoms: Types) -> int:
        """Multiply-accumulates of one forward pass over the whole batch."""
        return 0

    def deploy(self) -> Layer | None:
        """What stands for this layer in a deployed net: a loss is its prediction.

        Nothing does for a metric, and for a loss whose bottom is the prediction itself.
        """
        return None if self.role in (Role.LOSS, Role.METRIC) else self

    def with_tops(self, count: int) -> Layer:
        """The layer when the spec names `count` tops; for one whose tops follow from that."""
        return self

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        """Emit the ONNX operators that compute the tops; not asked of a layer with an obstacle.

        No constant may hold the batch size in the TEST phase, unless the layer is `bound` to it: a
        deployed net takes any batch.
        """
        raise NotImplementedError

    def parameters(self, bottoms: Types) -> int:
        """Learned values."""
        return sum(prod(weight.shape) for weight in self.weights(bottoms))
