"""Caffe's solver test, anew: least squares by every rule, against its formulas in float64.

After `test_gradient_based_solver.cpp`: a layer of one output learns a linear function of 3x10x10
values by the Euclidean loss of 4 samples, for 4 iterations; two halves of a batch are the whole; a
solver that is restored goes on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.compiler import elaborate, read
from netspec.ir.schedule import Course, learning_rate
from netspec.ir.sections import Solver
from netspec.training.execution.executor import Executor
from netspec.training.runs.checkpoint import State

SPEC = """
data "train" { source: "?"  batch_size: BATCH }
input "data" { shape: 3x10x10 }
input "targets" { shape: 1 }
fc "innerprod" {
  bottom: "data"  num_output: 1
  weight_filler { type: gaussian  std: 1 }  bias_filler { type: gaussian  std: 1 }
}
euclidean_loss "loss" { bottom: "innerprod"  bottom: "targets" }
solver { max_iter: 4  FIELDS }
"""
SAMPLES, ITERATIONS, LONG = 4, 4, 30
Array = npt.NDArray[np.float64]

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"base_lr": 1.0},
    "slow": {"base_lr": 0.01},
    "decay": {"base_lr": 1.0, "weight_decay": 0.5},
    "L1": {"base_lr": 0.01, "weight_decay": 0.5, "regularization_type": "L1"},
    "momentum": {"base_lr": 1.0, "momentum": 0.5},
    "clipped": {"base_lr": 0.1, "momentum": 0.5, "clip_gradients": 2.0},
    "everything": {"base_lr": 0.01, "weight_decay": 0.5, "momentum": 0.9, "clip_gradients": 20.0},
}
TAKES_NONE = ("AdaGrad", "RMSProp")
RATES = {
    "SGD": 0.002, "Nesterov": 0.002, "AdaGrad": 0.02, "RMSProp": 0.002, "AdaDelta": 0.5,
    "Adam": 0.02,
}  # fmt: skip
"""Learning rates by which a training converges."""
RULES = tuple(RATES)


def samples() -> tuple[Array, Array]:
    """Random values, and a noisy linear function of them."""
    rng = np.random.default_rng(1701)
    x = rng.normal(size=(SAMPLES, 300))
    return x, (x @ rng.normal(size=300) + rng.normal(size=SAMPLES))[:, None]


def settings(rule: str, name: str) -> dict[str, Any]:
    """A solver's fields; the momentum is always said, 0 where Caffe's would be."""
    fields = {"momentum": 0.0, "delta": 1e-3, **SETTINGS[name]}
    return {"type": rule, **fields, **({"momentum": 0.0} if rule in TAKES_NONE else {})}


CASES = [
    (rule, name)
    for rule in RULES
    for name, fields in SETTINGS.items()
    if not (rule in TAKES_NONE and set(fields) == {"base_lr", "momentum"})
]


def executor(folder: Path, fields: dict[str, Any], iter_size: int = 1) -> Executor:
    said = "  ".join(f"{key}: {value}" for key, value in {**fields, "iter_size": iter_size}.items())
    path = folder / "net.net"
    path.write_text(SPEC.replace("BATCH", str(SAMPLES // iter_size)).replace("FIELDS", said))
    x, y = samples()
    arrays = {
        "data": x.astype(np.float32).reshape(-1, 3, 10, 10),
        "targets": y.astype(np.float32),
    }
    return Executor(elaborate(read(str(path))).train.net, None, arrays, None, device="cpu", seed=1)


def walk(on: Executor, fields: dict[str, Any], start: int = 0) -> Iterator[State]:
    for iteration in range(start, ITERATIONS):
        on.step(iteration, np.arange(SAMPLES), fields["base_lr"])
        yield on.state()


POLICIES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "fixed": ({}, lambda i: 1),
    "step": ({"gamma": 0.5, "stepsize": 7}, lambda i: 0.5 ** (i // 7)),
    "exp": ({"gamma": 0.9}, lambda i: 0.9**i),
    "inv": ({"gamma": 0.1, "power": 0.75}, lambda i: (1 + 0.1 * i) ** -0.75),
    "multistep": (
        {"gamma": 0.3, "stepvalue": [5, 20]}, lambda i: 0.3 ** ((i >= 5) + (i >= 20))
    ),
    "poly": ({"power": 2}, lambda i: (1 - i / LONG) ** 2),
    "sigmoid": ({"gamma": -0.4, "stepsize": 12}, lambda i: 1 / (1 + np.exp(0.4 * (i - 12)))),
}  # fmt: skip
"""The fields of each policy, and the factor of base_lr that they stand for."""


def reference(
    state: State, fields: dict[str, Any], factor: Callable[[int], float] = lambda i: 1
) -> Iterator[tuple[Array, Array]]:
    """Weights and bias after each iteration, as Caffe's formulas have them."""
    x, y = (array.astype(np.float32).astype(float) for array in samples())
    x = np.hstack([x, np.ones((SAMPLES, 1))])
    weight, bias = state.weights["innerprod.weight"], state.weights["innerprod.bias"]
    w = np.append(weight.ravel(), bias).astype(float)
    one, other = np.zeros_like(w), np.zeros_like(w)
    mu, delta = fields["momentum"], fields["delta"]
    for t in count(1):
        lr = fields["base_lr"] * factor(t - 1)
        g = x.T @ (x @ w - y[:, 0]) / SAMPLES
        if (clip := fields.get("clip_gradients", -1)) > 0:
            g *= min(1, clip / np.linalg.norm(g))
        decay = fields.get("weight_decay", 0)
        g = g + decay * (np.sign(w) if fields.get("regularization_type") == "L1" else w)
        match fields["type"]:
            case "SGD":
                one = mu * one + lr * g
                step = one
            case "Nesterov":
                before, one = one, mu * one + lr * g
                step = (1 + mu) * one - mu * before
            case "AdaGrad":
                one = one + g**2
                step = lr * g / (np.sqrt(one) + delta)
            case "RMSProp":
                one = 0.99 * one + 0.01 * g**2
                step = lr * g / (np.sqrt(one) + delta)
            case "AdaDelta":
                one = mu * one + (1 - mu) * g**2
                step = g * np.sqrt((other + delta) / (one + delta))
                other = mu * other + (1 - mu) * step**2
                step = lr * step
            case _:
                one, other = mu * one + (1 - mu) * g, 0.999 * other + 0.001 * g**2
                rate = lr * np.sqrt(1 - 0.999**t) / (1 - mu**t)
                step = rate * one / (np.sqrt(other) + delta)
        w = w - step
        yield w[:-1], w[-1:]


