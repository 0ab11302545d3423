"""The executor on small nets: it learns, repeats itself, skips what is not finite, resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.data.order import key, squares
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node, Parameter
from netspec.ir.sections import DataSection, Solver, Transform
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.runtime.state import Binding
from netspec.training.bound import uniform
from netspec.training.checkpoint import State
from netspec.training.executor import Executor

Arrays = dict[str, npt.NDArray[Any]]

MLP: list[tuple[str, str, dict[str, Any]]] = [
    ("fc", "ip1", {"num_output": 16}),
    ("relu", "relu1", {}),
    ("fc", "ip2", {"num_output": 3}),
    ("softmax_loss", "loss", {}),
    ("accuracy", "accuracy", {}),
]
BN = [("fc", "ip0", {"num_output": 8}), ("batch_norm", "bn", {}), *MLP]
RATES = {"ip1.bias": (2.0, 0.0), "ip2.bias": (2.0, 0.0)}


def chain(
    layers: list[tuple[str, str, dict[str, Any]]],
    batch: int,
    phase: Phase = Phase.TRAIN,
    *,
    shape: Shape = (6,),
    rates: Mapping[str, tuple[float, float]] = RATES,
    solver: str = "SGD",
    transform: Transform | None = None,
) -> Net:
    """Layers one after the other; losses and metrics read the last blob and `label`."""
    types = {"data": TensorType((batch, *shape)), "label": TensorType((batch,), "int64")}
    blob = "data"
    nodes = [
        Node(name="data", layer=LAYERS["input"].model_validate({"shape": shape}), bottoms=(),
             tops=("data",), bottom_types=(), top_types=(types["data"],))
    ]  # fmt: skip
    for keyword, name, fields in layers:
        layer = LAYERS[keyword](**fields)
        ends = layer.role in (Role.LOSS, Role.METRIC)
        bottoms = (blob, "label") if ends else (blob,)
        bottom_types = tuple(types[b] for b in bottoms)
        (types[name],) = top_types = layer.infer(bottom_types)
        parameters = tuple(
            Parameter(f"{name}.{w.name}", w.shape, w.filler, *rates.get(f"{name}.{w.name}", ()))
            for w in layer.weights(bottom_types)
        )
        nodes.append(
            Node(name=name, layer=layer, bottoms=bottoms, tops=(name,), bottom_types=bottom_types,
                 top_types=top_types, parameters=parameters,
                 statistics=layer.statistics(bottom_types),
                 loss_weight=float(layer.role is Role.LOSS))
        )  # fmt: skip
        blob = blob if ends else name
    return Net(
        name="chain", phase=phase, batch=batch, nodes=tuple(nodes), label=types["label"],
        data=DataSection(source="toy", batch_size=batch, transform=transform or Transform()),
        solver=Solver(type=solver, base_lr=0.1, momentum=0.9, weight_decay=1e-3, max_iter=1),
    )  # fmt: skip


def toy(samples: int, seed: int = 0) -> Arrays:
    """Three clouds that a line separates."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, samples)
    centres = np.array([[3, 0, 0, 1, 0, 0], [0, 3, 0, 0, 1, 0], [0, 0, 3, 0, 0, 1]])
    data = centres[label] + rng.normal(scale=0.5, size=(samples, 6))
    return {"data": data.astype(np.float32), "label": label}


def executor(
    layers: list[tuple[str, str, dict[str, Any]]] = MLP,
    train: Arrays | None = None,
    test: Arrays | None = None,
    test_batch: int = 7,
    seed: int = 1,
    **settings: Any,
) -> Executor:
    def test_net(batch: int) -> Net:
        return chain(layers, batch, Phase.TEST, **settings)

    return Executor(
        chain(layers, 16, **settings), test_net(test_batch), train or toy(256), test or toy(45, 5),
        device="cpu", seed=seed, test_for_batch=test_net,
    )  # fmt: skip


def steps(on: Executor, count: int, start: int = 0, rate: float = 0.1) -> list[float]:
    """Losses of consecutive batches of 16 out of 256 samples."""
    return [
        on.step(i, np.arange(16 * i, 16 * i + 16) % 256, rate).loss
        for i in range(start, start + count)
    ]


def flat(state: State) -> dict[str, npt.NDArray[np.float32]]:
    slots = {f"{s}/{n}": a for s, tensors in state.slots.items() for n, a in tensors.items()}
    return {**state.weights, **slots, **state.statistics}


