"""How long a net takes, layer by layer, beside what its arithmetic and its memory would allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.simplify import prune
from netspec.codegen.step import BatchStep, evaluation_graph, gradient_graph
from netspec.ir.analysis import cost
from netspec.ir.graph import Graph, Op
from netspec.ir.initial import initial_statistics, initial_weights
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.sections import Solver
from netspec.ir.stored import stored_inputs
from netspec.ir.types import TensorType
from netspec.runtime.profile import WARM_UP, operator_seconds, run_seconds
from netspec.runtime.roofline import Roofline
from netspec.training.execution.bound import array_types, transform_of
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import Machine
from netspec.training.execution.mixture import drawn_mixture

Arrays = Mapping[str, NDArray[Any]]

OTHER = "(other)"
"""The row of operators that no layer asked for: the sum of losses, the check of finite numbers."""


@dataclass(frozen=True, slots=True)
class Share:
    """One direction of a layer, or of a net, for a whole batch."""

    seconds: float | None
    """None where no operator of its own runs: it is part of another's, or there is nothing."""
    flops: int
    least: float
    """The seconds that the roofline allows at the least."""

    @property
    def rate(self) -> float | None:
        """Arithmetic a second."""
        return self.flops / self.seconds if self.seconds and self.flops else None

    @property
    def roofline(self) -> float | None:
        """The least time over the time taken; above 1 where data stay in a cache."""
        return self.least / self.seconds if self.seconds and self.least else None


@dataclass(frozen=True, slots=True)
class LayerTime:
    """A layer's row."""

    name: str
    type: str
    forward: Share
    backward: Share


@dataclass(frozen=True, slots=True)
class Timing:
    """What `time_net` measured: means over the iterations, so that rows add up."""

    layers: tuple[LayerTime, ...]
    """By the profiler; empty on CUDA, of which it sees launches alone."""
    forward: Share
    """Without the profiler, as the next two."""
    backward: Share | None
    """The step's graph without its forward part; None in phase TEST."""
    update: float | None
    step: float | None
    """Seconds of a whole step as a training takes it, which may be in `shards`."""
    shards: int
    profiled: float | None
    """Seconds of a run while the profiler looked on."""

    @property
    def overhead(self) -> float | None:
        """By how much the profiler slows a run down, as a share of it."""
        plain = (self.forward.seconds or 0) + ((self.backward and self.backward.seconds) or 0)
        return self.profiled / plain - 1 if self.profiled and plain else None


def time_net(net: Net, machine: Machine, roofline: Roofline, *, iterations: int) -> Timing:
    """Time a net in its phase, on random data of its batch.

    TRAIN: forward, backward and update; TEST: forward. UsageError for a net that cannot be trained
    in phase TRAIN.
    """
    training = net.phase is Phase.TRAIN
    arrays = _arrays(net)
    step = _step(net, machine, arrays)
    feeds = _feeds(net, step, arrays)
    names = step.names

    def clock(graph: Graph) -> float:
        fed = {names[v]: feeds[names[v]] for v in graph.inputs}
        return run_seconds(emit(graph, names=names), fed, machine.device, iterations)

    forward = forward_part(step)
    front = clock(forward)
    whole = clock(step.graph) if training else front
    profiled, by_name = None, dict[str, float]()
    if not machine.device.cuda:
        model = emit(step.graph, names=names)
        by_name, profiled = operator_seconds(model, feeds, machine.device, iterations)
    update, step_seconds, shards = None, None, 1
    if training:
        update, step_seconds, shards = _step_seconds(net, machine, arrays, iterations)
    ahead = {op.name for op in forward.ops}
    rows = _rows(net, step.graph.ops, by_name, ahead, roofline) if by_name else ()
    work = _work(net)
    return Timing(
        layers=rows,
        forward=_sum([w[0] for w in work.values()], front, roofline),
        backward=_sum([w[1] for w in work.values()], max(whole - front, 0.0), roofline)
        if training
        else None,
        update=update,
        step=step_seconds,
        shards=shards,
        profiled=profiled,
    )


def forward_part(step: BatchStep) -> Graph:
    """What losses, metrics and batch statistics hang on; the rest of a step is its backward."""
    ends = [step.loss, *step.losses.values(), *step.metrics.values(), *step.observed.values()]
    graph = prune(replace(step.graph, outputs=tuple(dict.fromkeys(ends))))
    read = {value for op in graph.ops for value in op.inputs}
    return replace(graph, inputs=tuple(v for v in graph.inputs if v in read))


def _step(net: Net, machine: Machine, arrays: Arrays) -> BatchStep:
    types, transform = array_types(arrays), transform_of(net)
    if net.phase is Phase.TRAIN:
        return gradient_graph(net, types, transform, machine.target, grad)
    return evaluation_graph(net, types, transform, machine.target)


