"""What is drawn for mixed batches, and trainings on them: resumed, tested, refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.autodiff import grad
from netspec.codegen.mixing import Mix
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import CUDA
from netspec.compiler import compile_step, elaborate, read
from netspec.data.order import key
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.stored import stored_inputs
from netspec.ir.types import TensorType
from netspec.training.execution.executor import Executor
from netspec.training.execution.mixture import _lots, beta, drawn_mixture
from netspec.training.launch import train
from netspec.training.loop import Listener, Stopped
from netspec.training.setup.experiment import prepare

RNG = np.random.default_rng(0)
NET = "conv { num_output: 8  kernel_size: 3 }  relu  fc { num_output: 3 }  softmax_loss  accuracy"
IMAGES = RNG.integers(0, 256, (24, 1, 8, 8)).astype(np.uint8)
BOTH = "mixup: 0.3  cutmix: 1.0"


def mix(mixup: float, cutmix: float, batch: int = 8, extent: tuple[int, ...] = (9, 14)) -> Mix:
    types = {"partners": TensorType((batch,), "int64"), "share": TensorType(()),
             "blend": TensorType(()), "box": TensorType((4,))}  # fmt: skip
    fed = {name: Value(name, type) for name, type in types.items()}
    return Mix(mixup, cutmix, batch, extent, fed)


def regular(alpha: float) -> Callable[[Any], Any]:
    """The distribution function of Beta(α, α): a midpoint rule over s, x = sin²(s), which takes the
    poles at 0 and 1 away for α from 1/2."""
    s = (np.arange(200_000) + 0.5) * (np.pi / 2 / 200_000)
    density = (np.sin(s) * np.cos(s)) ** (2 * alpha - 1)
    total = np.concatenate([[0.0], np.cumsum(density)])
    return lambda x: np.interp(
        np.arcsin(np.sqrt(x)), np.append(s - s[0], np.pi / 2), total / total[-1]
    )


DISTRIBUTIONS: dict[float, Callable[[Any], Any]] = {
    0.5: lambda x: 2 / np.pi * np.arcsin(np.sqrt(x)),
    1.0: lambda x: x,
    2.0: lambda x: 3 * x**2 - 2 * x**3,
    0.75: regular(0.75),
    8.0: regular(8.0),
}


@pytest.mark.parametrize("alpha", DISTRIBUTIONS)
def test_shares_are_beta(alpha: float) -> None:
    """Kolmogorov's statistic of 4,000 draws below 1.95, which chance exceeds once in a thousand."""
    drawn = np.sort([beta(alpha, *_lots(key(7, "beta", i), 2)) for i in range(4000)])
    expected, places = DISTRIBUTIONS[alpha](drawn), np.arange(4001) / 4000
    distance = max(np.abs(expected - places[1:]).max(), np.abs(expected - places[:-1]).max())
    assert distance * np.sqrt(4000) < 1.95


def test_shares_of_a_small_alpha_lie_at_the_ends() -> None:
    """Mean and variance 1/(4·(2α + 1)), within 5 standard errors; nothing overflows."""
    for alpha in (0.2, 0.01, 1e-6, 1e6):
        drawn = np.array([beta(alpha, *_lots(key(1, "b", i), 2)) for i in range(4000)])
        variance = 1 / (4 * (2 * alpha + 1))
        assert np.isfinite(drawn).all()
        assert ((drawn >= 0) & (drawn <= 1)).all()
        assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(variance / 4000)
        assert drawn.var() == pytest.approx(variance, rel=0.1)