def same(a: State, b: State) -> bool:
    one, other = flat(a), flat(b)
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("layers", [MLP, BN], ids=["mlp", "bn"])
@pytest.mark.parametrize(("solver", "rate"), [("SGD", 0.05), ("Nesterov", 0.05), ("Adam", 0.01)])
def test_learns_what_a_line_separates(layers: Any, solver: str, rate: float) -> None:
    on = executor(layers, solver=solver)
    before = on.evaluate()
    steps(on, 60, rate=rate)
    after = on.evaluate()
    assert after.metrics["accuracy"] > 0.95
    assert after.loss < 0.2 < before.loss
    assert after.loss == after.losses["loss"]


def test_two_executors_do_the_same() -> None:
    drop = [*MLP[:2], ("dropout", "drop", {"dropout_ratio": 0.3}), *MLP[2:]]
    one, other = executor(drop), executor(drop)
    assert steps(one, 5) == steps(other, 5)
    assert same(one.state(), other.state())
    assert not same(one.state(), executor(drop, seed=2).state())


@pytest.mark.parametrize("layers", [MLP, BN], ids=["mlp", "bn"])
@pytest.mark.parametrize("solver", ["SGD", "Adam"])
def test_a_restored_executor_goes_on_as_if_nothing_had_been(layers: Any, solver: str) -> None:
    drop = [*layers[:-3], ("dropout", "drop", {}), *layers[-3:]]
    one, other = executor(drop, solver=solver), executor(drop, solver=solver, seed=1)
    steps(one, 4)
    halfway = one.state()
    onward = steps(one, 4, start=4)
    other.restore(halfway)
    assert same(other.state(), halfway)
    assert steps(other, 4, start=4) == onward
    assert same(one.state(), other.state())


def test_a_state_is_a_copy() -> None:
    on = executor()
    before = on.state()
    copy = {name: array.copy() for name, array in flat(before).items()}
    steps(on, 2)
    assert all(np.array_equal(array, copy[name]) for name, array in flat(before).items())


@pytest.mark.parametrize("test_batch", [1, 7, 44, 45, 100])
def test_every_test_sample_counts_once(test_batch: int) -> None:
    on, whole = executor(BN, test_batch=test_batch), executor(BN, test_batch=45)
    steps(on, 3)
    whole.restore(on.state())
    parts, total = on.evaluate(), whole.evaluate()
    assert parts.samples == total.samples == 45
    assert parts.loss == pytest.approx(total.loss, rel=1e-5)
    assert parts.metrics["accuracy"] == pytest.approx(total.metrics["accuracy"], rel=1e-6)


def test_evaluation_changes_nothing() -> None:
    one, other = executor(BN), executor(BN)
    one.evaluate()
    assert same(one.state(), other.state())
    assert steps(one, 2) == steps(other, 2)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("solver", ["SGD", "Nesterov", "Adam"])
def test_a_step_that_is_not_finite_is_left_undone(solver: str, bad: float) -> None:
    data = toy(256)
    data["data"][40, 2] = bad
    on = executor(BN, data, solver=solver)
    steps(on, 2)
    before = on.state()
    result = on.step(2, np.arange(32, 48), 0.1)
    assert not result.finite
    assert same(on.state(), before)
    assert on.step(3, np.arange(48, 64), 0.1).finite
    assert not same(on.state(), before)


