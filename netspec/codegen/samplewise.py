"""Which values of a graph keep samples apart: the operators of a batch and of a part, side by side.

The proof goes operator by operator. One that is not known here is taken to let samples meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from netspec.codegen.builder import Builder
from netspec.ir.graph import Op, Value
from netspec.ir.types import Shape

Array: TypeAlias = "npt.NDArray[np.generic]"


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same in every part, as it hangs on no sample."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Along axis 0, one row per sample, which hangs on that sample alone: a part has its rows."""


@dataclass(frozen=True, slots=True)
class Mean:
    """`ratio` times the mean of what the parts have, cell by cell."""

    ratio: float


Kind: TypeAlias = Fixed | Rows | Mean
FIXED, ROWS = Fixed(), Rows()


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many samples the whole has, and the part."""

    whole: int
    part: int

    def of_rows(self, ours: Shape, theirs: Shape) -> bool:
        """Whether both shapes begin with the samples, and differ in nothing else."""
        return ours == (self.whole, *theirs[1:]) and theirs[:1] == (self.part,)


@dataclass(frozen=True, slots=True)
class Twice:
    """An operator in both graphs, with what is known of its operands."""

    whole: Op
    part: Op
    given: tuple[Kind | None, ...]
    """None of one about which nothing is known; one that is left out is fixed."""
    constants: tuple[tuple[Array, Array] | None, ...]
    """Those that are constants in both graphs, equal or not."""

    @property
    def rank(self) -> int:
        """Of what it makes."""
        return len(self.whole.outputs[0].type.shape)

    def shape(self, index: int) -> Shape:
        """Of an operand, in the whole."""
        value = self.whole.inputs[index]
        assert value is not None
        return value.type.shape

    @property
    def first_rows(self) -> bool:
        """Whether the first operand has rows, and the others are fixed."""
        first, *others = self.given
        return first == ROWS and all(kind == FIXED for kind in others)

    def integers(self, index: int) -> list[int] | None:
        """A constant operand's, if it is the same in both graphs."""
        found = self.constants[index] if index < len(self.constants) else None
        if found is None or not np.array_equal(*found):
            return None
        return [int(n) for n in found[0].reshape(-1)]


def kinds(
    whole: Builder, part: Builder, sizes: Sizes, known: Mapping[Value, Kind]
) -> dict[Value, Kind]:
    """What is known of the values of `whole`, given that of its inputs.

    `part` has the same operators for fewer samples; where it has not, nothing is known any more.
    """
    found = dict(known)
    partners = dict(zip(whole.inputs, part.inputs, strict=True))
    for ours, theirs in zip(whole.ops, part.ops, strict=False):
        said = [
            (op.op_type, op.domain, dict(op.attrs), len(op.inputs), len(op.outputs))
            for op in (ours, theirs)
        ]
        if said[0] != said[1]:
            break
        partners.update(zip(ours.outputs, theirs.outputs, strict=True))
        kind = _made(_twice(ours, theirs, whole, part, sizes, found, partners))
        shapes = (ours.outputs[0].type.shape, theirs.outputs[0].type.shape)
        if kind is None or not (sizes.of_rows(*shapes) if kind == ROWS else shapes[0] == shapes[1]):
            continue
        alike = len(ours.outputs) if kind == FIXED or ours.op_type in _ALIKE else 1
        found.update(dict.fromkeys(ours.outputs[:alike], kind))
    return found


def _twice(
    ours: Op,
    theirs: Op,
    whole: Builder,
    part: Builder,
    sizes: Sizes,
    found: Mapping[Value, Kind],
    partners: Mapping[Value, Value],
) -> Twice:
    given: list[Kind | None] = []
    constants: list[tuple[Array, Array] | None] = []
    for mine, other in zip(ours.inputs, theirs.inputs, strict=True):
        both = None
        if mine is None or other is None:
            given.append(FIXED if mine is other else None)
        elif mine in whole.constants and other in part.constants:
            both = (whole.constants[mine], part.constants[other])
            given.append(_of_constants(*both, sizes))
        else:
            given.append(found.get(mine) if partners.get(mine) is other else None)
        constants.append(both)
    return Twice(ours, theirs, tuple(given), tuple(constants))


