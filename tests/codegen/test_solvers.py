"""Updates against Caffe's walk, against float64, and in place against separate buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.codegen.averaging import Averaging
from netspec.codegen.emit import emit
from netspec.codegen.solvers import PYTORCH, SOLVERS, UpdateRule, update_rule
from netspec.codegen.target import CUDA
from netspec.codegen.update import (
    StatisticGroup,
    UpdateStep,
    WeightGroup,
    update_graph,
)
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding

Array = npt.NDArray[np.float32]
CPU = Device("cpu")
GROUPS = [WeightGroup("0", 320), WeightGroup("1", 64, 2.0, 0.0)]
STATISTICS = [StatisticGroup("0", 64, 0.1)]

WALKS = {
    "SGD": (Solver(base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=4), 1.0, 1.0, 0.1,
            [0.949, 0.927151, 0.8065597489999999, 0.6872210633509999]),
    "SGD with multipliers": (Solver(base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=4),
            2.0, 0.0, 0.1, [0.9, 0.86, 0.624, 0.3916]),
    "SGD, lr falls after 2": (Solver(base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=4),
            1.0, 1.0, 0.01, [0.949, 0.927151, 0.8973941849, 0.86952331189151]),
    "Nesterov": (Solver(type="Nesterov", base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=4),
            1.0, 1.0, 0.1, [0.9031, 0.90757411, 0.6981892081909999, 0.580233053766337]),
    "SGD with L1": (Solver(base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=4,
                           regularization_type="L1"),
            1.0, 1.0, 0.1, [0.949, 0.9271, 0.80639, 0.686751]),
    "Adam": (Solver(type="Adam", base_lr=0.1, weight_decay=0.01, max_iter=4),
            1.0, 1.0, 0.1,
            [0.9000000620054058, 0.8712294229898022, 0.8046144267762954, 0.7448715880825473]),
}  # fmt: skip
"""From w = 1 along the gradients 0.5, -0.25, 1, 0.1: computed from Caffe's solver sources."""


RULES = [*SOLVERS, *(f"{kind} PYTORCH" for kind in PYTORCH)]
"""Every rule, by its type and whose arithmetic it has."""
ROOTS = {"squares", "mean_square", "mean_square_step", "v"}
"""Slots that are not below 0."""


def rule_of(kind: str, **fields: Any) -> UpdateRule:
    kind, _, arithmetic = kind.partition(" ")
    momentum = {} if kind in ("AdaGrad", "RMSProp") else {"momentum": 0.9}
    fields = {"weight_decay": 0.01, "arithmetic": arithmetic or "CAFFE", **momentum, **fields}
    return update_rule(Solver(type=kind, base_lr=0.1, max_iter=1, **fields))


def run(step: UpdateStep, fed: Mapping[str, Array], *, in_place: bool) -> dict[str, Array]:
    """The new state; in place, the arrays of `fed` are written over."""
    made = {name: fed[name.removeprefix("next:")] for name in step.names.values()}
    if not in_place:
        made = {name: np.full_like(array, 99) for name, array in made.items()}
    addresses = {name: array.ctypes.data for name, array in {**fed, **made}.items()}
    model = emit(step.graph, names=step.names, check=True)
    Binding(make_session(model, CPU), CPU, addresses).run()
    return made


def fresh(rule: UpdateRule, rate: float, iteration: int, groups: Sequence[WeightGroup]) -> Any:
    """Random inputs of an update."""
    rng = np.random.default_rng(iteration)
    fed = {
        f"{kind}:{group.name}": rng.normal(size=group.numel).astype(np.float32)
        for group in groups
        for kind in ("weights", "gradients", *rule.slots)
    }
    for name in fed:
        if name.partition(":")[0] in ROOTS:
            fed[name] = np.abs(fed[name])
    for kind in ("running", "batch", "running_average"):
        fed[f"{kind}:0"] = rng.normal(size=64).astype(np.float32)
    for group in groups:
        fed[f"average:{group.name}"] = rng.normal(size=group.numel).astype(np.float32)
    scalars = {"finite": 1.0, Averaging.SCALAR: 0.1, **rule.feeds(rate, iteration)}
    return fed | {name: np.array(value, np.float32) for name, value in scalars.items()}


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("name", WALKS)
def test_walks_as_caffe_does(name: str, guarded: bool) -> None:
    solver, lr_mult, decay_mult, last_rate, expected = WALKS[name]
    rule = update_rule(solver)
    step = update_graph([WeightGroup("0", 1, lr_mult, decay_mult)], [], rule, guarded=guarded)
    fed = {f"{kind}:0": np.zeros(1, np.float32) for kind in ("gradients", *rule.slots)}
    fed["weights:0"] = np.ones(1, np.float32)
    for iteration, (g, w) in enumerate(zip((0.5, -0.25, 1.0, 0.1), expected, strict=True)):
        fed["gradients:0"][:] = g
        scalars = rule.feeds(0.1 if iteration < 2 else last_rate, iteration) | {"finite": 1.0}
        fed |= {key: np.array(value, np.float32) for key, value in scalars.items()}
        run(step, fed, in_place=True)
        assert fed["weights:0"][0] == pytest.approx(w, abs=2e-6)


