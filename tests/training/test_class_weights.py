"""Class weights of a data section: given, or counted on the training data; in TRAIN alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Spec, compile_step, read
from netspec.data.dataset import Dataset
from netspec.diagnostics import UsageError
from netspec.ir.labelled import LabelledLoss
from netspec.training.execution.executor import Executor
from netspec.training.launch import train
from netspec.training.setup.experiment import prepare
from netspec.training.setup.measured import FILE

RNG = np.random.default_rng(4)
IMAGES = RNG.standard_normal((30, 5)).astype(np.float32)
LABELS = np.array([0] * 18 + [1] * 9 + [3] * 3)
NET = 'fc "scores" { num_output: 4 }  softmax_loss "loss"'


def written(folder: Path, weights: str, layers: str = NET, labels: Any = LABELS) -> Spec:
    np.savez(folder / "set.npz", data=IMAGES, label=labels)
    sections = "".join(
        f'data "{phase}" {{ source: "set.npz"  batch_size: 10  {weights} }}\n'
        for phase in ("train", "test")
    )
    path = folder / "net.net"
    path.write_text(
        f'{sections}input "data" {{ shape: 5 }}\n{layers}\nsolver {{ base_lr: 0.1  max_iter: 3 }}\n'
    )
    return read(str(path))


def layer(spec: Spec) -> LabelledLoss:
    nodes = prepare(spec).nets.train.net.nodes
    (found,) = [n.layer for n in nodes if isinstance(n.layer, LabelledLoss) and n.weighed]
    return found


def cross_entropy(spec: Spec, weight: Any, rows: Any) -> tuple[float, float]:
    """The loss of the training step on rows, and what torch's definition says: Σ w·ℓ / Σ w."""
    experiment = prepare(spec)
    net = experiment.nets.train.net
    on = Executor(net, None, experiment.train.fed, None, device="cpu", seed=1)
    w, b = (on.state().weights[f"scores.{n}"].astype(np.float64) for n in ("weight", "bias"))
    scores = IMAGES[rows] @ w.T + b
    each = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(rows)), LABELS[rows]]
    shares = np.asarray(weight)[LABELS[rows]]
    return on.step(0, rows, 0.0).loss, float((each * shares).sum() / shares.sum())


ROWS = np.array([0, 3, 17, 18, 20, 26, 27, 28, 29, 1])


def test_balanced_is_that_of_scikit_learn(tmp_path: Path) -> None:
    """n_samples / (n_classes * np.bincount(y)), of the classes that there are."""
    spec = written(tmp_path, "class_weights: BALANCED")
    expected = (30 / (3 * 18), 30 / (3 * 9), 0, 30 / (3 * 3))
    assert layer(spec).class_weight == pytest.approx(expected)
    found, wanted = cross_entropy(spec, expected, ROWS)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_given_weights(tmp_path: Path) -> None:
    spec = written(tmp_path, "class_weights: [1, 2, 0, 5]")
    found, wanted = cross_entropy(spec, (1, 2, 0, 5), ROWS)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert compile_step(spec, CPU_PLAIN).losses


def test_a_loss_keeps_its_own(tmp_path: Path) -> None:
    own = NET.replace('"loss"', '"loss" { class_weight: [1, 1, 1, 9] }')
    assert layer(written(tmp_path, "class_weights: BALANCED", own)).class_weight == (1, 1, 1, 9)


def test_ignored_labels_do_not_count(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[:9] = 255
    net = NET.replace('"loss"', '"loss" { ignore_label: 255 }')
    spec = written(tmp_path, "class_weights: BALANCED", net, labels)
    assert layer(spec).class_weight == pytest.approx((21 / 27, 21 / 27, 0, 21 / 9))


def test_tests_weigh_nothing(tmp_path: Path) -> None:
    spec = written(tmp_path, "class_weights: BALANCED", NET + "  accuracy")
    tests = []
    for text in (spec, written(tmp_path, "", NET + "  accuracy")):
        nothing = read(str(text.path), sets=["solver.max_iter=0"])
        tests.append(train(nothing, runs=tmp_path / "runs", device="cpu").test)
    assert tests[0] == tests[1]


def test_a_run_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = written(tmp_path, "class_weights: BALANCED")
    outcome = train(spec, runs=tmp_path / "runs", device="cpu")
    assert (outcome.run / FILE).exists()
    monkeypatch.setattr(
        "netspec.training.setup.measured._weights", None
    )  # would be called to count
    again = train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (again.ran, again.test) == (0, outcome.test)
    other = train(spec, runs=tmp_path / "runs", device="cpu")
    assert other.test == outcome.test


def test_a_step_without_data_cannot_count(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="BALANCED ones are of training data: give numbers"):
        compile_step(written(tmp_path, "class_weights: BALANCED"), CPU_PLAIN)


def test_labels_of_every_position_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "class_weights: BALANCED").path
    labels = RNG.integers(0, 2, (30, 2, 2))
    np.savez(tmp_path / "set.npz", data=RNG.random((30, 1, 2, 2), np.float32), label=labels)
    text = path.read_text().replace("shape: 5", "shape: 1x2x2")
    conv = 'conv "scores" { bottom: "data"  num_output: 2  kernel_size: 1 }'
    net = 'input "label" { shape: 2x2 }\n' + conv
    path.write_text(text.replace('fc "scores" { num_output: 4 }', net))
    ones = labels.sum()
    expected = (120 / (2 * (120 - ones)), 120 / (2 * ones))
    assert layer(read(str(path))).class_weight == pytest.approx(expected)
    assert isinstance(prepare(read(str(path))).train, Dataset)
