"""The Net: layers over blobs, in Caffe's words, validated and plain data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from netspec.diagnostics import Span
from netspec.ir.filler import Filler
from netspec.ir.layer import Layer, Phase, Role, Statistic
from netspec.ir.sections import DataSection, Solver
from netspec.ir.types import Shape, TensorType


@dataclass(frozen=True, slots=True)
class Parameter:
    """A learned tensor of the net; layers that share it name the same one."""

    name: str
    """`conv1.weight`, or the name that `param { name: … }` gives."""
    shape: Shape
    """As the layer reads it, which for a PERMISSIVE one may not be that of the first."""
    filler: Filler
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    share_mode: str = "STRICT"

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def frozen(self) -> bool:
        """Whether training leaves it as it is."""
        return self.lr_mult == 0


class Node(BaseModel):
    """One layer in its place: which blobs it reads and writes, and their types.

    A top may carry the name of a bottom: it then overwrites it, as in Caffe, for all that follow.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    layer: SerializeAsAny[Layer]
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    bottom_types: tuple[TensorType, ...]
    top_types: tuple[TensorType, ...]
    parameters: tuple[Parameter, ...] = ()
    """In the order of `layer.weights`."""
    statistics: tuple[Statistic, ...] = ()
    """In the order of `layer.statistics`; the net-wide name is `<node>.<statistic>`."""
    loss_weight: float = 0.0
    """What the first top counts in the sum that is minimised."""
    further_loss_weights: tuple[float, ...] = ()
    """What the tops behind it count; none if all are 0."""
    propagate_down: tuple[bool, ...] = ()
    """For each bottom whether it gets a gradient; if empty, wherever one is wanted."""
    frozen: bool = False
    """Whether it infers in training, too: its statistics are read and not updated, nothing is
    dropped."""

    def propagates(self, index: int) -> bool:
        """Whether a gradient may go to the bottom of this index."""
        return not self.propagate_down or self.propagate_down[index]

    @property
    def weighed(self) -> tuple[tuple[str, float], ...]:
        """The tops that are minimised, each with its weight."""
        weights = (self.loss_weight, *self.further_loss_weights)
        return tuple((top, w) for top, w in zip(self.tops, weights, strict=False) if w)

    @property
    def in_place(self) -> bool:
        """Whether its top overwrites its bottom."""
        return bool(self.tops) and self.tops[0] in self.bottoms


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node was written: its own span and the expansions around it, innermost first."""

    span: Span
    trail: tuple[tuple[str, Span], ...] = ()


class Net(BaseModel):
    """A whole network for one phase and one batch size.

    `nodes` are in an order in which every bottom is made before it is read.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    phase: Phase
    batch: int
    nodes: tuple[Node, ...]
    label: TensorType | None = None
    """The type of the implicit `label`, if a layer reads it."""
    data: DataSection | None = None
    """The data section of this phase."""
    solver: Solver | None = None

    @property
    def seed(self) -> int:
        """The solver's random_seed; of a net without a solver that of one which says none."""
        return self.solver.random_seed if self.solver else 1

    @property
    def inputs(self) -> dict[str, TensorType]:
        """The blobs that the data feeds, by name, `label` included, batch axis first."""
        fed = {
            top: type
            for node in self.nodes
            if node.layer.role is Role.INPUT
            for top, type in zip(node.tops, node.top_types, strict=True)
        }
        if self.label is not None:
            fed["label"] = self.label
        return fed

    @property
    def hung(self) -> Node | None:
        """The first layer that holds the batch size, if one does."""
        return next((n for n in self.nodes if n.layer.bound(n.bottom_types)), None)

    @property
    def transformed(self) -> tuple[str, ...]:
        """The inputs that the data section's transform is for.

        `data`; without one the first image, or else the first input that is not the label; and
        those of the same shape, which are images beside it.
        """
        floats = {n: t.sample for n, t in self.inputs.items() if t.dtype == "float32"}
        images = [name for name, sample in floats.items() if len(sample) == 3]
        chosen = "data" if "data" in floats else next(iter([*images, *floats]), None)
        return tuple(n for n, sample in floats.items() if chosen and sample == floats[chosen])

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The learned tensors, each once as its first layer has it, in the order of first use."""
        found: dict[str, Parameter] = {}
        for node in self.nodes:
            for parameter in node.parameters:
                found.setdefault(parameter.name, parameter)
        return tuple(found.values())

    @property
    def statistics(self) -> dict[str, Statistic]:
        """The tensors kept from batch to batch, by net-wide name."""
        return {
            f"{node.name}.{statistic.name}": statistic
            for node in self.nodes
            for statistic in node.statistics
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """Blobs that nothing reads, in the order in which they are made."""
        pending: dict[str, None] = {}
        for node in self.nodes:
            for bottom in node.bottoms:
                pending.pop(bottom, None)
            pending.update(dict.fromkeys(node.tops))
        return tuple(pending)