def _of_constants(ours: Array, theirs: Array, sizes: Sizes) -> Kind | None:
    """Equal ones are fixed; of those with a row per sample all rows must be."""
    if np.array_equal(ours, theirs):
        return FIXED
    alike = sizes.of_rows(ours.shape, theirs.shape)
    row = ours[:1] if alike else ours
    return ROWS if alike and bool((ours == row).all() and (theirs == row).all()) else None


def _made(op: Twice) -> Kind | None:
    """What an operator makes of what is known."""
    if not op.given or op.whole.op_type in _BY_LOT:
        return None
    if all(kind == FIXED for kind in op.given):
        return FIXED
    rule = _RULES.get(op.whole.op_type)
    return rule(op) if rule else None


def _cellwise(op: Twice) -> Kind | None:
    """Cell by cell, with broadcasting: rows meet rows where all have them on the same axis."""
    for i, kind in enumerate(op.given):
        if kind == ROWS:
            if len(op.shape(i)) != op.rank:
                return None
        elif kind != FIXED:
            return None
    return ROWS


def _linear(op: Twice) -> Kind | None:
    """Sums of rows, and of means that count alike."""
    if ROWS in op.given:
        return _cellwise(op)
    first = op.given[0]
    return first if isinstance(first, Mean) and all(kind == first for kind in op.given) else None


def _scaled(op: Twice) -> Kind | None:
    """Products of rows, and of a mean with a number that may hang on how many samples there are."""
    if ROWS in op.given:
        return _cellwise(op)
    means = [i for i, kind in enumerate(op.given) if isinstance(kind, Mean)]
    if len(means) != 1 or (op.whole.op_type == "Div" and means != [0]):
        return None
    mean, other = op.given[means[0]], 1 - means[0]
    assert isinstance(mean, Mean)
    if op.given[other] == FIXED:
        return mean
    found = op.constants[other]
    if found is None or found[0].size != 1 or found[1].size != 1:
        return None
    ours, theirs = (float(number.reshape(())) for number in found)
    if not ours or not theirs:
        return None
    return Mean(mean.ratio * (theirs / ours if op.whole.op_type == "Div" else ours / theirs))


def _reshaped(op: Twice) -> Kind | None:
    """The rows stay apart while their axis is the first."""
    kind = op.given[0]
    return kind if kind == ROWS or isinstance(kind, Mean) else None


def _expanded(op: Twice) -> Kind | None:
    """Repeated along axes that had one cell; what is fixed may then be a row for every sample."""
    before = op.shape(0)
    if op.given[0] == ROWS:
        return ROWS if len(before) == op.rank else None
    alone = len(before) < op.rank or before[0] == 1
    return ROWS if op.given[0] == FIXED and alone else None


def _windowed(op: Twice) -> Kind | None:
    """Over the axes behind the first."""
    return ROWS if op.first_rows else None


def _resized(op: Twice) -> Kind | None:
    """To sizes that may name the batch, which stays as it is."""
    first, *others = zip(op.given, op.constants, strict=True)
    told = all(kind == FIXED or constant is not None for kind, constant in others)
    return ROWS if first[0] == ROWS and told else None


def _normalized(op: Twice) -> Kind | None:
    """By statistics that are given."""
    return ROWS if op.first_rows and not op.whole.attrs.get("training_mode", 0) else None


def _product(op: Twice) -> Kind | None:
    """Rows with a matrix, or matrix by matrix along a first axis that is none of theirs."""
    ranks = (len(op.shape(0)), len(op.shape(1)))
    if op.given == (ROWS, FIXED):
        return ROWS if ranks[0] > 1 and ranks[1] == 2 else None
    if op.given == (FIXED, ROWS):
        return ROWS if ranks[0] == 2 and ranks[1] > 2 else None
    return ROWS if op.given == (ROWS, ROWS) and ranks[0] == ranks[1] > 2 else None


def _gemm(op: Twice) -> Kind | None:
    return ROWS if op.first_rows and not op.whole.attrs.get("transA", 0) else None


def _transposed(op: Twice) -> Kind | None:
    perm = op.whole.attrs.get("perm", ())
    return ROWS if op.given[0] == ROWS and perm and perm[0] == 0 else None


def _along(op: Twice, *, default: int = 0, others: Kind = ROWS) -> Kind | None:
    """Along an axis that is not the samples'."""
    axis = op.whole.attrs.get("axis", default) % op.rank
    first, *rest = op.given
    return ROWS if axis and first == ROWS and all(kind == others for kind in rest) else None


