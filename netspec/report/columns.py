"""The columns of a report: what each holds of a layer, and how it is shown.

Tables, CSV, Markdown, HTML, JSON, `--columns` and `--sort` all derive from `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from netspec.diagnostics import UsageError, printable, suggest
from netspec.ir.analysis import Cost, LayerCost
from netspec.ir.receptive import Extent
from netspec.ir.types import Shape, size
from netspec.ir.window import Window

Cell: TypeAlias = "int | float | str | list[int] | list[float] | list[list[int]] | None"
"""What a column holds of one layer, as JSON has it; None where it says nothing."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_text(count: int) -> str:
    """A number of bytes in binary units: `1.63 MiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.2f} {_UNITS[unit]}"


def total_text(name: str, value: int) -> str:
    """A total as people read it, by the name that `--assert` knows."""
    return bytes_text(value) if name.endswith(("memory", "bytes")) else f"{value:,}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a report."""

    key: str
    """What `--columns`, `--sort` and JSON call it."""
    title: str
    about: str
    value: Callable[[LayerCost, Cost], Cell]
    """What it holds of a layer of a net; what it is sorted by."""
    text: Callable[[Cell], str] = str
    """How a value that is not None is shown to people."""
    numeric: bool = True
    """Whether it stands to the right, and sorts the largest first."""

    def shown(self, layer: LayerCost, cost: Cost) -> str:
        """The cell for people: empty where there is nothing to say, or nothing but 0."""
        value = self.value(layer, cost)
        return "" if value is None or (self.numeric and value == 0) else self.text(value)


def _count(value: Cell) -> str:
    return f"{value:,}"


def _bytes(value: Cell) -> str:
    assert isinstance(value, int)
    return bytes_text(value)


def _percent(value: Cell) -> str:
    assert isinstance(value, float)
    return f"{value:.1%}"


def _sizes(value: Cell) -> str:
    assert isinstance(value, list)
    return "  ".join(size(tuple(shape)) for shape in value if isinstance(shape, list))


def _axes(value: Cell) -> str:
    """A number for each axis, or one where they are equal."""
    assert isinstance(value, list)
    words = [f"{n:g}" for n in value if isinstance(n, int | float)]
    return words[0] if len(set(words)) == 1 else "x".join(words)


def _kernel(value: Cell) -> str:
    assert isinstance(value, list)
    return "x".join(map(str, value))


def _of_window(axes: Callable[[Window], Shape]) -> Callable[[LayerCost, Cost], Cell]:
    return lambda layer, _: None if layer.window is None else list(axes(layer.window))


def _window(layer: LayerCost, _: Cost) -> Cell:
    """`7x7/2`: the kernel, and the stride where it is not 1."""
    if layer.window is None:
        return None
    stride = _axes(list(layer.window.stride))
    return size(layer.window.kernel) + (f"/{stride}" if stride != "1" else "")


def _numbers(extent: Extent) -> list[float]:
    return [n.numerator if n.denominator == 1 else float(n) for n in extent]


def _field(layer: LayerCost, _: Cost) -> Cell:
    return None if layer.receptive is None else _numbers(layer.receptive.size)


def _jump(layer: LayerCost, _: Cost) -> Cell:
    return None if layer.receptive is None else _numbers(layer.receptive.jump)


def _offset(layer: LayerCost, _: Cost) -> Cell:
    return None if layer.receptive is None else _numbers(layer.receptive.offset)


def _share(part: int, total: int) -> float:
    return float(Fraction(part, total)) if total else 0.0


def _line(layer: LayerCost, _: Cost) -> Cell:
    return None if layer.place is None else layer.place.span.line


def _file(layer: LayerCost, _: Cost) -> Cell:
    return None if layer.place is None else layer.place.span.source.path