def test_boxes_are_those_of_the_paper() -> None:
    """Their `rand_bbox` on the same λ, with the middle anywhere; λ is what the box leaves."""
    seen = set()
    for iteration in range(2000):
        drawn = drawn_mixture(mix(0, 1.0), 3, iteration)
        top, left, bottom, right = drawn["box"]
        lots = _lots(key(3, "mix", iteration), 5)
        ratio = np.sqrt(1 - beta(1.0, *lots[1:3]))
        cut_h, cut_w = int(9 * ratio), int(14 * ratio)
        row, column = int(9 * lots[3]), int(14 * lots[4])
        assert (top, bottom) == tuple(np.clip([row - cut_h // 2, row + cut_h // 2], 0, 9))
        assert (left, right) == tuple(np.clip([column - cut_w // 2, column + cut_w // 2], 0, 14))
        kept = np.ones((9, 14))
        kept[int(top) : int(bottom), int(left) : int(right)] = 0
        assert drawn["share"] == pytest.approx(kept.mean())
        assert drawn["blend"] == 0
        seen.add((row, column))
    assert len(seen) == 9 * 14


def test_partners_are_a_permutation_of_their_own_in_each_iteration() -> None:
    orders = [drawn_mixture(mix(1, 0), 3, i)["partners"] for i in range(300)]
    assert all(sorted(order) == [*range(8)] for order in orders)
    counts = np.stack([np.bincount(column, minlength=8) for column in np.stack(orders).T])
    assert np.abs(counts - 300 / 8).max() < 5 * np.sqrt(300 * 7 / 64)
    again = drawn_mixture(mix(1, 0), 3, 7)["partners"]
    assert (again == orders[7]).all()
    assert any((drawn_mixture(mix(1, 0), 4, i)["partners"] != orders[i]).any() for i in range(3))


def test_half_of_the_batches_have_either() -> None:
    drawn = [drawn_mixture(mix(0.4, 1), 1, i) for i in range(2000)]
    mixed = [d for d in drawn if tuple(d["box"]) == (0, 0, 9, 14)]
    assert abs(len(mixed) - 1000) < 5 * np.sqrt(500)
    assert all(d["blend"] == d["share"] for d in mixed)


def written(folder: Path, fields: str, layers: str = NET, **arrays: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "set.npz", **{"data": IMAGES, "label": np.arange(24) % 3, **arrays})
    sections = "".join(
        f'data "{phase}" {{ source: "set.npz"  batch_size: 6  '
        f"transform {{ scale: 1/255  {fields} }} }}\n"
        for phase in ("train", "test")
    )
    path = folder / "net.net"
    path.write_text(
        f'{sections}input "data" {{ shape: 1x8x8 }}\n{layers}\n'
        "solver { base_lr: 0.05  momentum: 0.9  max_iter: 6  random_seed: 3  iter_size: 2 }\n"
    )
    return path


class StopsAt(Listener):
    """Sends the signal to stop after an iteration."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    spec = read(str(written(tmp_path, BOTH)))
    runs = tmp_path / "runs"
    whole = train(spec, runs=runs, device="cpu")
    with pytest.raises(Stopped):
        train(spec, runs=runs, device="cpu", listener=StopsAt())
    parts = train(spec, runs=runs, device="cpu", resume=True)
    assert (parts.ran, parts.test) == (3, whole.test)
    weights = [(outcome.run / "weights.safetensors").read_bytes() for outcome in (whole, parts)]
    assert weights[0] == weights[1]


def test_phase_test_mixes_nothing(tmp_path: Path) -> None:
    """Untrained nets with and without have the same test loss, and a model knows nothing of it."""
    losses = []
    for i, fields in enumerate((BOTH, "")):
        path = written(tmp_path / str(i), fields)
        spec = read(str(path), sets=["solver.max_iter=0"])
        losses.append(train(spec, runs=tmp_path / "runs", device="cpu").test)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("fields", ["mixup: 0.3", "cutmix: 1", BOTH])
def test_operators_are_on_cuda(tmp_path: Path, fields: str) -> None:
    net = prepare(read(str(written(tmp_path, fields)))).nets.train.net
    assert net.data is not None
    step = gradient_graph(net, stored_inputs(net), net.data.transform, CUDA, grad)
    assert step.mix is not None
    assert all(CUDA.runs(op) for op in step.graph.ops)


def test_a_batch_of_one_has_nobody_to_mix_with(tmp_path: Path) -> None:
    spec = read(str(written(tmp_path, BOTH)))
    assert elaborate(spec, batch=1)
    with pytest.raises(UsageError, match="mix the samples of a batch, and it has one"):
        compile_step(spec, CUDA, batch=1)


def test_what_hangs_on_a_label_is_computed_for_both(tmp_path: Path) -> None:
    """A loss of the user's own making: Σ |scores - target| of a target that is scaled first."""
    layers = """
        input "target" { shape: 3 }
        fc "scores" { bottom: "data"  num_output: 3 }
        power "half" { bottom: "target"  scale: 0.5 }
        eltwise "off" { bottom: "scores"  bottom: "half"  coeff: 1  coeff: -1 }
        reduction "loss" { operation: ASUM  loss_weight: 1 }
    """
    target = RNG.standard_normal((24, 3)).astype(np.float32)
    experiment = prepare(read(str(written(tmp_path, "mixup: 0.5", layers, target=target))))
    net = experiment.nets.train.net
    on = Executor(net, None, experiment.train.fed, None, device="cpu", seed=1)
    w, b = (on.state().weights[f"scores.{n}"].astype(np.float64) for n in ("weight", "bias"))
    step = on.step(0, np.arange(12), 0.0)
    expected = 0.0
    for part in (0, 1):
        rows = np.arange(6) + 6 * part
        shapes = {"partners": TensorType((6,), "int64"), "share": TensorType(())}
        fed = {name: Value(name, type) for name, type in shapes.items()}
        drawn = drawn_mixture(Mix(0.5, 0, 6, (), fed), 1, part)
        share, partners = float(drawn["share"]), rows[drawn["partners"]]
        images = experiment.train.arrays["data"].reshape(24, -1) / 255.0
        x = share * images[rows] + (1 - share) * images[partners]
        scores = x @ w.reshape(3, -1).T + b
        for part_of, whose in ((share, rows), (1 - share, partners)):
            expected += part_of * np.abs(scores - target[whose] / 2).sum() / 2
    assert step.loss == pytest.approx(expected, rel=1e-5)