def _arrays(net: Net) -> dict[str, NDArray[Any]]:
    """One batch of random images and of zeros for labels."""
    rng = np.random.default_rng(0)

    def drawn(type: TensorType) -> NDArray[Any]:
        if type.dtype == "float32":
            return rng.standard_normal(type.shape).astype(type.dtype)
        most = 256 if type.dtype == "uint8" else 1
        return rng.integers(0, most, type.shape, type.dtype)

    return {name: drawn(type) for name, type in stored_inputs(net).items()}


def _feeds(net: Net, step: BatchStep, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """What the step's graph is fed, by port."""
    rng = np.random.default_rng(1)
    known = {"weight": initial_weights(net, 1), "running": initial_statistics(net), "array": arrays}
    if step.mix is not None:
        known["mix"] = drawn_mixture(step.mix, 1, 0)
    feeds: dict[str, NDArray[Any]] = {}
    for value in step.graph.inputs:
        kind, _, name = step.names[value].partition(":")
        if kind == "indices":
            feeds[kind] = np.arange(net.batch, dtype=np.int64)
        elif kind == "random":
            feeds[step.names[value]] = rng.random(value.type.shape, np.float32)
        else:
            feeds[step.names[value]] = np.ascontiguousarray(known[kind][name])
    return feeds


def _rows(
    net: Net,
    ops: tuple[Op, ...],
    seconds: Mapping[str, float],
    ahead: set[str],
    roofline: Roofline,
) -> tuple[LayerTime, ...]:
    """A row for each layer, and one for what belongs to none."""
    spent: dict[tuple[str, bool], float] = {}
    work = _work(net)
    for op in ops:
        key = (op.scope if op.scope in work else OTHER, op.name in ahead)
        spent[key] = spent.get(key, 0.0) + seconds.get(op.name, 0.0)
    rows = []
    for node in net.nodes:
        front, back = (
            Share(spent.get((node.name, ahead)), flops, roofline.least(flops, nbytes))
            for ahead, (flops, nbytes) in zip((True, False), work[node.name], strict=True)
        )
        rows.append(LayerTime(node.name, node.layer.keyword, front, back))
    front, back = (Share(spent.get((OTHER, ahead)), 0, 0.0) for ahead in (True, False))
    return (*rows, LayerTime(OTHER, "", front, back))


_Work = tuple[int, int]
"""Arithmetic and bytes moved, of a batch."""


def _work(net: Net) -> dict[str, tuple[_Work, _Work]]:
    """What each layer has to do at least, forward and backward."""
    counted = {layer.name: layer for layer in cost(net).layers}
    work = {}
    for node in net.nodes:
        layer = counted[node.name]
        flops = (2 * net.batch * layer.macs, 2 * net.batch * layer.backward_macs)
        front, back = _traffic(net, node)
        work[node.name] = ((flops[0], front), (flops[1], back))
    return work


def _traffic(net: Net, node: Node) -> _Work:
    """Bytes forward: bottoms and weights in, tops out; backward: their cotangents too, in and out.

    A blob that is fed has no cotangent.
    """
    tops = sum(t.nbytes for t in node.top_types)
    if node.layer.role is Role.INPUT:
        return 2 * tops, 0
    weights = sum(4 * p.numel for p in node.parameters)
    bottoms = sum(t.nbytes for t in node.bottom_types)
    pulled = sum(
        t.nbytes
        for name, t in zip(node.bottoms, node.bottom_types, strict=True)
        if name not in net.inputs
    )
    return bottoms + weights + tops, tops + bottoms + pulled + 2 * weights


def _sum(parts: list[_Work], seconds: float, roofline: Roofline) -> Share:
    """A whole direction: each layer at its own limit, one after the other."""
    least = sum(roofline.least(*part) for part in parts)
    return Share(seconds, sum(flops for flops, _ in parts), least)


def _step_seconds(
    net: Net, machine: Machine, arrays: Arrays, iterations: int
) -> tuple[float, float, int]:
    """The solver's update and a whole step, as training runs them, and in how many shards.

    SGD with momentum where the spec has no solver.
    """
    solver = net.solver or Solver(base_lr=0.01, momentum=0.9, max_iter=1)
    train = net.model_copy(update={"solver": solver})
    executor = Executor(
        train, None, arrays, None, device=machine.device, seed=1, target=machine.target
    )
    samples = np.arange(net.batch * solver.iter_size, dtype=np.int64) % net.batch
    number = count()
    step = _mean(lambda: executor.step(next(number), samples, 0.0), iterations)
    update = _mean(lambda: executor.update(0, 0.0), iterations)
    executor.close()
    return update, step, executor.shards


def _mean(run: Callable[[], object], iterations: int) -> float:
    times = []
    for _ in range(WARM_UP + iterations):
        begin = perf_counter()
        run()
        times.append(perf_counter() - begin)
    return fmean(times[WARM_UP:])
