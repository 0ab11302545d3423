"""What is measured on the training data: in batches of both phases, kept by runs, in models."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.cli import main
from netspec.codegen.step import gradient_graph
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.compiler import Spec, compile_spec, read
from netspec.data import measuring as moments
from netspec.data.lazy import Lazy
from netspec.diagnostics import DataError, UsageError
from netspec.ir.stored import stored_inputs
from netspec.ir.views import Views
from netspec.runtime.classifier import Classifier
from netspec.runtime.device import Device, choose_device
from netspec.training.execution.executor import Executor
from netspec.training.execution.randoms import uniform
from netspec.training.execution.targets import find_target
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Stopped
from netspec.training.runs.run import Run
from netspec.training.setup import measured as measuring
from netspec.training.setup.experiment import prepare
from netspec.training.setup.measured import FILE, Measured
from netspec.training.testing.candidate import Candidate
from netspec.training.testing.predicting import Predictor

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (40, 3, 4, 5)).astype(np.uint8)
TRAIN[:, 0] //= 3
TEST = RNG.integers(0, 256, (12, 3, 4, 5)).astype(np.uint8)
MEAN = TRAIN.astype(np.float64).mean(axis=0)
SUM = (
    "fc { num_output: 1  weight_filler { type: gaussian } }  "
    "reduction { operation: SUM  loss_weight: 1 }"
)
CLASSES = "conv { num_output: 8  kernel_size: 3 }  relu  fc { num_output: 3 }  softmax_loss"
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))


def written(
    folder: Path, fields: str, layers: str = CLASSES, *, shape: str = "3x4x5", **arrays: Any
) -> Spec:
    """A spec, and its samples beside it."""
    folder.mkdir(exist_ok=True)
    for name, images in (("train", TRAIN), ("test", TEST)):
        given = arrays.get(name, images)
        np.savez(folder / f"{name}.npz", data=given, label=np.arange(len(given)) % 3)
    sections = "".join(
        f'data "{phase}" {{ source: "{phase}.npz"  batch_size: 6  transform {{ {fields} }} }}\n'
        for phase in ("train", "test")
    )
    path = folder / "net.net"
    path.write_text(
        f'{sections}input "data" {{ shape: {shape} }}\n{layers}\n'
        "solver { base_lr: 0.01  momentum: 0.9  max_iter: 6  random_seed: 3 }\n"
    )
    return read(str(path))


def executor(spec: Spec, target: Target | None = None) -> Executor:
    experiment = prepare(spec)
    assert experiment.test is not None
    nets = experiment.nets
    return Executor(
        nets.train.net, nets.test.net, experiment.train.fed, experiment.test.fed, device="cpu",
        seed=3, test_for_batch=experiment.test_for_batch, target=target,
    )  # fmt: skip


def by_hand(fields: str) -> Any:
    """What fields make of images, by numpy on the whole training data."""
    whole = TRAIN.astype(np.float64)
    if "IMAGE" in fields:
        return lambda x: (x - whole.mean(axis=0)) * 0.5
    mean = whole.mean(axis=(0, 2, 3)).reshape(3, 1, 1)
    if "CHANNEL" in fields:
        return lambda x: (x - mean) * 0.5
    if "standardize" in fields:
        deviation = whole.std(axis=(0, 2, 3)).reshape(3, 1, 1)
        return lambda x: (x - mean) / deviation
    rows = (whole - whole.mean(axis=0)).reshape(40, -1) * 0.5
    u, s, _ = np.linalg.svd(rows.T @ rows / len(rows))
    matrix = u @ np.diag(1 / np.sqrt(s + 0.5)) @ u.T

    def white(x: Any) -> Any:
        return ((x - whole.mean(axis=0)).reshape(len(x), -1) * 0.5 @ matrix).reshape(x.shape)

    return white


FIELDS = ["mean: IMAGE", "mean: CHANNEL", "standardize: true", "whiten: ZCA  whiten_epsilon: 0.5"]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("fields", FIELDS)
def test_both_phases_have_what_the_training_data_say(
    tmp_path: Path, fields: str, target: Target
) -> None:
    on = executor(written(tmp_path, f"scale: 1/2  {fields}", SUM), target)
    weight = on.state().weights["fc1.weight"].reshape(-1).astype(np.float64)
    made = by_hand(fields)
    rows = np.array([3, 39, 0, 3, 7, 7])
    expected = made(TRAIN[rows].astype(np.float64)).reshape(6, -1) @ weight
    assert on.step(0, rows, 0.0).loss == pytest.approx(expected.sum(), rel=1e-4, abs=1e-3)
    expected = made(TEST.astype(np.float64)).reshape(12, -1) @ weight
    assert on.evaluate().loss == pytest.approx(expected.sum() / 2, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_colours_are_shifted_along_their_axes(tmp_path: Path, target: Target) -> None:
    """In TRAIN alone: Σ a·σ·p of each image, a normal of deviation 0.1."""
    on = executor(written(tmp_path, "scale: 1/2  pca_jitter: 0.1", SUM), target)
    weight = on.state().weights["fc1.weight"].reshape(-1).astype(np.float64)
    pixels = np.moveaxis(TRAIN.astype(np.float64), 1, -1).reshape(-1, 3)
    variances, axes = np.linalg.eigh(np.cov(pixels.T, bias=True))
    variances, axes = variances[::-1], axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(3)])
    rows = np.array([3, 39, 0, 3, 7, 7])
    for iteration in (0, 4):
        lots = uniform(3, iteration, "transform#pca_jitter", (6, 6)).astype(np.float64)
        normal = np.sqrt(-2 * np.log(1 - lots[:, :3])) * np.cos(2 * np.pi * lots[:, 3:])
        shift = (0.1 * normal * np.sqrt(variances)) @ axes.T
        expected = (TRAIN[rows] + shift[:, :, None, None]).reshape(6, -1) / 2 @ weight
        found = on.step(iteration, rows, 0.0).loss
        assert found == pytest.approx(expected.sum(), rel=1e-4)
    assert on.evaluate().loss == pytest.approx((TEST.reshape(12, -1) / 2 @ weight).sum() / 2)


def test_jitter_is_normal() -> None:
    """Mean, variance and the share beyond two deviations, within 5 standard errors."""
    lots = np.concatenate([uniform(1, i, "transform#pca_jitter", (64, 6)) for i in range(200)])
    drawn = np.sqrt(-2 * np.log(1 - lots[:, :3])) * np.cos(2 * np.pi * lots[:, 3:])
    n = drawn.size
    assert abs(drawn.mean()) < 5 / np.sqrt(n)
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((np.abs(drawn) > 2).mean() - 0.0455) < 5 * np.sqrt(0.0455 / n)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 5 / np.sqrt(len(drawn))


def test_features_are_standardised_and_whitened(tmp_path: Path) -> None:
    rows = (RNG.standard_normal((40, 4)) @ RNG.standard_normal((4, 4)) + 3).astype(np.float32)
    rows[:, 2] = 7
    given = {"train": rows, "test": rows[:12]}
    on = executor(written(tmp_path, "standardize: true", SUM, shape="4", **given))
    weight = on.state().weights["fc1.weight"].reshape(-1)
    deviation = np.where(rows.std(axis=0) > 1e-3, rows.std(axis=0), 1)
    expected = (rows[:6] - rows.mean(axis=0)) / deviation @ weight
    assert on.step(0, np.arange(6), 0.0).loss == pytest.approx(expected.sum(), rel=1e-3, abs=1e-4)
    on = executor(written(tmp_path, "whiten: PCA", SUM, shape="4", **given))
    assert np.isfinite(on.step(0, np.arange(6), 0.0).loss)


@pytest.mark.parametrize("fields", [*FIELDS, "pca_jitter: 0.1"])
def test_operators_are_on_cuda(tmp_path: Path, fields: str) -> None:
    net = prepare(written(tmp_path, fields)).nets.train.net
    assert net.data is not None
    step = gradient_graph(net, stored_inputs(net), net.data.transform, CUDA, grad)
    assert all(CUDA.runs(op) for op in step.graph.ops)


class StopsAt(Listener):
    """Sends the signal to stop after an iteration."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("fields", ["standardize: true  pca_jitter: 0.1", "whiten: ZCA"])
