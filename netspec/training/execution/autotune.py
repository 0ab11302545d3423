"""Measures the formulations that are close, operator by operator, and takes the fastest."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.alone import alone
from netspec.codegen.choice import preferred
from netspec.codegen.emit import emit
from netspec.codegen.formulation import Formulation, Sight
from netspec.codegen.layout import Plan, plan
from netspec.codegen.measured import is_close, key
from netspec.codegen.target import Target
from netspec.ir.graph import Graph, Op, Value
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding, Memory
from netspec.training.execution.tuned import Circumstances, Measured, Tuned

GAIN = 0.03
"""What another formulation must win, in three rounds of four and best against best."""
SECONDS, ALL_SECONDS = 0.2, 30.0
"""For the rounds of one operator, and for everything; what is left keeps the rules' choice."""
_TRIALS, _FEWEST, _MOST = 3, 7, 200
"""Rounds: after the trials the hopeless leave; the fewest are run even if they take longer."""
_HOPELESS = 1.5
"""By how much the best time of a formulation may exceed that of the fastest."""
_TOLERANCE = 1e-3
"""Of the largest value: one that gives other numbers than the rules' choice is not taken."""


class Tuner:
    """Plans a graph by measuring, each key once, until the time is up.

    Nothing is written while it works: an interrupt leaves no trace.
    """

    def __init__(
        self,
        device: Device,
        known: Mapping[str, Measured] | None = None,
        *,
        told: Callable[[int, int], None] = lambda _, __: None,
        clock: Callable[[], float] = time.perf_counter,
        seconds: float = ALL_SECONDS,
    ) -> None:
        """`known` need no measuring; `told(done, total)` hears of each key that is done with."""
        self.operators: dict[str, Measured] = {}
        """What the graph's operators take, measured now or known before."""
        self.left: set[str] = set()
        """Keys for which there was no time."""
        self._device, self._known = device, known or {}
        self._told, self._clock = told, clock
        self._seconds, self._end = seconds, 0.0
        self._total = 0

    def __call__(self, graph: Graph, target: Target) -> Plan:
        """The plan with the fastest formulations."""
        keys: set[str] = set()

        def count(node: Op, right: Sequence[Formulation], sight: Sight) -> Formulation:
            if is_close(node, right):
                keys.add(key(node, right, sight))
            return preferred(node, right, sight)

        plan(graph, target, count)
        self._total = len(keys)
        self._end = self._clock() + self._seconds
        return plan(graph, target, self.choose)

    def tuned(self, here: Circumstances) -> Tuned:
        """What a run shall keep."""
        return Tuned(circumstances=here, operators=self.operators)

    @property
    def changed(self) -> int:
        """Keys whose choice is not that of the rules."""
        return sum(found.chosen != found.rules for found in self.operators.values())

    def choose(self, node: Op, right: Sequence[Formulation], sight: Sight) -> Formulation:
        """The fastest of the formulations, the rules' one where that is not worth knowing."""
        rules = preferred(node, right, sight)
        if not is_close(node, right):
            return rules
        called = key(node, right, sight)
        if called not in self.operators and called not in self.left:
            if called in self._known:
                self.operators[called] = self._known[called]
            elif self._clock() >= self._end:
                self.left.add(called)
            else:
                self.operators[called] = self._measure(node, right, rules, sight)
            done = len(self.operators) + len(self.left)
            self._total = max(self._total, done)
            self._told(done, self._total)
        found = self.operators.get(called)
        return next((f for f in right if found and f.name == found.chosen), rules)

    def _measure(
        self, node: Op, right: Sequence[Formulation], rules: Formulation, sight: Sight
    ) -> Measured:
        """Times in turns, and what beats the rules' choice by enough."""
        racers: dict[str, _Racer] = {}
        inputs: dict[str, Memory] = {}
        for formulation in (rules, *(f for f in right if f is not rules)):
            try:
                racer = _Racer(node, formulation, rules, sight, self._device, inputs)
                racer.run()
            except Exception:  # whatever an internal domain may come to say
                continue
            if formulation is rules or racer.agrees(racers.get(rules.name)):
                racers[formulation.name] = racer
        if rules.name not in racers:  # where it is used it will say why
            return Measured(chosen=rules.name, rules=rules.name, ms={})
        times = self._race(racers, rules.name)
        ms = {name: round(1e3 * statistics.median(kept), 4) for name, kept in times.items()}
        return Measured(chosen=fastest(times, rules.name), rules=rules.name, ms=ms)

    def _race(self, racers: dict[str, _Racer], rules: str) -> dict[str, list[float]]:
        """Seconds of each round; who is far behind leaves early, but for the rules' choice."""
        times: dict[str, list[float]] = {name: [] for name in racers}
        running = dict(racers)
        end = min(self._clock() + SECONDS, self._end)
        for rounds in range(_MOST):
            if rounds >= _FEWEST and self._clock() >= end:
                break
            for name, racer in running.items():
                times[name].append(self._timed(racer))
            if rounds + 1 == _TRIALS:
                limit = _HOPELESS * min(map(min, times.values()))
                hopeful = {name for name in running if min(times[name]) <= limit} | {rules}
                running = {name: racer for name, racer in running.items() if name in hopeful}
                if len(running) == 1:
                    break
        return times

    def _timed(self, racer: _Racer) -> float:
        started = self._clock()
        racer.run()
        return self._clock() - started


