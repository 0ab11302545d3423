"""Learning rates, and the means of weights, against PyTorch's."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from schedulers import LENGTH, POLICIES, RATE, Maker, rates

from netspec.codegen.averaging import Averaging
from netspec.codegen.emit import emit
from netspec.codegen.solvers import UpdateRule, update_rule
from netspec.codegen.update import StatisticGroup, WeightGroup, update_graph
from netspec.ir.schedule import Course, learning_rate, warming_up
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding
from netspec.training.plateau import Plateau

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

EPOCH = 5

CYCLES: dict[str, dict[str, Any]] = {
    "as usual": {},
    "steep": {"pct_start": 0.1, "div_factor": 100.0, "final_div_factor": 10.0},
    "rising": {"pct_start": 1.0},
    "falling": {"pct_start": 0.0},
}


def theirs(make: Maker, steps: int = LENGTH) -> list[float]:
    return rates(torch, make, steps)


def solver(word: str, **fields: Any) -> Solver:
    said = {"base_lr": RATE, "max_iter": LENGTH, "lr_policy": word.partition(" ")[0]}
    return Solver.model_validate({**said, **fields})


def ours(solver: Solver, course: Course, steps: int = LENGTH) -> list[float]:
    return [learning_rate(solver, i, course) for i in range(steps)]


@pytest.mark.parametrize("word", POLICIES)
def test_every_policy_is_pytorchs(word: str) -> None:
    fields, make = POLICIES[word]
    found = ours(solver(word, **fields), Course(LENGTH))
    np.testing.assert_allclose(found, theirs(make), rtol=1e-12, atol=0)


@pytest.mark.parametrize("word", POLICIES)
def test_warm_up_multiplies_by_a_linear_scheduler(word: str) -> None:
    fields, make = POLICIES[word]
    found = ours(solver(word, warmup=12, warmup_factor=0.2, **fields), Course(LENGTH))
    warm = theirs(lambda lr, o: lr.LinearLR(o, 0.2, 1.0, 12))
    wanted = np.array(theirs(make)) * warm / RATE
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 61])
@pytest.mark.parametrize("name", CYCLES)
def test_one_cycle_is_pytorchs(name: str, length: int) -> None:
    fields = CYCLES[name]
    found = ours(solver("one_cycle", **fields), Course(length), length)
    if fields.get("pct_start", 0.3) * length == 1:  # where PyTorch divides 0 by 0
        assert found[0] == RATE
        return
    wanted = theirs(
        lambda lr, o: lr.OneCycleLR(o, RATE, length, cycle_momentum=False, **fields), length
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("word", ["step", "multistep"])
def test_steps_of_epochs_are_those_of_a_scheduler_stepped_once_in_each(word: str) -> None:
    fields, make = POLICIES[word]
    course = Course(LENGTH * EPOCH, Fraction(EPOCH))
    found = ours(solver(word, lr_unit="EPOCH", **fields), course, LENGTH * EPOCH)
    np.testing.assert_allclose(found, np.repeat(theirs(make), EPOCH), rtol=1e-12, atol=0)


@pytest.mark.parametrize("word", ["exp", "inv", "inverse_time", "sigmoid", "fixed"])
def test_other_policies_count_epochs_in_parts(word: str) -> None:
    """They pass through the scheduler's rates at whole epochs, and move in between."""
    fields, make = POLICIES[word]
    course = Course(LENGTH * EPOCH, Fraction(EPOCH))
    said = solver(word, lr_unit="EPOCH", warmup=3, warmup_factor=0.2, **fields)
    found = ours(said, course, LENGTH * EPOCH)
    warm = theirs(lambda lr, o: lr.LinearLR(o, 0.2, 1.0, 3))
    wanted = np.array(theirs(make)) * warm / RATE
    np.testing.assert_allclose(found[::EPOCH], wanted, rtol=1e-12, atol=0)
    assert len(set(found[: 3 * EPOCH])) == 3 * EPOCH


@pytest.mark.parametrize("word", ["poly", "cosine"])
def test_shares_of_the_length_have_no_unit(word: str) -> None:
    fields, _ = POLICIES[word]
    course = Course(LENGTH, Fraction(EPOCH))
    plain, epochs = (solver(word, lr_unit=unit, **fields) for unit in ("ITERATION", "EPOCH"))
    assert ours(plain, course) == ours(epochs, course)