def test_a_run_keeps_what_it_was_trained_with(tmp_path: Path, fields: str) -> None:
    """Resumed and tested on what was measured first, whatever became of the training data."""
    spec = written(tmp_path, fields)
    runs = tmp_path / "runs"
    whole = train(spec, runs=runs, device="cpu")
    with pytest.raises(Stopped):
        train(spec, runs=runs, device="cpu", listener=StopsAt())
    run = Run.open(runs / "net" / "2")
    kept = (run.path / FILE).read_bytes()
    other = TRAIN.copy()
    other[0] //= 2  # a pixel or so: batches without it are as before
    measured = Measured.read(run.path)
    assert measured is not None
    written(tmp_path, fields, train=other)
    experiment = prepare(spec)
    assert experiment.measured.key != measured.key
    written(tmp_path, fields)
    parts = train(spec, runs=runs, device="cpu", resume=True)
    assert (parts.ran, parts.test) == (3, whole.test)
    weights = [(outcome.run / "weights.safetensors").read_bytes() for outcome in (whole, parts)]
    assert weights[0] == weights[1]
    assert (run.path / FILE).read_bytes() == kept
    written(tmp_path, fields, train=other)
    assert Candidate.of_run(run).evaluated(Device("cpu")).loss == whole.test["loss"]
    (run.path / FILE).unlink()
    with pytest.raises(DataError, match=r"measured\.safetensors: is not there"):
        Candidate.of_run(run).evaluated(Device("cpu"))