@pytest.mark.parametrize("iter_size", [1, 2])
@pytest.mark.parametrize(("rule", "name"), CASES)
def test_every_iteration_is_caffes(rule: str, name: str, iter_size: int, tmp_path: Path) -> None:
    """To 1e-4 of the weights; halves of a batch, clipped by twice as much, are the whole."""
    fields = settings(rule, name)
    clip = fields.get("clip_gradients", -1)
    ours = {**fields, "clip_gradients": clip * iter_size if clip > 0 else -1}
    on = executor(tmp_path, ours, iter_size)
    wanted = reference(on.state(), fields)
    for state, (weight, bias) in zip(walk(on, fields), wanted, strict=False):
        for tensor, expected in (("weight", weight), ("bias", bias)):
            found = state.weights[f"innerprod.{tensor}"].ravel()
            np.testing.assert_allclose(
                found, expected, rtol=1e-4, atol=1e-4 * max(1, np.abs(weight).max())
            )


@pytest.mark.parametrize("iter_size", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_a_restored_solver_goes_on(rule: str, iter_size: int, tmp_path: Path) -> None:
    """Weights and history are the same to the bit as without the stop."""
    fields = settings(rule, "everything")
    whole = list(walk(executor(tmp_path, fields, iter_size), fields))
    for stop in range(1, ITERATIONS):
        on = executor(tmp_path, fields, iter_size)
        on.restore(whole[stop - 1])
        last = list(walk(on, fields, stop))[-1]
        for name, weight in whole[-1].weights.items():
            assert np.array_equal(last.weights[name], weight)
        for slot, tensors in whole[-1].slots.items():
            for name, kept in tensors.items():
                assert np.array_equal(last.slots[slot][name], kept)


@pytest.mark.parametrize("penalty", ["L2", "L1"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", RULES)
def test_thirty_steps_by_every_rule_policy_and_penalty(
    rule: str, policy: str, penalty: str, tmp_path: Path
) -> None:
    """To 1e-5 of the weights, where they have moved by 2 % at least."""
    more, factor = POLICIES[policy]
    momentum = 0.0 if rule in TAKES_NONE else 0.9
    fields = {
        "type": rule, "base_lr": RATES[rule], "momentum": momentum,
        "delta": 1e-3, "weight_decay": 0.1, "regularization_type": penalty,
    }  # fmt: skip
    on = executor(tmp_path, {**fields, "lr_policy": policy, **more})
    start = on.state()
    solver = Solver.model_validate({**fields, "lr_policy": policy, **more, "max_iter": LONG})
    for iteration, (weight, _) in zip(range(LONG), reference(start, fields, factor), strict=False):
        on.step(iteration, np.arange(SAMPLES), learning_rate(solver, iteration, Course(LONG)))
        found = on.state().weights["innerprod.weight"].ravel()
        assert np.linalg.norm(found - weight) <= 1e-5 * np.linalg.norm(weight)
    first = start.weights["innerprod.weight"].ravel()
    assert np.linalg.norm(weight - first) > 0.02 * np.linalg.norm(first)