def test_an_epoch_need_not_be_a_whole_number_of_iterations() -> None:
    """70 samples in batches of 20: the fourth iteration is the last that begins in the first."""
    said = solver("step", lr_unit="EPOCH", gamma=0.5, stepsize=1)
    found = ours(said, Course(14, Fraction(70, 20)), 14)
    assert found == [RATE * 0.5 ** (i * 20 // 70) for i in range(14)]


@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("min_lr", [0.0, 0.02])
@pytest.mark.parametrize(("mode", "threshold"), [("REL", 0.05), ("ABS", 0.02), ("REL", 0.0)])
@pytest.mark.parametrize("higher", [True, False])
def test_plateau_is_reduce_lr_on_plateau(
    higher: bool, mode: str, threshold: float, min_lr: float, cooldown: int
) -> None:
    said = solver(
        "plateau", gamma=0.3, patience=2, threshold=threshold, threshold_mode=mode,
        cooldown=cooldown, min_lr=min_lr,
    )  # fmt: skip
    stepped = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        stepped, "max" if higher else "min", 0.3, 2, threshold, mode.lower(), cooldown, min_lr, 0
    )
    rng = np.random.default_rng(0)
    scores = 0.5 + 0.3 * np.tanh(np.arange(60) / 12) * (1 if higher else -1)
    scores += rng.normal(scale=0.03, size=60)
    scores[17] = np.nan
    state = Plateau()
    for score in scores:
        state = state.tested(float(score), said, higher=higher, warming_up=False)
        scheduler.step(float(score))
        rate = learning_rate(said, 0, Course(60, reductions=state.reductions))
        assert rate == pytest.approx(float(stepped.param_groups[0]["lr"]), rel=1e-12)
    assert state.reductions >= 3


def test_plateau_blames_no_test_of_the_warm_up() -> None:
    said = solver("plateau", gamma=0.1, patience=0, warmup=10)
    course, state = Course(LENGTH), Plateau()
    for done in range(0, 20, 2):
        warming = warming_up(said, done, course)
        assert warming is (done < 10)
        state = state.tested(0.5, said, higher=True, warming_up=warming)
    assert state.reductions == 5


@pytest.mark.parametrize("warmup", [False, True])
def test_the_mean_of_weights_is_pytorchs(warmup: bool) -> None:
    """`AveragedModel` copies the weights at its first call, which is made before the training.

    With warm-up the decay of each step is given to PyTorch, which knows none.
    """
    said = solver("fixed", momentum=0.9, ema_decay=0.95, ema_warmup=warmup)
    averaging, rule = Averaging.of(said), update_rule(said)
    assert averaging is not None
    fed, binding = bound(rule)
    rng = np.random.default_rng(0)
    fed["weights:0"][:] = fed["average:0"][:] = rng.normal(size=64)
    fed["running:0"][:] = fed["running_average:0"][:] = rng.normal(size=8)
    swa, twin = torch.optim.swa_utils, Twin(fed)
    mean = swa.AveragedModel(twin, multi_avg_fn=swa.get_ema_multi_avg_fn(0.95), use_buffers=True)
    mean.update_parameters(twin)
    for iteration in range(30):
        risen = (1 + iteration) / (10 + iteration)
        mean.multi_avg_fn = swa.get_ema_multi_avg_fn(min(0.95, risen) if warmup else 0.95)
        fed["gradients:0"][:] = rng.normal(size=64)
        fed["batch:0"][:] = rng.normal(size=8)
        scalars = rule.feeds(0.1, iteration) | {averaging.SCALAR: averaging.fresh(iteration)}
        for name, value in scalars.items():
            fed[name][...] = value
        binding.run()
        twin.load(fed)
        mean.update_parameters(twin)
        for kind in ("weights", "running"):
            found = fed["average:0" if kind == "weights" else "running_average:0"]
            wanted = mean.module.get_buffer(kind)
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert np.abs(fed["average:0"] - fed["weights:0"]).max() > 0.1


def bound(rule: UpdateRule) -> tuple[dict[str, Any], Binding]:
    """An update of 64 weights and 8 statistics, in place, and the arrays that it works on."""
    step = update_graph([WeightGroup("0", 64)], [StatisticGroup("0", 8, 0.1)], rule)
    model, cpu = emit(step.graph, names=step.names), Device("cpu")
    fed = {
        port.name: np.zeros([d.dim_value for d in port.type.tensor_type.shape.dim], np.float32)
        for port in model.graph.input
    }
    fed["finite"][...] = 1
    addresses = {name: array.ctypes.data for name, array in fed.items()}
    addresses |= {f"next:{name}": pointer for name, pointer in addresses.items()}
    return fed, Binding(make_session(model, cpu), cpu, addresses)


class Twin(torch.nn.Module):
    """A module that holds what an update has made."""

    def __init__(self, fed: dict[str, Any]) -> None:
        super().__init__()
        for kind in ("weights", "running"):
            self.register_buffer(kind, torch.from_numpy(fed[f"{kind}:0"].copy()))

    def load(self, fed: dict[str, Any]) -> None:
        for kind in ("weights", "running"):
            self.get_buffer(kind).copy_(torch.from_numpy(fed[f"{kind}:0"]))