def test_the_same_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = written(tmp_path, "whiten: ZCA")
    first = train(spec, runs=tmp_path / "runs", device="cpu").run
    times: list[int] = []
    whitening = moments.whitening
    monkeypatch.setattr(moments, "whitening", lambda *a: times.append(1) or whitening(*a))
    second = train(spec, runs=tmp_path / "runs", device="cpu").run
    assert first != second
    assert (first / FILE).read_bytes() == (second / FILE).read_bytes()
    assert not times
    changed = read(str(spec.path), sets=["solver.max_iter=1"])
    train(changed, runs=tmp_path / "runs", device="cpu")
    assert not times
    for given in ({"fields": "whiten: PCA"}, {"fields": "whiten: PCA", "train": TEST}):
        train(written(tmp_path, **given), runs=tmp_path / "runs", device="cpu")  # type: ignore[arg-type]
    assert len(times) == 2


@pytest.mark.parametrize(
    ("fields", "kind", "passes"),
    [
        ("mean: IMAGE", "uint8", 1),
        ("mean: CHANNEL", "float32", 1),
        ("standardize: true", "uint8", 1),
        ("standardize: true  pca_jitter: 0.1", "uint8", 1),
        ("standardize: true  pca_jitter: 0.1", "float32", 2),
        ("whiten: ZCA", "float32", 2),
        ("whiten: PCA", "uint8", 2),
    ],
)
def test_streamed_samples_are_decoded_as_seldom_as_can_be(
    tmp_path: Path, fields: str, kind: str, passes: int
) -> None:
    """What only centred samples tell takes a second pass, but for the channels of bytes."""
    decoded = np.zeros(len(TRAIN), np.int64)

    def streamed(images: Any) -> Lazy:
        def decode(row: int) -> Any:
            decoded[row] += 1
            return images[row]

        return Lazy(images.shape, decode, decode, str, dtype=images.dtype)

    def taken(spec: Spec, images: Any, runs: Path | None = None) -> tuple[Measured, set[int]]:
        """What is measured on images that are streamed, and how often each is decoded for it."""
        decoded[:] = 0
        found = prepare(spec)
        arrays = {"label": found.train.arrays["label"]}
        data = replace(found.train, arrays=arrays, streamed={"data": streamed(images)})
        return measuring.measure(found.nets, data, runs), set(decoded.tolist())

    images = TRAIN.astype(kind)
    spec = written(tmp_path, fields, train=images)
    whole = prepare(spec).measured
    found, times = taken(spec, images)
    assert times == {passes}
    assert found.key == whole.key
    assert found.arrays.keys() == whole.arrays.keys()
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, whole.arrays[name])
    runs = tmp_path / "runs"
    train(spec, runs=runs, device="cpu")
    again, times = taken(spec, images, runs)
    assert (again.key, times) == (whole.key, {1})
    other, times = taken(spec, images[::-1], runs)
    assert (other.key != whole.key, times) == (True, {1 + passes})


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = Run.open(train(written(tmp_path, FIELDS[2]), runs=tmp_path / "runs", device="cpu").run)
    content = bytearray((run.path / FILE).read_bytes())
    content[-1] ^= 1
    (run.path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"measured\.safetensors: section `tensors` does not have"):
        Candidate.of_run(run).evaluated(Device("cpu"))


def test_a_spec_is_tested_with_what_its_training_data_say(tmp_path: Path) -> None:
    spec = written(tmp_path, FIELDS[2])
    outcome = train(spec, runs=tmp_path / "runs", device="cpu")
    weights = Run.open(outcome.run).weights()
    assert (
        Candidate.of_spec(spec, lambda _: weights).evaluated(Device("cpu")).loss
        == outcome.test["loss"]
    )