def test_the_update_of_a_step_that_is_not_finite_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the CPU the host asks first, which is cheaper than a graph that guards each value."""
    data = toy(256)
    data["data"][20, 0] = np.nan
    on = executor(train=data)
    ran: list[Binding] = []
    run = Binding.run
    monkeypatch.setattr(Binding, "run", lambda binding: ran.append(binding) or run(binding))
    results = [on.step(i, np.arange(16 * i, 16 * i + 16), 0.1) for i in range(3)]
    assert [result.finite for result in results] == [True, False, True]
    batch, judge, update = ran[:3]
    assert ran == [batch, judge, update, batch, judge, batch, judge, update]


def test_a_step_gives_floats_by_name_that_later_steps_leave_alone() -> None:
    on = executor(BN)
    first = on.step(0, np.arange(16), 0.1)
    kept = (first.loss, dict(first.losses), dict(first.metrics))
    second = on.step(1, np.arange(16, 32), 0.1)
    assert (first.loss, first.losses, first.metrics) == kept
    assert second.loss != first.loss
    assert first.losses == {"loss": first.loss}
    assert first.metrics.keys() == {"accuracy"}
    assert 16 * first.metrics["accuracy"] == round(16 * first.metrics["accuracy"])
    assert first.finite is True
    numbers = (first.loss, *first.losses.values(), *first.metrics.values())
    assert all(type(number) is float for number in numbers)


def test_frozen_weights_stay() -> None:
    on = executor(rates={"ip1.weight": (0.0, 1.0), "ip2.bias": (0.0, 0.0)})
    before = on.state()
    steps(on, 3)
    after = on.state()
    changed = {n for n in before.weights if not np.array_equal(before.weights[n], after.weights[n])}
    assert changed == {"ip1.bias", "ip2.weight"}
    assert after.slots["momentum"].keys() == changed
    assert list(after.weights) == ["ip1.weight", "ip1.bias", "ip2.weight", "ip2.bias"]


def test_weights_that_no_loss_reaches_are_named() -> None:
    idle = [*MLP, ("fc", "idle", {"num_output": 2})]
    on = executor(idle)
    assert on.unreached == ("idle.weight", "idle.bias")
    before = on.state()
    steps(on, 2)
    assert np.array_equal(on.state().weights["idle.bias"], before.weights["idle.bias"])
    assert executor().unreached == ()


def test_rates_count_per_weight() -> None:
    """One plain step moves a weight by lr · lr_mult · (gradient + decay · weight)."""
    slow, fast = executor(rates={}), executor(rates={"ip2.weight": (3.0, 0.0)})
    start = slow.state().weights
    for on in (slow, fast):
        steps(on, 1)
    moved = {on: start["ip2.weight"] - on.state().weights["ip2.weight"] for on in (slow, fast)}
    decay = 0.1 * 1e-3 * start["ip2.weight"]
    np.testing.assert_allclose(moved[fast], 3 * (moved[slow] - decay), rtol=1e-3, atol=1e-6)
    assert np.array_equal(slow.state().weights["ip1.weight"], fast.state().weights["ip1.weight"])


def test_bytes_are_normalised_as_the_transform_says() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 2, 3, 3)).astype(np.uint8)
    label = rng.integers(0, 3, 64)
    mean, std = np.array([100.0, 20.0]), np.array([0.5, 0.25])
    transform = Transform(scale=1 / 255, mean_value=(100, 20), std=(0.5, 0.25))
    ready = (images - mean[:, None, None]) / 255 / std[:, None, None]
    raw: Arrays = {"data": images, "label": label}
    done: Arrays = {"data": ready.astype(np.float32), "label": label}
    one = executor(train=raw, test=raw, shape=(2, 3, 3), transform=transform)
    other = executor(train=done, test=done, shape=(2, 3, 3))
    np.testing.assert_allclose(steps(one, 3)[0], steps(other, 3)[0], rtol=1e-5)
    assert one.evaluate().loss == pytest.approx(other.evaluate().loss, rel=1e-4)


def test_statistics_follow_the_batches() -> None:
    on = executor(BN)
    assert not on.state().statistics["bn.running_mean"].any()
    steps(on, 1)
    once = on.state().statistics
    assert once["bn.running_mean"].all()
    assert not np.array_equal(once["bn.running_var"], np.ones(8))
    assert "bn.running_mean" not in on.state().weights


@pytest.mark.parametrize("spoil", ["weights", "slot", "shape"])
def test_another_nets_state_is_refused_and_changes_nothing(spoil: str) -> None:
    on = executor()
    before, state = on.state(), on.state()
    state.weights["ip1.weight"] += 1
    if spoil == "weights":
        del state.weights["ip2.weight"]
    elif spoil == "slot":
        state.slots["m"] = state.slots.pop("momentum")
    else:
        state.slots["momentum"]["ip1.bias"] = np.zeros((1, 16), np.float32)
    with pytest.raises(DataError):
        on.restore(state)
    assert same(on.state(), before)


def test_nothing_to_minimise_is_a_fault() -> None:
    with pytest.raises(UsageError, match="has no loss in phase TRAIN"):
        executor(MLP[:3])


def test_random_tensors_hang_on_seed_iteration_layer_and_cell() -> None:
    drawn = uniform(1, 5, "drop", (100, 100))
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn.ravel()[:50], uniform(1, 5, "drop", (50,)))
    others = [uniform(2, 5, "drop", (50,)), uniform(1, 6, "drop", (50,)), uniform(1, 5, "d", (50,))]
    assert all(not np.array_equal(other, drawn.ravel()[:50]) for other in others)
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01


@pytest.mark.parametrize("shape", [(), (1,), (8191,), (8192,), (8193,), (3, 2, 4099)])
def test_random_tensors_are_squares_of_consecutive_counters(shape: Shape) -> None:
    """Bit by bit, however they are cut into blocks: a published run must stay repeatable."""
    counters = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.uint64)
    words = squares(key(7, "random", 11, "drop"), counters)
    wanted = ((words >> np.uint32(8)) / 2.0**24).reshape(shape)
    drawn = uniform(7, 11, "drop", shape)
    assert drawn.shape == shape
    assert np.array_equal(drawn, wanted)
    assert drawn.dtype == np.float32