@pytest.mark.parametrize(
    ("penalty", "clip", "size", "mean"),
    [("L2", -1, 1, 0), ("L1", 5, 1, 0), ("L2", 5, 3, 0), ("L2", -1, 1, 0.9), ("L1", 5, 3, 0.9)],
)
@pytest.mark.parametrize("kind", RULES)
def test_in_place_is_out_of_place(
    kind: str, penalty: str, clip: float, size: int, mean: float
) -> None:
    fields = {"regularization_type": penalty, "clip_gradients": clip, "iter_size": size}
    rule = rule_of(kind, ema_decay=mean, **fields)
    guarded, bare = (update_graph(GROUPS, STATISTICS, rule, guarded=g) for g in (True, False))
    apart = run(guarded, fresh(rule, 0.1, 7, GROUPS), in_place=False)
    for step, in_place in ((guarded, True), (bare, True), (bare, False)):
        made = run(step, fresh(rule, 0.1, 7, GROUPS), in_place=in_place)
        for name, array in made.items():
            assert np.array_equal(array, apart[name]), (name, in_place)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["gradients:0", "gradients:1", "batch:0"])
@pytest.mark.parametrize("kind", RULES)
def test_what_is_not_finite_changes_nothing(kind: str, where: str, bad: float) -> None:
    rule = rule_of(kind, ema_decay=0.9)
    fed, before = (fresh(rule, 0.1, 3, GROUPS) for _ in range(2))
    fed[where][17] = bad
    fed["finite"][...] = 0
    for name in run(update_graph(GROUPS, STATISTICS, rule), fed, in_place=True):
        old = name.removeprefix("next:")
        assert np.array_equal(fed[old], before[old]), name


@pytest.mark.parametrize("penalty", ["L2", "L1"])
@pytest.mark.parametrize("kind", RULES)
def test_a_gap_of_zeros_stays_zero(kind: str, penalty: str) -> None:
    rule = rule_of(kind, regularization_type=penalty)
    fed = fresh(rule, 0.1, 0, GROUPS)
    for name in ("weights:0", "gradients:0", *(f"{slot}:0" for slot in rule.slots)):
        fed[name][10:20] = 0
    run(update_graph(GROUPS, STATISTICS, rule), fed, in_place=True)
    assert not fed["weights:0"][10:20].any()
    assert fed["weights:0"].all() or fed["weights:0"][:10].all()


@pytest.mark.parametrize("penalty", ["L2", "L1"])
@pytest.mark.parametrize("kind", RULES)
def test_cuda_has_every_operator(kind: str, penalty: str) -> None:
    fields = {"clip_gradients": 1, "iter_size": 2, "ema_decay": 0.9}
    rule = rule_of(kind, regularization_type=penalty, **fields)
    assert all(CUDA.runs(op) for op in update_graph(GROUPS, STATISTICS, rule).graph.ops)


def test_without_clipping_and_accumulation_the_update_has_no_operator_for_them() -> None:
    plain = update_graph(GROUPS, STATISTICS, rule_of("SGD")).graph
    clipped = update_graph(GROUPS, STATISTICS, rule_of("SGD", clip_gradients=1)).graph
    assert len(clipped.ops) - len(plain.ops) == 8 + len(GROUPS)
    assert not {"ReduceSum", "Sqrt", "Min"} & {op.op_type for op in plain.ops}


@pytest.mark.parametrize("clip", [0.5, 1e6])
@pytest.mark.parametrize("size", [1, 4])
def test_gradients_are_clipped_together_and_then_divided(clip: float, size: int) -> None:
    """Caffe clips the norm of the sum over all parameters, whatever their lr_mult, before 1/n."""
    rule = rule_of("SGD", momentum=0.0, weight_decay=0.0, clip_gradients=clip, iter_size=size)
    fed, before = (fresh(rule, 0.1, 5, GROUPS) for _ in range(2))
    run(update_graph(GROUPS, [], rule), fed, in_place=True)
    norm = np.sqrt(sum(np.square(before[f"gradients:{i}"].astype(float)).sum() for i in "01"))
    for group, mult in (("0", 1), ("1", 2)):
        step = before[f"weights:{group}"] - fed[f"weights:{group}"]
        wanted = 0.1 * mult * min(1, clip / norm) / size * before[f"gradients:{group}"]
        np.testing.assert_allclose(step, wanted, atol=3e-7)


