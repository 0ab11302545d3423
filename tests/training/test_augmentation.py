"""Augmentation through training: each image draws anew, a resumed run draws the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import compile_spec, elaborate, read
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase
from netspec.runtime.device import Device, choose_device
from netspec.training.execution.executor import Executor
from netspec.training.execution.targets import find_target
from netspec.training.launch import train
from netspec.training.loop import Listener, Stopped
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare
from netspec.training.setup.opening import open_phase
from netspec.training.testing.candidate import Candidate
from netspec.training.testing.predicting import Predictor, judge

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 3, 9, 11)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 24)
ALL = (
    "preset: PLANKTON  translation: 2  distortion: 0.1  mirror: true  brightness: 0.2  "
    "contrast: 0.2  saturation: 0.2  hue: 0.1  cutout: 3  scale: 1/64  mean_value: 128"
)
CLASSES = (
    "conv { num_output: 8  kernel_size: 3 }  relu  dropout  fc { num_output: 3 }  softmax_loss"
)
SUM = "reduction { operation: SUM  loss_weight: 1 }"
WEIGHTED = "fc { num_output: 1  weight_filler { type: gaussian } }  " + SUM
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))


def written(
    folder: Path,
    layers: str,
    transform: str = ALL,
    *,
    solver: str = "max_iter: 6",
    shape: str = "3x9x11",
    test: str | None = None,
    **arrays: Any,
) -> Any:
    """A spec and its samples in one folder."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "set.npz", **{"data": IMAGES, "label": LABELS, **arrays})
    sections = "".join(
        f'data "{phase}" {{ source: "set.npz"  batch_size: 6  transform {{ {said} }} }}\n'
        for phase, said in (("train", transform), ("test", transform if test is None else test))
    )
    settings = f"solver {{ base_lr: 0.01  momentum: 0.9  random_seed: 3  {solver} }}"
    path = folder / "net.net"
    path.write_text(f'{sections}input "data" {{ shape: {shape} }}\n{layers}\n{settings}\n')
    return read(str(path))


def executor(spec: Any, target: Target | None = None) -> Executor:
    nets = elaborate(spec)
    sets = [open_phase(spec, nets[phase].net, phase)[0].fed for phase in (Phase.TRAIN, Phase.TEST)]
    return Executor(
        nets.train.net, nets.test.net, *sets, device="cpu", seed=3, target=target,
        test_for_batch=lambda batch: elaborate(spec, batch=batch).test.net,
    )  # fmt: skip


def test_every_image_draws_for_itself(tmp_path: Path) -> None:
    """A batch of one image six times over, in two iterations and two micro-batches."""
    spec = written(tmp_path, WEIGHTED, solver="max_iter: 2  iter_size: 2")
    on = executor(spec)
    again = executor(spec)
    same = np.zeros(12, np.int64)
    first, second = on.step(0, same, 0.0).loss, on.step(1, same, 0.0).loss
    assert first != second
    assert again.step(1, same, 0.0).loss == second
    assert again.step(0, same, 0.0).loss == first
    parts = [executor(written(tmp_path, WEIGHTED)) for _ in range(2)]
    halves = [part.step(i, same[:6], 0.0).loss for i, part in enumerate(parts)]
    assert halves[0] != halves[1]
    assert first == pytest.approx(sum(halves) / 2, rel=1e-6)


def test_two_epochs_see_other_images(tmp_path: Path) -> None:
    spec = written(tmp_path, WEIGHTED)
    on, batches = executor(spec), prepare(spec).batches
    assert batches.iterations(1) == 4
    seen = {on.step(i, np.arange(6), 0.0).loss for i in range(8)}
    assert len(seen) == 8


