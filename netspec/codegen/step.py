"""A batch as a graph: gather, transform, forward, and in training the gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from netspec.codegen.builder import Builder
from netspec.codegen.feed import feed
from netspec.codegen.formulate import formulate
from netspec.codegen.layout import Planner, plan
from netspec.codegen.lower import Lowered, Observation, lower
from netspec.codegen.mixing import Mix, mixed
from netspec.codegen.precision import in_half
from netspec.codegen.recompute import recompute
from netspec.codegen.simplify import simplify
from netspec.codegen.target import Target
from netspec.codegen.unpooling import before_unpooling
from netspec.codegen.watch import Watching
from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Op, Ops, Value, consumers
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType

Differentiate: TypeAlias = Callable[
    [Ops, Sequence[Op], Mapping[Value, Value], Sequence[Value]], list[Value | None]
]
"""`grad(op, ops, seeds, wrt)`: the cotangents of `wrt`, None where no seed depends on one."""


@dataclass(frozen=True)
class BatchStep:
    """A pure graph over one batch, and what its inputs and outputs are, by name.

    Inputs that nothing reads are not there. Evaluation leaves the last four empty.
    """

    graph: Graph
    names: Mapping[Value, str]
    """What the model calls its inputs and outputs: kind and name, so that none clash."""
    arrays: Mapping[str, Value]
    """The whole arrays of the data set, by blob."""
    indices: Value
    """Which samples make the batch, int64."""
    parameters: Mapping[str, Value]
    """The learned tensors."""
    statistics: Mapping[str, Value]
    """The running statistics."""
    randoms: Mapping[str, Value]
    """Tensors to fill with uniform numbers from [0, 1), by layer, and by lot of the transform."""
    scale: Value | None
    """What the losses' cotangents are multiplied by, in a training that computes in float16."""
    mix: Mix | None
    """What to draw for a batch whose samples are mixed; None if they are not."""
    loss: Value
    """Σ loss_weight · loss."""
    finite: Value | None
    """1 if the loss, the gradients and the batch's statistics are finite numbers, else 0.

    A float, so that it can be read in one go with the losses. None in evaluation.
    """
    losses: Mapping[str, Value]
    """Each loss, without its weight, by top."""
    metrics: Mapping[str, Value]
    """Each metric, by top."""
    gradients: Mapping[str, Value]
    """By parameter, times the scale if there is one; frozen and unreached ones are not there."""
    unreached: tuple[str, ...]
    """Trainable parameters on which no loss depends: their gradient is zero."""
    observed: Mapping[str, Value]
    """The batch's value of each statistic that is folded into a running one."""
    fractions: Mapping[str, float]
    """The share with which each observed value enters the running one."""


def evaluation_graph(
    net: Net, data: Mapping[str, TensorType], transform: Transform, target: Target
) -> BatchStep:
    """Loss, losses and metrics of one batch, as `target` runs them.

    `data` are the types of the data set's whole arrays, by blob; the graph gathers the samples
    named by `indices` and treats them as `transform` says. What that reads beside them,
    such as a mean image, are arrays, too.
    """
    op = Builder()
    arrays, indices, lowered = _lower_batch(op, net, data, transform)
    return _batch_step(net, target, arrays, indices, lowered)


def gradient_graph(
    net: Net,
    data: Mapping[str, TensorType],
    transform: Transform,
    target: Target,
    grad: Differentiate,
    planner: Planner = plan,
    segments: Sequence[Collection[str]] = (),
    watch: Watching | None = None,
    half: bool = False,
    shards: int = 1,
) -> BatchStep:
    """What `evaluation_graph` gives, and the gradients and batch statistics of phase TRAIN.

    `grad` is `autodiff.grad`, which stands beside this floor and not below it; `planner` chooses
    how operators are computed; `segments` are the layers whose values are computed again for the
    gradients, see `recompute`; `watch` adds numbers about values on the way to the metrics; `half`
    has products computed in float16, see `in_half`, and the losses' gradients scaled meanwhile.
    Gradients are divided by `shards`, so that those of so many such batches sum up to their mean.
    """
    op = Builder()
    arrays, indices, lowered = _lower_batch(op, net, data, transform)
    if not lowered.losses:
        raise UsageError(f"{net.name} has no loss in phase TRAIN: nothing to minimise")
    trainable = [p.name for p in net.parameters if not p.frozen]
    if not trainable:
        raise UsageError(f"{net.name} has no weight to train in phase TRAIN")
    wrt = [lowered.parameters[name] for name in trainable]
    forward = len(op.ops)
    seen = watch.values(lowered, wrt) if watch else ()
    scale = op.input("scale", TensorType(())) if half else None
    pulled = grad(op, tuple(op.ops), _seeds(lowered, scale, shards), [*wrt, *seen])
    by_name = dict(zip(trainable, pulled, strict=False))
    if watch:
        lowered.metrics.update(watch.numbers(op, pulled[len(wrt) :], by_name))
    again = partial(recompute, segments=segments, forward=forward)
    return _batch_step(
        net, target, arrays, indices, lowered, by_name, lowered.observed, planner, again, scale
    )


def _lower_batch(
    op: Builder, net: Net, data: Mapping[str, TensorType], transform: Transform
) -> tuple[Mapping[str, Value], Value, Lowered]:
    """Gather, transform, lower: the arrays, the indices, and the net behind them."""
    made = feed(op, net, data, transform)
    mixing = mixed(op, net, transform, made.values)
    lowered = lower(net, op, mixing.inputs if mixing else made.values, mixing)
    lowered.randoms.update(made.randoms)
    return made.arrays, made.indices, lowered


