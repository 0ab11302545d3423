"""How a net begins: what each layer makes of a batch before anything is trained.

After the lecture on initialisation of CS231n, Stanford 2016, and Glorot & Bengio 2010.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.autodiff import dependent, grad
from netspec.codegen.moments import Moments, Watched
from netspec.codegen.step import gradient_graph
from netspec.compiler import Spec, elaborate
from netspec.ir.labelled import Labelled
from netspec.ir.net import Net, Node
from netspec.ir.types import Shape
from netspec.layers.softmax_loss import SoftmaxLoss
from netspec.runtime.device import choose_device
from netspec.training.execution.bound import BoundBatch, array_types, transform_of
from netspec.training.execution.held import Held
from netspec.training.execution.samples import Resident
from netspec.training.execution.targets import target_for
from netspec.training.setup.opening import first_batch, open_training

FAR = 1e3
"""By how much a deviation may differ from that of the data."""
FADED = 1e4
"""By how much a layer's gradient may differ from that of the last layer with weights."""
RESTING = {"dead": 0.4, "saturated": 0.5}
"""The share of units or values above which a layer is warned of."""
OFF = 0.5
"""By which share of it a loss may miss what it should be."""


@dataclass(frozen=True, slots=True)
class LayerStart:
    """What a layer makes, over the whole batch."""

    name: str
    type: str
    top: str
    shape: Shape
    """Of a sample."""
    learns: bool
    """Whether the layer has weights."""
    mean: float
    deviation: float
    resting: float | None
    """The share of its units that are dead, or of its values that are saturated."""
    rests: str | None
    """Which of the two."""
    gradient_mean: float | None
    """Of the loss by each value; None where none arrives."""
    gradient_deviation: float | None


