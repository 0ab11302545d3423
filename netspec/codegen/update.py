"""The update as a graph: new weights, solver memory and statistics, written over the old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netspec.codegen.builder import Builder
from netspec.codegen.simplify import prune
from netspec.codegen.solvers import UpdateRule
from netspec.ir.graph import Graph, Value
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


@dataclass(frozen=True)
class UpdateStep:
    """The graph that follows the gradients.

    Inputs are, for each weight group, `weights:<group>`, `gradients:<group>` and `<slot>:<group>`;
    for each statistic group `running:<group>` and `batch:<group>`; the rule's scalars by name; and
    `loss`. The output `next:<input>` is that input's new value. `finite` is 1 if the loss, the
    gradients and the batch's statistics are finite numbers, else 0.
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
) -> UpdateStep:
    """One step of the solver and of the running statistics, proven fit to run in place.

    w, g, slots → rule → w', slots'        running, batch → running + fraction · (batch - running)

    If `guarded`, the graph judges `finite` and each new value is Where(finite, new, old). If not,
    the caller asks `finite_graph` first: for a host that has the answer at hand that is cheaper,
    since Where takes three passes over memory on the CPU.
    """
    op = Builder()
    finite = _finite(op, groups, statistics) if guarded else None
    fed = {v.name: v for v in op.inputs}

    def feed(name: str, *shape: int) -> Value:
        return fed[name] if name in fed else op.input(name, TensorType(shape))

    scalars = {name: feed(name) for name in rule.scalars}
    aliases: dict[Value, Value] = {}

    def replace_with(new: Value, old: Value) -> None:
        aliases[new if finite is None else op.Where(finite, new, old)] = old

    for group in groups:
        g = feed(f"gradients:{group.name}", group.numel)
        w, *slots = (feed(f"{k}:{group.name}", group.numel) for k in ("weights", *rule.slots))
        own = dict(scalars)
        if group.lr_mult != 1:
            own["rate"] = op.Mul(scalars["rate"], op.scalar(group.lr_mult))
        decay = rule.solver.weight_decay * group.decay_mult
        moved, kept = rule.update(op, w, g, slots, own, decay=decay)
        for new, old in zip((*kept, moved), (*slots, w), strict=True):
            replace_with(new, old)
    for folded in statistics:
        batch = feed(f"batch:{folded.name}", folded.numel)
        running = feed(f"running:{folded.name}", folded.numel)
        share = op.Mul(op.Sub(batch, running), op.scalar(folded.fraction))
        replace_with(op.Add(running, share), running)
    return _finish(op, "update", aliases, finite)


def finite_graph(groups: Sequence[WeightGroup], statistics: Sequence[StatisticGroup]) -> UpdateStep:
    """`finite` alone, for a caller that will not run the update where it is 0."""
    op = Builder()
    return _finish(op, "finite", {}, _finite(op, groups, statistics))


def _finite(
    op: Builder, groups: Sequence[WeightGroup], statistics: Sequence[StatisticGroup]
) -> Value:
    """Whether Σ x · 0 is a number: one Inf or NaN among all x makes it none.

    It stands here, and not with the gradients, because distributed training sums them in between.
    A sum that overflows though its terms do not counts as infinite: such a step is lost anyway.
    """
    sums = [op.input("loss", TensorType(()))]
    sums += [
        op.ReduceSum(op.input(f"{kind}:{group.name}", TensorType((group.numel,))), keepdims=0)
        for kind, group in [("gradients", g) for g in groups] + [("batch", s) for s in statistics]
    ]
    verdict: Value = op.Not(op.IsNaN(op.Mul(op.Sum(*sums), op.scalar(0))))
    return verdict


def _finish(
    op: Builder, name: str, aliases: Mapping[Value, Value], finite: Value | None
) -> UpdateStep:
    names = {new: f"next:{old.name}" for new, old in aliases.items()}
    if finite is not None:
        # A float, so that it can be read in one go with the losses.
        names[op.Cast(finite, to="float32")] = "finite"
    graph = prune(op.graph(tuple(names), name=name))
    assert_in_place(graph, aliases)
    return UpdateStep(graph, names, aliases)


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