class StopsAt(Listener):
    """Sends the signal to stop after an iteration."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    spec = written(tmp_path / "spec", CLASSES, solver="max_iter: 6  iter_size: 2")
    whole = train(spec, runs=tmp_path / "runs", device="cpu")
    with pytest.raises(Stopped):
        train(spec, runs=tmp_path / "runs", device="cpu", listener=StopsAt())
    parts = train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (parts.ran, parts.test) == (3, whole.test)
    weights = [(outcome.run / "weights.safetensors").read_bytes() for outcome in (whole, parts)]
    assert weights[0] == weights[1]
    assert Candidate.of_run(Run.open(whole.run)).evaluated(Device("cpu")).loss == whole.test["loss"]


def test_tests_and_models_see_images_as_they_are(tmp_path: Path) -> None:
    drawn = ALL.replace("mirror: true", "mirror: false")
    plain = "scale: 1/64  mean_value: 128"
    losses = [
        executor(written(tmp_path / str(i), CLASSES, said, test=said)).evaluate().loss
        for i, said in enumerate((drawn, plain))
    ]
    assert losses[0] == losses[1]
    models = [
        compile_spec(written(tmp_path / str(i), CLASSES, said), embed_preprocessing=embedded)
        for embedded in (False, True)
        for i, said in enumerate((drawn, plain))
    ]
    for one, other in (models[:2], models[2:]):
        assert one.model.graph == other.model.graph
        found = [{p.key: p.value for p in m.model.metadata_props} for m in (one, other)]
        keys = ("dev.netspec.preprocessing", "dev.netspec.embedded_preprocessing")
        assert [found[0].get(key) for key in keys] == [found[1].get(key) for key in keys]


def test_labels_that_are_images_move_along(tmp_path: Path) -> None:
    """A net that reads the label off the image is right wherever the image comes to lie."""
    labels = RNG.integers(0, 2, (24, 1, 12, 12))
    images = (labels * 200).astype(np.uint8)
    layers = (
        'input "label" { shape: 1x8x8 }\n'
        'conv "read" { bottom: "data"  num_output: 3  kernel_size: 1 }\n'
        "softmax_loss { ignore_label: 2 }"
    )
    moving = "rotation: [90, 90]  mirror: true  crop_size: 8  pad: 2  scale: 1/200"
    spec = written(
        tmp_path, layers, moving, shape="1x8x8", data=images, label=labels, test="crop_size: 8"
    )
    on = executor(spec)
    state = on.state()
    state.weights["read.weight"][:] = np.array([-40, 40, 0]).reshape(3, 1, 1, 1)
    state.weights["read.bias"][:] = [20, -20, -100]
    on.restore(state)
    for iteration in range(4):
        assert on.step(iteration, np.arange(6), 0.0).loss < 1e-6


def test_labels_and_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    layers = (
        'input "label" { shape: 1x8x8 }\nconv { bottom: "data"  num_output: 2  kernel_size: 1 }'
    )
    labels = np.zeros((24, 1, 10, 10), np.int64)
    spec = written(
        tmp_path, layers + "  softmax_loss", "crop_size: 8", shape="3x8x8",
        data=np.zeros((24, 3, 12, 12), np.uint8), label=labels,
    )  # fmt: skip
    with pytest.raises(
        DataError, match="labels `label` of 10x10 for images of 12x12: they are cut"
    ):
        prepare(spec)


def test_maps_over_the_images_are_refused(tmp_path: Path) -> None:
    """A depth map would stay where it is while the image turns below it."""
    depth = RNG.random((24, 1, 9, 11)).astype(np.float32)
    layers = (
        'input "depth" { shape: 1x9x11 }\nconv "read" { bottom: "data"  num_output: 1  '
        'kernel_size: 1 }\neuclidean_loss { bottom: "read"  bottom: "depth" }'
    )
    with pytest.raises(UsageError, match="`depth` of 1x9x11 lies over images of 3x9x11, and does"):
        executor(written(tmp_path, layers, "rotation: 9", depth=depth, test=""))
    assert executor(written(tmp_path, layers, "brightness: 0.1", depth=depth, test=""))


def test_resized_images_may_have_any_size(tmp_path: Path) -> None:
    layers = "fc { num_output: 3 }  softmax_loss"
    transform = "resize: [16, 20]  crop_size: 16  mirror: true"
    outcome = train(
        written(tmp_path, layers, transform, shape="3x16x16"), runs=tmp_path / "runs", device="cpu"
    )
    assert outcome.ran == 6


def test_what_the_images_do_not_have_is_refused(tmp_path: Path) -> None:
    grey = IMAGES[:, :1]
    with pytest.raises(UsageError, match="hue is for images of 3 channels, and `data` is 1x9x11"):
        executor(written(tmp_path, CLASSES, "hue: 0.1", shape="1x9x11", data=grey))
    with pytest.raises(DataError, match="crop_size 12 is more than the images of `data` have"):
        prepare(written(tmp_path, CLASSES, "crop_size: 12  rotation: 3", shape="3x12x12"))


@pytest.mark.parametrize("transform", [ALL, "crop_size: 9  pad: 2  mirror: true  brightness: 0.3"])
def test_both_targets_of_the_cpu_are_fed_the_same(tmp_path: Path, transform: str) -> None:
    """To the bit: a weight of 1 for every pixel sees their sum, layers behind it may round."""
    shape = "3x9x9" if "crop_size" in transform else "3x9x11"
    layers = (
        "fc { num_output: 3 }  softmax_loss\n"
        'reduction { bottom: "data"  operation: SUMSQ  loss_weight: 1 }'
    )
    spec = written(tmp_path, layers, transform, shape=shape)
    losses = []
    for target in TARGETS:
        on = executor(spec, target)
        losses.append([on.step(i, np.arange(6), 0.0).losses["reduction1"] for i in range(3)])
    assert losses[0] == losses[-1]
    assert len(set(losses[0])) == 3


def test_views_are_of_images_as_they_are_resized(tmp_path: Path) -> None:
    """Ten crops of a resize are those of views at that scale; padding has its border."""
    layers = "conv { num_output: 8  kernel_size: 3 }  fc { num_output: 3 }  softmax_loss"

    def seen(said: str) -> Any:
        spec = written(tmp_path, layers, "crop_size: 8", shape="3x8x8", test=said)
        nets = elaborate(spec)
        dataset, _ = open_phase(spec, nets.test.net, Phase.TEST)
        test = nets.test.net
        assert test.data is not None
        predictor = Predictor(
            test, ["prob"], dataset.fed, choose_device("cpu"),
            lambda batch: elaborate(spec, batch=batch).test.net, views=test.data.transform.seen,
        )  # fmt: skip
        return predictor.run(executor(spec).state().weights)["prob"]

    resized = seen("resize: [12, 16]  crop_size: 8  views: TEN_CROP  scale: 1/64")
    scaled = seen("scales: 14  crop_size: 8  views: TEN_CROP  scale: 1/64")
    np.testing.assert_array_equal(resized, scaled)
    padded = [seen(f"pad: 2  crop_size: 8  views: TEN_CROP  scale: 1/64  {border}")
              for border in ("", "border: EDGE", "fill: 200")]  # fmt: skip
    assert not np.allclose(padded[0], padded[1])
    assert not np.allclose(padded[0], padded[2])


@pytest.mark.parametrize(
    ("said", "shape"),
    [("crop_size: 6", "6x6"), ("pad: 1", "10x12"), ("resize: 14  crop_size: 9", "9x9")],
)
def test_scores_are_of_the_labels_that_are_seen(tmp_path: Path, said: str, shape: str) -> None:
    """A net that reads each pixel's label off the image is right all over."""
    labels = RNG.integers(0, 2, (24, 1, 8, 10))
    layers = (
        f'input "label" {{ shape: 1x{shape} }}\n'
        'conv "read" { bottom: "data"  num_output: 2  kernel_size: 1 }\n'
        "softmax_loss { ignore_label: 2 }  accuracy { ignore_label: 2 }"
    )
    spec = written(
        tmp_path, layers, f"{said}  scale: 1/200", shape=f"1x{shape}",
        data=(labels * 200).astype(np.uint8), label=labels,
    )  # fmt: skip
    on, judging = executor(spec), judge(prepare(spec), device="cpu")
    state = on.state()
    state.weights["read.weight"][:] = np.array([-9, 9]).reshape(2, 1, 1, 1)
    state.weights["read.bias"][:] = [4.5, -4.5]
    on.restore(state)
    scored = judging.predictions(state.weights).scored
    assert scored is not None
    accuracy = on.evaluate().metrics["accuracy1"]
    assert scored.top_k(1) == pytest.approx(accuracy)
    assert accuracy > (0.85 if "resize" in said else 0.999)