@dataclass(frozen=True, slots=True)
class LossStart:
    """A loss, and what it is where no class is preferred: -log(1/C) of a softmax loss."""

    name: str
    loss: float
    classes: int | None = None
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class InitialCheck:
    """What `initial_check` saw."""

    net: Net
    seed: int
    source: str | None
    """Where the batch came from; None for noise."""
    layers: tuple[LayerStart, ...]
    losses: tuple[LossStart, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the beginning, if anything is."""
        return (*_sizes(self.layers), *_gradients(self.layers), *_rests(self.layers),
                *_misses(self.losses))  # fmt: skip


def initial_check(
    spec: Spec, *, data: Path | None = None, batch: int | None = None, seed: int | None = None
) -> InitialCheck:
    """Forward and backward of the training net on its first batch, or on gaussian noise.

    Noise stands for data whose source is not there; `data` stands for that source, and `seed` for
    the solver's. SpecErrors, DataError, or UsageError for a net that cannot be trained.
    """
    net = elaborate(spec, batch=batch).train.net
    seed = net.seed if seed is None else seed
    source = None
    if data is None and not _has_data(net, spec.base):
        net = net.model_copy(update={"data": None})  # noise is no image to be transformed
        arrays = _noise(net, seed)
    else:
        dataset, source = open_training(spec, net, data=data, seed=seed)
        arrays = first_batch(dataset, net, seed)
    indices = np.arange(net.batch, dtype=np.int64)
    moments = Moments(net, dependent)
    losses, found = _run(net, moments, arrays, indices, seed)
    return InitialCheck(
        net,
        seed,
        source,
        tuple(_layer(spot, found) for spot in moments.watched),
        tuple(_loss(node, losses) for node in net.nodes for top, _ in node.weighed[:1]),
    )


def _has_data(net: Net, base: Path) -> bool:
    if net.data is None or not net.data.source:
        return False
    return net.data.source == "mnist" or (base / net.data.source).exists()


def _noise(net: Net, seed: int) -> dict[str, NDArray[Any]]:
    """One batch: numbers from N(0, 1), and any of the classes as a label."""
    rng = np.random.default_rng(seed % 2**32)
    classes = {
        node.bottoms[1]: node.bottom_types[0].shape[node.layer.axis]
        for node in net.nodes
        if isinstance(node.layer, Labelled)
    }
    return {
        name: rng.standard_normal(type.shape).astype(np.float32)
        if type.dtype == "float32"
        else rng.integers(0, classes.get(name, 1), type.shape)
        for name, type in net.inputs.items()
    }


def _run(
    net: Net,
    moments: Moments,
    arrays: Mapping[str, NDArray[Any]],
    indices: NDArray[np.int64],
    seed: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """The losses and the measures of one batch through weights as they are drawn."""
    device = choose_device("cpu")
    step = gradient_graph(
        net, array_types(arrays), transform_of(net), target_for(device), grad, watch=moments
    )
    held = Held([net], step, (), device, several=False)
    held.fill(seed)
    on = BoundBatch(step, held.addresses(), Resident(net, arrays, device), device, seed)
    on.run(indices, 0)
    return on.sort(on.numbers())


def _layer(spot: Watched, found: Mapping[str, float]) -> LayerStart:
    node = spot.node
    return LayerStart(
        name=node.name,
        type=node.layer.word,
        top=node.tops[spot.top],
        shape=node.top_types[spot.top].sample,
        learns=bool(node.parameters),
        mean=found[spot.measure("mean")],
        deviation=found[spot.measure("deviation")],
        resting=found.get(spot.measure("resting")),
        rests=spot.rests,
        gradient_mean=found.get(spot.measure("gradient_mean")),
        gradient_deviation=found.get(spot.measure("gradient_deviation")),
    )


def _loss(node: Node, losses: Mapping[str, float]) -> LossStart:
    loss, layer = losses[node.tops[0]], node.layer
    if not isinstance(layer, SoftmaxLoss):
        return LossStart(node.name, loss)
    scores = node.bottom_types[0]
    classes = scores.shape[layer.axis]
    over_all = layer.normalization == "FULL" or scores.numel == scores.batch * classes
    averaged = layer.normalization == "VALID" or (over_all and layer.ignore_label is None)
    if layer.normalization == "NONE" or not averaged:
        return LossStart(node.name, loss, classes)
    return LossStart(node.name, loss, classes, log(classes))


def _sizes(layers: Sequence[LayerStart]) -> Iterator[str]:
    """The first layer whose values have died, and the first whose have exploded."""
    given = max((row.deviation for row in layers if row.type == "input"), default=1.0) or 1.0
    rows = [row for row in layers if row.learns or row.rests]
    for row in rows:
        if not isfinite(row.deviation):
            yield f"activations are not finite from `{row.name}` on"
            return
    died = next((row for row in rows if row.deviation < given / FAR), None)
    burst = next((row for row in rows if row.deviation > given * FAR), None)
    for first, what, hint in ((died, "die", "larger"), (burst, "explode", "smaller")):
        if first is not None:
            yield (
                f"activations {what}: at `{first.name}` their deviation is {first.deviation:.2g}, "
                f"and that of the data {given:.2g}; {hint} initial weights, such as msra's, or "
                "batch_norm would keep it"
            )


def _gradients(layers: Sequence[LayerStart]) -> Iterator[str]:
    """Whether the gradient fades or swells on its way to the first layer with weights."""
    rows = [row for row in layers if row.learns and row.gradient_deviation is not None]
    if len(rows) < 2:
        return
    first, last = (_length(row) for row in (rows[0], rows[-1]))
    told = f"at `{rows[0].name}` the gradient is {first:.2g} long, at `{rows[-1].name}` {last:.2g}"
    if first < last / FADED or first == 0:
        yield f"gradients vanish: {told}"
    elif first > last * FADED or not isfinite(first):
        yield f"gradients explode: {told}"


def _length(row: LayerStart) -> float:
    """The L2 norm of a layer's gradient, for one sample."""
    assert row.gradient_deviation is not None
    assert row.gradient_mean is not None
    square = row.gradient_deviation**2 + row.gradient_mean**2
    return float((square * np.prod(row.shape, dtype=float)) ** 0.5)


def _rests(layers: Sequence[LayerStart]) -> Iterator[str]:
    for row in layers:
        if row.rests and row.resting is not None and row.resting > RESTING[row.rests]:
            what = "units" if row.rests == "dead" else "values"
            yield f"{row.resting:.0%} of the {what} of `{row.name}` are {row.rests}"


def _misses(losses: Sequence[LossStart]) -> Iterator[str]:
    for row in losses:
        if row.expected is not None and not abs(row.loss - row.expected) <= OFF * row.expected:
            yield (
                f"`{row.name}` begins at {row.loss:.4g}, and where no class is preferred it is "
                f"-log(1/{row.classes}) = {row.expected:.4g}"
            )
