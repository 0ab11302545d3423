"""The executor on small nets: it learns, repeats itself, skips what is not finite, resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.codegen.solvers import PYTORCH
from netspec.codegen.solvers import SOLVERS as PLAIN
from netspec.codegen.target import CPU_PLAIN, Target
from netspec.data.order import key, philox
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node, Parameter
from netspec.ir.sections import DataSection, Solver
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.runtime.state import Binding
from netspec.training.execution.executor import Executor
from netspec.training.execution.randoms import uniform
from netspec.training.execution.targets import find_target
from netspec.training.runs.checkpoint import State

Arrays = dict[str, npt.NDArray[Any]]

MLP: list[tuple[str, str, dict[str, Any]]] = [
    ("fc", "ip1", {"num_output": 16}),
    ("relu", "relu1", {}),
    ("fc", "ip2", {"num_output": 3}),
    ("softmax_loss", "loss", {}),
    ("accuracy", "accuracy", {}),
]
BN = [("fc", "ip0", {"num_output": 8}), ("batch_norm", "bn", {}), *MLP]
CONV: list[tuple[str, str, dict[str, Any]]] = [
    ("conv", "conv1", {"num_output": 20, "kernel_size": 3, "pad": 1, "bias_term": False}),
    ("batch_norm", "bn", {}),
    ("relu", "relu0", {}),
    ("pool", "pool", {"pool": "MAX", "kernel_size": 2, "stride": 2}),
    *MLP,
]
"""On images, which the CPU's fastest target keeps in blocks of channels."""
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))
each_target = pytest.mark.parametrize("target", TARGETS, ids=str)
each_net = pytest.mark.parametrize(
    ("layers", "target"),
    [
        pytest.param(MLP, None, id="mlp"),
        pytest.param(BN, None, id="bn"),
        *(pytest.param(CONV, target, id=f"conv-{target}") for target in TARGETS),
    ],
)
CAREFUL = {"iter_size": 3, "clip_gradients": 0.5}
SOLVERS = [
    *((kind, {}) for kind in PLAIN),
    *((kind, {"arithmetic": "PYTORCH"}) for kind in PYTORCH),
    *((kind, CAREFUL) for kind in ("SGD", "AdaDelta", "Adam")),
    ("Nesterov", {"ema_decay": 0.9, "iter_size": 2}),
]
each_solver = pytest.mark.parametrize(
    ("solver", "fields"), SOLVERS, ids=[" ".join([k, *f]) for k, f in SOLVERS]
)
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
    **more: Any,
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
        solver=Solver.model_validate({
            "type": solver, "base_lr": 0.1, "weight_decay": 1e-3, "max_iter": 1,
            **({} if solver in ("AdaGrad", "RMSProp") else {"momentum": 0.9}), **more,
        }),
    )  # fmt: skip