def _cumulative(op: Twice) -> Kind | None:
    axis = op.integers(1)
    return ROWS if op.given[0] == ROWS and axis and axis[0] % op.rank else None


def _gathered(op: Twice) -> Kind | None:
    """Whole rows of a table for each sample, or the same places of every row."""
    axis = op.whole.attrs.get("axis", 0) % len(op.shape(0))
    if axis == 0:
        return ROWS if op.given == (FIXED, ROWS) else None
    return ROWS if op.given == (ROWS, FIXED) else None


def _gathered_cells(op: Twice) -> Kind | None:
    axis = op.whole.attrs.get("axis", 0) % op.rank
    return ROWS if axis and all(kind == ROWS for kind in op.given) else None


def _one_hot(op: Twice) -> Kind | None:
    axis = op.whole.attrs.get("axis", -1) % op.rank
    return ROWS if axis and op.first_rows else None


def _sliced(op: Twice) -> Kind | None:
    axes = op.integers(3)
    whole = op.first_rows and axes is not None and all(axis % op.rank for axis in axes)
    return ROWS if whole else None


def _padded(op: Twice) -> Kind | None:
    pads = op.integers(1)
    axes = op.integers(3) if len(op.given) > 3 else [*range(op.rank)]
    if not op.first_rows or pads is None or axes is None:
        return None
    widths = zip(axes, pads, pads[len(axes) :], strict=False)
    alone = all(axis % op.rank or not (before or after) for axis, before, after in widths)
    return ROWS if alone else None


def _axes_dropped(op: Twice) -> Kind | None:
    axes = op.integers(1)
    if isinstance(op.given[0], Mean):
        return op.given[0]
    rank = max(op.rank, len(op.shape(0)))
    return ROWS if op.given[0] == ROWS and axes and all(axis % rank for axis in axes) else None


def _reduced(op: Twice) -> Kind | None:
    """Over other axes; over the samples, too, their mean or their sum."""
    kind, rank = op.given[0], len(op.shape(0))
    axes = op.integers(1) if len(op.given) > 1 else [*range(rank)]
    if not axes:
        return None
    if kind == ROWS and all(axis % rank for axis in axes):
        return ROWS
    if op.whole.op_type not in ("ReduceMean", "ReduceSum"):
        return None
    if isinstance(kind, Mean):
        return kind
    ours, theirs = op.whole.inputs[0], op.part.inputs[0]
    assert ours is not None
    assert theirs is not None
    summed = op.whole.op_type == "ReduceSum"
    return Mean(ours.type.batch / theirs.type.batch if summed else 1.0) if kind == ROWS else None


_BY_LOT = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"}
)
"""Operators that give something else each time."""
_ALIKE = frozenset({"Split", "TopK"})
"""Operators of whose outputs each is what the first one is; the places that MaxPool gives count
through the whole batch."""

_Rule: TypeAlias = Callable[[Twice], Kind | None]

_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        (
            "Abs", "And", "Cast", "Celu", "Clip", "Cos", "Elu", "Equal", "Erf", "Exp", "Floor",
            "Greater", "GreaterOrEqual", "HardSigmoid", "IsNaN", "LeakyRelu", "Less",
            "LessOrEqual", "Log", "Max", "Min", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu",
            "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "StopGradient", "Tanh",
            "Where",
        ),
        _cellwise,
    ),
    **dict.fromkeys(("Add", "Identity", "Neg", "Sub", "Sum"), _linear),
    **dict.fromkeys(("Div", "Mul"), _scaled),
    **dict.fromkeys(
        ("AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "LRN", "MaxPool"), _windowed
    ),
    **dict.fromkeys(("Flatten", "Reshape"), _reshaped),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _axes_dropped),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduced),
    **dict.fromkeys(("LogSoftmax", "Softmax"), partial(_along, default=-1)),
    "BatchNormalization": _normalized,
    "Concat": _along,
    "CumSum": _cumulative,
    "Expand": _expanded,
    "Gather": _gathered,
    "GatherElements": _gathered_cells,
    "Gemm": _gemm,
    "MatMul": _product,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Resize": _resized,
    "Slice": _sliced,
    "Split": partial(_along, others=FIXED),
    "TopK": partial(_along, default=-1, others=FIXED),
    "Transpose": _transposed,
}  # fmt: skip