@pytest.mark.parametrize("fields", FIELDS)
def test_models_prepare_images_as_the_training_did(tmp_path: Path, fields: str) -> None:
    """The run's own model, which predicts, and what `compile` makes of the run's spec."""
    training = "mixup: 0.1" if "whiten" in fields else "mixup: 0.1  pca_jitter: 0.1"
    spec = written(tmp_path, f"scale: 1/2  {fields}  {training}")
    run = train(spec, runs=tmp_path / "runs", device="cpu").run
    own = (run / "model.onnx").read_bytes()
    weights = Run.open(run).weights()
    prepared = by_hand(fields)(TEST[:1].astype(np.float64)).astype(np.float32)
    bare = written(tmp_path / "bare", "")
    plain = compile_spec(bare, weights=weights).model.SerializeToString()
    session = ort.InferenceSession(plain, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"data": prepared})
    model = tmp_path / "m.onnx"
    arguments = ["compile", str(run / "spec.net"), "--weights", str(run), "-o", str(model)]
    assert main([*arguments, "--embed-preprocessing"]) == 0
    for content in (own, model.read_bytes()):
        classifier = Classifier(content, "m.onnx", choose_device("cpu"))
        np.testing.assert_allclose(classifier.probabilities(TEST[0]), expected[0], rtol=1e-4)
    said = ort.InferenceSession(own, providers=["CPUExecutionProvider"]).get_modelmeta()
    facts = said.custom_metadata_map
    whole: dict[str, Any] = {}
    for kind in ("preprocessing", "embedded_preprocessing"):
        whole |= json.loads(facts.get(f"dev.netspec.{kind}", "{}"))
    assert not {"mixup", "pca_jitter"} & whole.keys()
    if "IMAGE" in fields or "whiten" in fields:
        assert len(facts["dev.netspec.mean_sha256"]) == 64
    else:
        assert len(whole["mean_value"]) == 3
        assert "mean" not in whole
    assert ("dev.netspec.whitening_sha256" in facts) == ("whiten" in fields)


def test_a_model_without_what_was_measured(tmp_path: Path) -> None:
    spec = written(tmp_path, "standardize: true")
    with pytest.raises(DataError, match="no channel_mean and channel_std of the training data is"):
        compile_spec(spec, embed_preprocessing=True)
    model = compile_spec(spec).model.SerializeToString()
    with pytest.raises(DataError, match="the mean of each channel is subtracted that is not in"):
        Classifier(model, "m.onnx", choose_device("cpu"))


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    odd = TRAIN.astype(np.float32)
    odd[7, 1, 2, 3] = np.nan
    found = prepare(written(tmp_path, "mean: IMAGE"))
    faulty = replace(found.train, arrays={**found.train.arrays, "data": odd})
    with pytest.raises(DataError, match=r"train\.npz: values that are not finite numbers have no"):
        measuring.measure(found.nets, faulty)
    spec = written(tmp_path, "whiten: ZCA")
    text = spec.path.read_text()
    spec.path.write_text(text.replace("whiten: ZCA", "whiten: PCA", 1))
    with pytest.raises(UsageError, match="TRAIN and TEST whiten in different ways"):
        prepare(read(str(spec.path)))


def test_test_images_of_another_size(tmp_path: Path) -> None:
    large = RNG.integers(0, 256, (12, 3, 6, 6)).astype(np.uint8)
    layers = "conv { num_output: 2  kernel_size: 3 }  fc { num_output: 3 }  softmax_loss"
    spec = written(tmp_path, "crop_size: 4  mean: IMAGE", layers, shape="3x4x4", test=large)
    with pytest.raises(DataError, match=r"a mean of 3x4x5 for one of 3x6x6: the training data dif"):
        prepare(spec)


@pytest.mark.parametrize("fields", FIELDS)
def test_views_are_of_what_was_prepared(tmp_path: Path, fields: str) -> None:
    """Each test image as it is and flipped: prepared first, since a matrix knows its pixels."""
    experiment = prepare(written(tmp_path, f"scale: 1/2  {fields}", 'fc "out" { num_output: 2 }'))
    assert experiment.test is not None
    predictor = Predictor(
        experiment.nets.test.net, ["out"], experiment.test.fed, choose_device("cpu"),
        experiment.test_for_batch, views=Views("FLIP"),
    )  # fmt: skip
    weights = {"out.weight": RNG.standard_normal((2, 60)), "out.bias": np.zeros(2)}
    found = predictor.run({n: a.astype(np.float32) for n, a in weights.items()})["out"]
    made = by_hand(fields)(TEST.astype(np.float64))
    both = (made + made[..., ::-1]).reshape(12, -1) / 2
    np.testing.assert_allclose(found, both @ weights["out.weight"].T, rtol=1e-3, atol=1e-3)