def toy(samples: int, seed: int = 0) -> Arrays:
    """Three clouds that a line separates."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, samples)
    centres = np.array([[3, 0, 0, 1, 0, 0], [0, 3, 0, 0, 1, 0], [0, 0, 3, 0, 0, 1]])
    data = centres[label] + rng.normal(scale=0.5, size=(samples, 6))
    return {"data": data.astype(np.float32), "label": label}


def pictures(arrays: Arrays) -> Arrays:
    """The same clouds as the channels of 4x4 images."""
    noise = np.random.default_rng(9).normal(scale=0.5, size=(*arrays["data"].shape, 4, 4))
    return {**arrays, "data": (arrays["data"][:, :, None, None] + noise).astype(np.float32)}


def executor(
    layers: list[tuple[str, str, dict[str, Any]]] = MLP,
    train: Arrays | None = None,
    test: Arrays | None = None,
    test_batch: int = 7,
    seed: int = 1,
    target: Target | None = None,
    batch: int = 16,
    shards: int | None = None,
    **settings: Any,
) -> Executor:
    train, test = train or toy(256), test or toy(45, 5)
    if layers[0][0] == "conv":
        settings["shape"] = (6, 4, 4)
        train, test = pictures(train), pictures(test)

    def test_net(batch: int) -> Net:
        return chain(layers, batch, Phase.TEST, **settings)

    return Executor(
        chain(layers, batch, **settings), test_net(test_batch), train, test,
        device="cpu", seed=seed, test_for_batch=test_net, target=target, shards=shards,
    )  # fmt: skip


def steps(
    on: Executor, count: int, start: int = 0, rate: float = 0.1, batch: int = 16
) -> list[float]:
    """Losses of consecutive batches out of 256 samples."""
    return [
        on.step(i, np.arange(batch * i, batch * i + batch) % 256, rate).loss
        for i in range(start, start + count)
    ]


def flat(state: State) -> dict[str, npt.NDArray[np.float32]]:
    slots = {f"{s}/{n}": a for s, tensors in state.slots.items() for n, a in tensors.items()}
    means = {f"means/{n}": a for n, a in state.averages.items()}
    return {**state.weights, **slots, **state.statistics, **means}


def same(a: State, b: State) -> bool:
    one, other = flat(a), flat(b)
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@each_net
@pytest.mark.parametrize(
    ("solver", "rate"),
    [("SGD", 0.05), ("Nesterov", 0.05), ("AdaGrad", 0.05), ("RMSProp", 0.005), ("AdaDelta", 50),
     ("Adam", 0.01), ("AdamW", 0.01)],
)  # fmt: skip
def test_learns_what_a_line_separates(
    layers: Any, target: Target | None, solver: str, rate: float
) -> None:
    on = executor(layers, solver=solver, target=target)
    before = on.evaluate()
    steps(on, 60, rate=rate)
    after = on.evaluate()
    assert after.metrics["accuracy"] > 0.95
    assert after.loss < 0.2 < before.loss
    assert after.loss == after.losses["loss"]


def test_an_executor_says_its_target() -> None:
    assert executor().target == TARGETS[0]
    assert executor(target=CPU_PLAIN).target == CPU_PLAIN


@pytest.mark.parametrize("solver", ["SGD", "Nesterov", "Adam"])
def test_targets_do_the_same_but_for_rounding(solver: str) -> None:
    """From the same weights, whatever the target; Adam may divide rounding by itself."""
    one, *others = (executor(CONV, solver=solver, target=target) for target in TARGETS)
    start, losses = one.state(), steps(one, 3, rate=0.01)
    tested, after = one.evaluate(), flat(one.state())
    for other in others:
        assert same(other.state(), start)
        np.testing.assert_allclose(steps(other, 3, rate=0.01), losses, rtol=1e-4)
        assert other.evaluate().loss == pytest.approx(tested.loss, rel=1e-4)
        if solver != "Adam":
            for name, array in flat(other.state()).items():
                np.testing.assert_allclose(array, after[name], rtol=1e-3, atol=1e-5, err_msg=name)


@each_net
def test_two_executors_do_the_same(layers: Any, target: Target | None) -> None:
    drop = [*layers[:-3], ("dropout", "drop", {"dropout_ratio": 0.3}), *layers[-3:]]
    one, other = executor(drop, target=target), executor(drop, target=target)
    assert steps(one, 5) == steps(other, 5)
    assert same(one.state(), other.state())
    assert not same(one.state(), executor(drop, seed=2, target=target).state())


@each_net
@each_solver
def test_a_restored_executor_goes_on_as_if_nothing_had_been(
    layers: Any, target: Target | None, solver: str, fields: Any
) -> None:
    drop = [*layers[:-3], ("dropout", "drop", {}), *layers[-3:]]
    one, other = (executor(drop, solver=solver, target=target, **fields) for _ in range(2))
    batch = 16 * fields.get("iter_size", 1)
    steps(one, 4, batch=batch)
    halfway = one.state()
    onward = steps(one, 4, start=4, batch=batch)
    other.restore(halfway)
    assert same(other.state(), halfway)
    assert steps(other, 4, start=4, batch=batch) == onward
    assert same(one.state(), other.state())


@each_target
@pytest.mark.parametrize("layers", [MLP, CONV])
def test_batches_of_an_iteration_make_one_large_one(layers: Any, target: Target) -> None:
    """The means of their losses, metrics and gradients are those of all samples together."""
    if layers is CONV:  # whose normalisation would tell the batches apart
        layers = [layer for layer in CONV if layer[0] != "batch_norm"]
    one = executor(layers, target=target)
    parts = executor(layers, target=target, batch=4, iter_size=4)
    for i in range(4):
        indices = np.arange(16 * i, 16 * i + 16)
        whole, several = one.step(i, indices, 0.05), parts.step(i, indices, 0.05)
        assert several.loss == pytest.approx(whole.loss, rel=1e-5)
        assert several.losses == {"loss": several.loss}
        assert several.metrics == pytest.approx(whole.metrics)
        assert several.finite is whole.finite is True
    ours, theirs = flat(parts.state()), flat(one.state())
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", [2, 5])
def test_each_batch_of_an_iteration_folds_its_statistics(size: int) -> None:
    """As if an update that moves no weight came after each."""
    one, parts = executor(BN), executor(BN, iter_size=size)
    for _ in range(3):
        steps(one, size, rate=0)
        steps(parts, 1, rate=0, batch=16 * size)
        ours, theirs = parts.state().statistics, one.state().statistics
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_each_batch_of_an_iteration_has_its_own_random_tensors() -> None:
    drop = [*MLP[:2], ("dropout", "drop", {}), *MLP[2:]]
    one, parts = executor(drop), executor(drop, iter_size=2)
    same_batch = np.tile(np.arange(16), 2)
    losses = [one.step(i, same_batch[:16], 0).loss for i in range(4)]
    assert len(set(losses)) == 4
    assert parts.step(1, same_batch, 0).loss == pytest.approx((losses[2] + losses[3]) / 2)


@pytest.mark.parametrize("iter_size", [1, 2])
def test_a_clipped_step_has_the_length_asked_for(iter_size: int) -> None:
    """Plain SGD by a gradient far longer: lr · clip / iter_size, with lr_mult 1 for all."""
    fields = {"momentum": 0.0, "weight_decay": 0.0, "clip_gradients": 0.01}
    on = executor(rates={}, iter_size=iter_size, **fields)
    before = on.state().weights
    steps(on, 1, rate=0.5, batch=16 * iter_size)
    after = on.state().weights
    moved = np.sqrt(sum(np.square(after[n] - before[n]).sum() for n in before))
    assert moved == pytest.approx(0.5 * 0.01 / iter_size, rel=1e-4)


def test_a_state_is_a_copy() -> None:
    on = executor()
    before = on.state()
    copy = {name: array.copy() for name, array in flat(before).items()}
    steps(on, 2)
    assert all(np.array_equal(array, copy[name]) for name, array in flat(before).items())


@each_net
@pytest.mark.parametrize("test_batch", [1, 7, 44, 45, 100])
def test_every_test_sample_counts_once(layers: Any, target: Target | None, test_batch: int) -> None:
    on, whole = (executor(layers, test_batch=b, target=target) for b in (test_batch, 45))
    steps(on, 3)
    whole.restore(on.state())
    parts, total = on.evaluate(), whole.evaluate()
    assert parts.samples == total.samples == 45
    assert parts.loss == pytest.approx(total.loss, rel=1e-5)
    assert parts.metrics["accuracy"] == pytest.approx(total.metrics["accuracy"], rel=1e-6)


@each_net
def test_evaluation_changes_nothing(layers: Any, target: Target | None) -> None:
    one, other = (executor(layers, target=target) for _ in range(2))
    one.evaluate()
    assert same(one.state(), other.state())
    assert steps(one, 2) == steps(other, 2)


@each_net
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@each_solver
def test_a_step_that_is_not_finite_is_left_undone(
    layers: Any, target: Target | None, solver: str, fields: Any, bad: float
) -> None:
    """Whichever of its batches is not."""
    size = 16 * fields.get("iter_size", 1)
    data = toy(256)
    for at in range(2 * size + 8, 3 * size, 16):
        data["data"][:, 2] = toy(256)["data"][:, 2]
        data["data"][at, 2] = bad
        on = executor(layers, data, solver=solver, target=target, **fields)
        steps(on, 2, batch=size)
        before = on.state()
        result = on.step(2, np.arange(2 * size, 3 * size), 0.1)
        assert not result.finite
        assert same(on.state(), before)
        assert on.step(3, np.arange(3 * size, 4 * size), 0.1).finite
        assert not same(on.state(), before)


def test_the_update_of_a_step_that_is_not_finite_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the CPU the host asks first, which is cheaper than a graph that guards each value."""
    data = toy(256)
    data["data"][20, 0] = np.nan
    on = executor(train=data, shards=1)
    ran: list[Binding] = []
    run = Binding.run
    monkeypatch.setattr(Binding, "run", lambda binding: ran.append(binding) or run(binding))
    results = [on.step(i, np.arange(16 * i, 16 * i + 16), 0.1) for i in range(3)]
    assert [result.finite for result in results] == [True, False, True]
    batch, update = ran[:2]
    assert ran == [batch, update, batch, batch, update]


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