def _seeds(lowered: Lowered, scale: Value | None, shards: int) -> dict[Value, Value]:
    """The cotangent of each loss is its weight: Σ weight · loss has one of 1, or of `scale`.

    And of a shard only its part.
    """
    weights: dict[Value, float] = {}
    for loss, weight in lowered.losses.values():
        weights[loss] = weights.get(loss, 0.0) + weight / shards
    op = lowered.op
    seeds = {
        loss: op.constant(np.full(loss.type.shape, weight, loss.type.dtype))
        for loss, weight in weights.items()
    }
    return seeds if scale is None else {loss: op.Mul(s, scale) for loss, s in seeds.items()}


def _batch_step(
    net: Net,
    target: Target,
    arrays: Mapping[str, Value],
    indices: Value,
    lowered: Lowered,
    pulled: Mapping[str, Value | None] | None = None,
    observed: Mapping[str, Observation] | None = None,
    planner: Planner = plan,
    again: Callable[[Graph], Graph] = lambda graph: graph,
    scale: Value | None = None,
) -> BatchStep:
    """The simplified graph, with its outputs made and its unread inputs left out."""
    op, pulled, observed = lowered.op, pulled or {}, observed or {}
    losses = {top: _sum(op, loss) for top, (loss, _) in lowered.losses.items()}
    gradients = {name: g for name, g in pulled.items() if g is not None}
    batch = {name: observation.batch for name, observation in observed.items()}
    total, losses, metrics, gradients, batch = _leave(
        op, {"loss": _total(lowered, losses)}, losses, lowered.metrics, gradients, batch
    )
    if pulled:
        total["finite"] = _finite(op, [total["loss"], *gradients.values(), *batch.values()])
    outputs = [v for kind in (total, losses, metrics, gradients, batch) for v in kind.values()]
    logical = before_unpooling(simplify(again(op.graph(outputs, name=net.name))))
    formulated = formulate(logical, target, planner(logical, target))
    graph, outputs_of = formulated.graph, formulated.outputs
    if scale is not None:
        halved = in_half(graph, net, target)
        graph = halved.graph
        outputs_of = {old: halved.outputs[new] for old, new in outputs_of.items()}
    total, losses, metrics, gradients, batch = (
        {name: outputs_of[v] for name, v in kind.items()}
        for kind in (total, losses, metrics, gradients, batch)
    )
    read = {*consumers(graph.ops), indices}
    graph = replace(graph, inputs=tuple(v for v in graph.inputs if v in read))
    arrays, parameters, statistics, randoms = (
        {name: v for name, v in fed.items() if v in read}
        for fed in (arrays, lowered.parameters, lowered.statistics, lowered.randoms)
    )
    mix = lowered.mixed.mix if lowered.mixed else None
    names = _ports(
        array=arrays, weight=parameters, running=statistics, random=randoms,
        mix=mix.fed if mix else {},
        loss=losses, metric=metrics, gradient=gradients, batch=batch,
    )  # fmt: skip
    return BatchStep(
        graph=graph,
        names={
            **names,
            **({scale: "scale"} if scale else {}),
            indices: "indices",
            **{value: name for name, value in total.items()},
        },
        arrays=arrays,
        indices=indices,
        parameters=parameters,
        statistics=statistics,
        randoms=randoms,
        scale=scale,
        mix=mix,
        loss=total["loss"],
        finite=total.get("finite"),
        losses=losses,
        metrics=metrics,
        gradients=gradients,
        unreached=tuple(name for name, g in pulled.items() if g is None),
        observed=batch,
        fractions={name: observation.fraction for name, observation in observed.items()},
    )


def _total(lowered: Lowered, losses: Mapping[str, Value]) -> Value:
    """Σ weight · loss, 0 without losses."""
    op = lowered.op
    terms = [
        op.Mul(losses[top], op.scalar(weight)) if weight != 1 else losses[top]
        for top, (_, weight) in lowered.losses.items()
    ]
    total: Value = op.Sum(*terms) if terms else op.scalar(0)
    return total


def _finite(op: Builder, values: Sequence[Value]) -> Value:
    """Whether Σ x · 0 is a number: one Inf or NaN among all x makes it none.

    A sum that overflows though its terms do not counts as infinite: such a step is lost anyway.
    """
    sums = [_sum(op, v) for v in values]
    total = op.Mul(op.Sum(*sums), op.scalar(0))
    finite: Value = op.Cast(op.Not(op.IsNaN(total)), to="float32")
    return finite


def _sum(op: Builder, x: Value) -> Value:
    """All of `x` as one number; any top may carry a loss_weight, and then all of it counts.

    A matrix row by row, which threads share: 5.3 ms for 8.3 of AlexNet's largest.
    """
    if len(x.type.shape) == 2:
        x = op.ReduceSum(x, op.ints(1), keepdims=0)
    return op.ReduceSum(x, keepdims=0) if x.type.shape else x


def _leave(op: Builder, *kinds: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Values fit to be outputs: none leaves twice, none is an input or a constant.

    onnxruntime does not write a bound output that is also an input.
    """
    taken: set[Value] = {*op.inputs, *op.constants}
    left: list[dict[str, Value]] = []
    for values in kinds:
        left.append({})
        for name, value in values.items():
            leaving = op.Identity(value) if value in taken else value
            taken.add(leaving)
            left[-1][name] = leaving
    return left


def _ports(**kinds: Mapping[str, Value]) -> dict[Value, str]:
    return {v: f"{kind}:{name}" for kind, values in kinds.items() for name, v in values.items()}