@pytest.mark.parametrize("scale", [0, 1e-30, 1e30])
def test_a_norm_beyond_float32_breaks_nothing(scale: float) -> None:
    """Its square is 0 or infinite: gradients stay as they are, or become 0."""
    rule = rule_of("SGD", momentum=0.0, weight_decay=0.0, clip_gradients=1)
    fed, before = (fresh(rule, 0.1, 5, GROUPS) for _ in range(2))
    for group in "01":
        fed[f"gradients:{group}"] *= np.float32(scale)
    run(update_graph(GROUPS, [], rule), fed, in_place=True)
    for group in "01":
        np.testing.assert_allclose(fed[f"weights:{group}"], before[f"weights:{group}"], atol=1e-6)


def test_the_l1_penalty_pulls_every_weight_alike() -> None:
    """By λ, whatever its size, and not at 0 (Caffe, `SGDSolver::Regularize`)."""
    rule = rule_of("SGD", momentum=0.0, weight_decay=0.25, regularization_type="L1")
    weights = np.array([2e-38, 1, 3e38, 0, -2e-38, -1, -3e38], np.float32)
    fed = {"weights:0": weights.copy(), "gradients:0": np.zeros(7, np.float32)}
    fed |= {"momentum:0": np.zeros(7, np.float32), "finite": np.array(1, np.float32)}
    fed["rate"] = np.array(1, np.float32)
    made = run(update_graph([WeightGroup("0", 7, 1.0, 2.0)], [], rule), fed, in_place=True)
    np.testing.assert_array_equal(made["next:momentum:0"], [0.5, 0.5, 0.5, 0, -0.5, -0.5, -0.5])
    np.testing.assert_array_equal(fed["weights:0"], weights - made["next:momentum:0"])


def test_without_momentum_the_step_is_the_gradient() -> None:
    rule = rule_of("SGD", momentum=0.0, weight_decay=0.0)
    fed, before = (fresh(rule, 0.1, 5, GROUPS) for _ in range(2))
    run(update_graph(GROUPS, STATISTICS, rule), fed, in_place=True)
    step = before["weights:1"] - fed["weights:1"]
    np.testing.assert_allclose(step, 0.2 * before["gradients:1"], atol=1e-6)


def test_statistics_move_by_their_share() -> None:
    rule = rule_of("SGD")
    fed, before = (fresh(rule, 0.1, 5, GROUPS) for _ in range(2))
    run(update_graph(GROUPS, STATISTICS, rule), fed, in_place=True)
    expected = 0.9 * before["running:0"] + 0.1 * before["batch:0"]
    np.testing.assert_allclose(fed["running:0"], expected, atol=1e-6)


def test_without_means_the_update_has_no_operator_for_them() -> None:
    plain, mean = (
        update_graph(GROUPS, STATISTICS, rule_of("SGD", ema_decay=decay)).graph
        for decay in (0.0, 0.9)
    )
    assert len(mean.ops) - len(plain.ops) == 4 * len(GROUPS) + 4 * len(STATISTICS)
    assert len(mean.inputs) - len(plain.inputs) == 1 + len(GROUPS) + len(STATISTICS)


def test_adam_in_double_precision() -> None:
    """Kingma & Ba, Algorithm 1, over 50 steps of a gradient that changes its sign and size."""
    rule = rule_of("Adam PYTORCH", weight_decay=0.0, delta=1e-8)
    step = update_graph(GROUPS[:1], [], rule)
    rng = np.random.default_rng(0)
    w, m, v = rng.normal(size=320), np.zeros(320), np.zeros(320)
    fed = {"weights:0": w.astype(np.float32)}
    fed |= {f"{slot}:0": np.zeros(320, np.float32) for slot in "mv"}
    for t in range(1, 51):
        g = rng.normal(size=320) * 10 ** rng.uniform(-4, 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        fed["gradients:0"] = g.astype(np.float32)
        scalars = {"finite": 1.0, **rule.feeds(0.1, t - 1)}
        fed |= {key: np.array(value, np.float32) for key, value in scalars.items()}
        run(step, fed, in_place=True)
    np.testing.assert_allclose(fed["weights:0"], w, atol=2e-5)