def fastest(times: Mapping[str, Sequence[float]], rules: str) -> str:
    """The formulation that beats the rules' one most, if one does so by enough.

    Times of one round are compared with each other: what else the machine does disturbs both.
    """
    beaten: dict[str, float] = {}
    for name, mine in times.items():
        if name != rules:
            shares = [a / b for a, b in zip(mine, times[rules], strict=False)]
            _, median, most = statistics.quantiles(shares, n=4, method="inclusive")
            if most < 1 - GAIN and min(mine) < (1 - GAIN) * min(times[rules]):
                beaten[name] = median
    return min(beaten, key=lambda name: beaten[name], default=rules)


class _Racer:
    """One formulation, loaded, over inputs that all share."""

    def __init__(
        self,
        node: Op,
        formulation: Formulation,
        like: Formulation,
        sight: Sight,
        device: Device,
        inputs: dict[str, Memory],
    ) -> None:
        """`inputs` are filled by the first one."""
        single = alone(node, formulation, like, sight)
        for value in single.graph.inputs:
            if value.name not in inputs:
                array = _filled(value, sight.block, single.channels.get(value))
                inputs[value.name] = Memory.zeros(device, array.shape, array.dtype)
                inputs[value.name].write(array)
        outputs = {
            f"y{i}": Memory.zeros(device, v.type.shape, v.type.dtype)
            for i, v in enumerate(single.graph.outputs)
        }
        names = {v: v.name for v in single.graph.inputs}
        names |= dict(zip(single.graph.outputs, outputs, strict=True))
        self._kept = {**inputs, **outputs}  # what is bound must outlive the binding
        self._outputs = tuple(outputs.values())
        addresses = {name: memory.pointer for name, memory in self._kept.items()}
        model = emit(single.graph, names=names)
        self._binding = Binding(make_session(model, device), device, addresses)

    def run(self) -> None:
        self._binding.run()

    def agrees(self, other: _Racer | None) -> bool:
        """Whether the last runs of both gave the same but for rounding."""
        return other is not None and all(
            _close(mine.read(), theirs.read())
            for mine, theirs in zip(self._outputs, other._outputs, strict=True)
        )


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= _TOLERANCE * np.abs(b).max())


def _filled(value: Value, block: int, channels: int | None) -> NDArray[np.float32]:
    """Normal numbers, with zeros behind `channels` where a value in blocks has more."""
    assert value.type.dtype == "float32", value.type
    some = np.random.default_rng(0).standard_normal(_SOME, np.float32)
    array: NDArray[np.float32] = np.resize(some, value.type.shape)
    if channels is not None and channels % block:
        n, whole, *extent = value.type.shape
        array.reshape(n, whole // block, *extent, block)[:, -1, ..., channels % block :] = 0
    return array


_SOME = 65521
"""Random numbers that are drawn, and then repeated; a prime, so that no rows are alike."""