@each_target
def test_frozen_convolutions_stay(target: Target) -> None:
    on = executor(CONV, rates={"conv1.weight": (0, 1), "bn.bias": (0, 0)}, target=target)
    before = on.state()
    steps(on, 3)
    after = on.state()
    still = {n for n in before.weights if np.array_equal(before.weights[n], after.weights[n])}
    assert still == {"conv1.weight", "bn.bias"}


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


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_caffes_sums_follow_the_batches(target: Target) -> None:
    train = pictures(toy(256))
    layers = [("batch_norm", "bn", {"affine": False, "moving_average_fraction": 0.9}), *MLP]
    on = executor(layers, train, pictures(toy(45, 5)), shape=(6, 4, 4), target=target)
    steps(on, 3)
    mean, variance, factor = np.zeros(6), np.zeros(6), 0.0
    for i in range(3):
        x = train["data"][16 * i : 16 * i + 16].astype(np.float64)
        factor, mean = 0.9 * factor + 1, 0.9 * mean + x.mean((0, 2, 3))
        variance = 0.9 * variance + x.var((0, 2, 3), ddof=1)
    kept = on.state().statistics
    np.testing.assert_allclose(kept["bn.scale_factor"], [factor], rtol=1e-6)
    np.testing.assert_allclose(kept["bn.running_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(kept["bn.running_var"], variance, rtol=1e-5)
    steps(on, 40, start=3)
    assert on.evaluate().metrics["accuracy"] > 0.9


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


@pytest.mark.parametrize("shape", [(), (1,), (32767,), (32768,), (32769,), (3, 5, 4099)])
def test_random_tensors_are_words_of_philox(shape: Shape) -> None:
    """Bit by bit, however they are cut into blocks: a published run must stay repeatable."""
    words = philox(key(7, "random", 11, "drop"), 0, int(np.prod(shape)))
    wanted = ((words >> np.uint32(8)) / 2.0**24).reshape(shape)
    drawn = uniform(7, 11, "drop", shape)
    assert drawn.shape == shape
    assert np.array_equal(drawn, wanted)
    assert drawn.dtype == np.float32
