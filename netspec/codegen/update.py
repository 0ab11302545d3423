"""The update as a graph: new weights, solver memory and statistics, written over the old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netspec.codegen.averaging import Averaging
from netspec.codegen.builder import Builder
from netspec.codegen.simplify import prune
from netspec.codegen.solvers import UpdateRule
from netspec.ir.graph import Graph, Value
from netspec.ir.sections import Solver
from netspec.ir.types import TensorType

_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub", "Where"})
"""Operators that may write over an input of the output's shape: no cell needs another one."""
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output onnxruntime may leave in the memory of their input."""


@dataclass(frozen=True, slots=True)
class WeightGroup:
    """Trainable weights that lie together: a flat range with one pair of multipliers."""

    name: str
    numel: int
    lr_mult: float = 1.0
    decay_mult: float = 1.0


@dataclass(frozen=True, slots=True)
class StatisticGroup:
    """Statistics that lie together: a flat range into which the batch enters with one share."""

    name: str
    numel: int
    fraction: float

    def share(self, batches: int) -> float:
        """The share of several batches in a row, each folded in with `fraction`."""
        return float(1 - (1 - self.fraction) ** batches)


@dataclass(frozen=True)
class UpdateStep:
    """The graph that follows the gradients.

    Inputs are, for each weight group, `weights:<group>`, `gradients:<group>` and `<slot>:<group>`;
    for each statistic group `running:<group>` and `batch:<group>`; the rule's scalars by name; and,
    if it guards itself, `finite`. With `ema_decay` there are `average:<group>` of weights,
    `running_average:<group>` of statistics, and the scalar of `Averaging`. The output
    `next:<input>` is that input's new value.
    """

    graph: Graph
    names: Mapping[Value, str]
    """What the model calls its outputs."""
    aliases: Mapping[Value, Value]
    """New values, and the old ones whose place they may take."""


def update_graph(
    groups: Sequence[WeightGroup],
    statistics: Sequence[StatisticGroup],
    rule: UpdateRule,
    *,
    guarded: bool = True,
    shards: int = 1,
) -> UpdateStep:
    """One step of the solver and of the running statistics, proven fit to run in place.

    w, g, slots → rule → w', slots'        running, batch → running + fraction · (batch - running)

    With the solver's `ema_decay` the means of the new values move towards them, see `Averaging`.

    Of a batch in `shards`, g is the sum of theirs, see `gradient`. With the solver's
    `clip_gradients` or `iter_size`, g is then shortened and divided, see `_shortened`; with
    `iter_size`, g is a sum over batches and `batch` their mean, as `accumulate_graph` makes them.

    If `guarded`, each new value is Where(finite, new, old). If not, the caller does not run it
    where `finite` is 0: for a host that has the answer at hand that is cheaper, since Where takes
    three passes over memory on the CPU.
    """
    op = Builder()

    def feed(name: str, *shape: int) -> Value:
        return op.input(name, TensorType(shape))

    finite = op.Cast(feed("finite"), to="bool") if guarded else None
    scalars = {name: feed(name) for name in rule.scalars}
    averaging = Averaging.of(rule.solver)
    fresh = feed(averaging.SCALAR) if averaging else None
    aliases: dict[Value, Value] = {}

    def replace_with(new: Value, old: Value) -> None:
        aliases[new if finite is None else op.Where(finite, new, old)] = old

    def average(kind: str, group: WeightGroup | StatisticGroup, new: Value) -> None:
        if averaging and fresh:
            old = feed(f"{kind}:{group.name}", group.numel)
            replace_with(averaging.fold(op, old, new, fresh), old)

    gradients = {group.name: gradient(op, group, shards) for group in groups}
    factor = _shortened(op, tuple(gradients.values()), rule.solver)
    for group in groups:
        g = gradients[group.name]
        if factor is not None:
            g = op.Mul(g, factor)
        w, *slots = (feed(f"{k}:{group.name}", group.numel) for k in ("weights", *rule.slots))
        own = dict(scalars)
        if group.lr_mult != 1:
            own["rate"] = op.Mul(scalars["rate"], op.scalar(group.lr_mult))
        decay = rule.solver.weight_decay * group.decay_mult
        moved, kept = rule.update(op, w, g, slots, own, decay=decay)
        for new, old in zip((*kept, moved), (*slots, w), strict=True):
            replace_with(new, old)
        average("average", group, moved)
    for folded in statistics:
        batch = feed(f"batch:{folded.name}", folded.numel)
        running = feed(f"running:{folded.name}", folded.numel)
        share = op.Mul(op.Sub(batch, running), op.scalar(folded.share(rule.solver.iter_size)))
        moved = op.Add(running, share)
        replace_with(moved, running)
        average("running_average", folded, moved)
    graph = prune(op.graph(tuple(aliases), name="update"))
    assert_in_place(graph, aliases)
    return UpdateStep(graph, {new: f"next:{old.name}" for new, old in aliases.items()}, aliases)


def gradient_ports(shards: int) -> tuple[str, ...]:
    """What the gradients of each shard are called: `gradients` those of the first."""
    return ("gradients", *(f"gradients#{i}" for i in range(1, shards)))


def gradient(op: Builder, group: WeightGroup, shards: int) -> Value:
    """The gradients of a group: an input, or the sum of one for each shard."""
    total, *others = (
        op.input(f"{port}:{group.name}", TensorType((group.numel,)))
        for port in gradient_ports(shards)
    )
    for one in others:
        total = op.Add(total, one)
    return total


def _shortened(op: Builder, gradients: Sequence[Value], solver: Solver) -> Value | None:
    """What all gradients are multiplied by: min(1, c / ‖g‖) / n; None where that is 1.

    c is `clip_gradients`, ‖g‖ the L2 norm of all trained gradients together, n the `iter_size`: the
    sum is clipped, and then divided (Caffe, `SGDSolver::ClipGradients` before `Normalize`).
    """
    factor: Value | None = None
    if solver.clip_gradients > 0:
        squares = [op.ReduceSum(op.Mul(g, g), keepdims=0) for g in gradients]
        norm = op.Sqrt(op.Sum(*squares))
        # Of no gradient at all it is ∞, and so 1.
        factor = op.Min(op.Div(op.scalar(solver.clip_gradients), norm), op.scalar(1))
    if solver.iter_size == 1:
        return factor
    mean = op.scalar(1 / solver.iter_size)
    return mean if factor is None else op.Mul(factor, mean)


def assert_in_place(graph: Graph, aliases: Mapping[Value, Value]) -> None:
    """Prove that each output of `aliases` may be written over the input it is paired with.

    The operator that makes the output must come after the last reader of the input, or be it and
    work cell by cell. onnxruntime knows of no alias, so the proof holds for the order of the graph
    alone: the session must keep it.
    """
    assert len(set(aliases.values())) == len(aliases), "two outputs would be written over one input"
    made = {value: at for at, op in enumerate(graph.ops) for value in op.outputs}
    for new, old in aliases.items():
        assert old in graph.inputs, f"{old.name} is no input"
        assert new in made, f"{new.name} is made by no operator"
        assert new.type == old.type, f"{new.name} has another type than {old.name}"
        writer = graph.ops[made[new]]
        assert writer.op_type not in _VIEWS, f"{writer.name} may write nothing"
        same = {old}
        for at, op in enumerate(graph.ops):
            if not any(value in same for value in op.inputs):
                continue
            if op.op_type in _VIEWS:
                same.update(op.outputs)
            in_the_making = at == made[new] and op.op_type in _ELEMENTWISE
            assert at < made[new] or in_the_making, (
                f"{op.name} reads {old.name} after {writer.name} has written over it"
            )