_LISTED: Sequence[Column] = (
    Column("name", "layer", "name of the layer", lambda x, _: x.name, numeric=False),
    Column("type", "type", "word of the language", lambda x, _: x.type, numeric=False),
    Column("output", "output", "shapes of the tops, without the batch",
           lambda x, _: [list(shape) for _, shape in x.tops], _sizes, numeric=False),
    Column("window", "window", "kernel, and stride where it is not 1", _window, numeric=False),
    Column("kernel", "kernel", "extent of the window on each axis",
           _of_window(lambda w: w.kernel), _kernel, numeric=False),
    Column("stride", "stride", "cells between windows",
           _of_window(lambda w: w.stride), _axes, numeric=False),
    Column("pad", "pad", "cells added to each side",
           _of_window(lambda w: w.pad), _axes, numeric=False),
    Column("dilation", "dilation", "cells between the taps of a window",
           _of_window(lambda w: w.dilation), _axes, numeric=False),
    Column("group", "group", "groups of channels apart from each other",
           lambda x, _: x.group if x.window is not None else None, _count),
    Column("parameters", "parameters", "learnable values: weights and biases",
           lambda x, _: x.parameters, _count),
    Column("weights", "weights", "learnable values without biases, shared ones once",
           lambda x, _: x.weights, _count),
    Column("biases", "biases", "learnable values that are added",
           lambda x, _: x.biases, _count),
    Column("frozen", "frozen", "learnable values whose lr_mult is 0",
           lambda x, _: x.frozen, _count),
    Column("statistics", "statistics", "values kept from batch to batch, not learned",
           lambda x, _: x.statistics, _count),
    Column("share", "share", "share of the net's parameters",
           lambda x, c: _share(x.parameters, c.parameters), _percent),
    Column("units", "units", "values with connections of their own", lambda x, _: x.units, _count),
    Column("connections", "connections", "units times the values that each reads",
           lambda x, _: x.connections, _count),
    Column("macs", "MACs", "multiply-accumulates of one input", lambda x, _: x.macs, _count),
    Column("flops", "FLOPs", "2 per MAC", lambda x, _: x.flops, _count),
    Column("backward_macs", "backward MACs", "multiply-accumulates of the gradients, of one input",
           lambda x, _: x.backward_macs, _count),
    Column("activations", "values", "values of the tops for one input, none in place",
           lambda x, _: x.activations, _count),
    Column("activation_bytes", "activations", "bytes of the tops at the batch, none in place",
           lambda x, _: x.activation_bytes, _bytes),
    Column("kept_bytes", "kept", "bytes of the tops that the way back reads, at the batch",
           lambda x, _: x.kept_bytes, _bytes),
    Column("receptive_field", "field", "cells of the input that a value sees, per axis",
           _field, _axes),
    Column("jump", "jump", "cells of the input between neighbouring values", _jump, _axes),
    Column("offset", "offset", "centre of what the first value sees, from 0", _offset, _axes),
    Column("file", "file", "where the layer was written", _file, numeric=False),
    Column("line", "line", "the line in that file", _line),
)  # fmt: skip

COLUMNS: Mapping[str, Column] = {column.key: column for column in _LISTED}
"""Every column by its key, in the order in which they are listed."""

DEFAULT = ("name", "type", "output", "window", "parameters", "macs", "activation_bytes",
           "receptive_field")  # fmt: skip
"""The columns that are shown unless others are asked for; they fit 100 characters."""

LEAST = ("receptive_field", "window")
"""Those of them that a narrower terminal does without, the first to go first."""


def find_columns(keys: Sequence[str]) -> tuple[Column, ...]:
    """The columns of these keys; UsageError with those there are if one is none."""
    for key in keys:
        if key not in COLUMNS:
            known = f"{suggest(key, COLUMNS)}; there are {', '.join(COLUMNS)}"
            raise UsageError(f"there is no column `{printable(key)}`{known}")
    return tuple(COLUMNS[key] for key in keys)


def ordered(cost: Cost, by: Column) -> tuple[LayerCost, ...]:
    """The layers by a column: numbers from the largest, words from A, nothing at the end."""
    known = [layer for layer in cost.layers if by.value(layer, cost) is not None]
    rest = [layer for layer in cost.layers if by.value(layer, cost) is None]

    def key(layer: LayerCost) -> tuple[Cell, ...]:
        return (by.value(layer, cost),)

    return (*sorted(known, key=key, reverse=by.numeric), *rest)
