"""Views at test time against slices by numpy, sent through the compiled model one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from netspec.codegen.prediction import prediction_graph
from netspec.codegen.target import CUDA
from netspec.compiler import Spec, compile_spec, drawn_weights, elaborate, read
from netspec.diagnostics import DataError, SpecErrors, UsageError
from netspec.ir.deploy import deploy
from netspec.ir.views import Views
from netspec.runtime.device import choose_device
from netspec.training.execution.bound import array_types, transform_of
from netspec.training.setup.experiment import prepare
from netspec.training.testing.candidate import Candidate
from netspec.training.testing.predicting import judge

NET = """
input "data" { shape: 3x8x8 }
conv { num_output: 16  kernel_size: 3 }
relu
fc "score" { num_output: 3 }
softmax_loss
accuracy
"""
SAMPLES, SIDE, CROP = 7, 12, 8
Images = NDArray[Any]


def written(
    folder: Path, transform: str, layers: str = NET, side: int = SIDE, samples: int = SAMPLES
) -> Spec:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "samples.npz",
        data=rng.integers(0, 256, (samples, 3, side, side + 3 * (side > CROP)), np.uint8),
        label=rng.integers(0, 3, samples),
    )
    path = folder / "net.net"
    test = f'source: "samples.npz"  batch_size: 13  transform {{ scale: 1/64  {transform} }}'
    train = test.replace(transform, "crop_size: 8" if side > CROP else "")
    path.write_text(
        f'data "train" {{ {train} }}\ndata "test" {{ {test} }}\n{layers}\n'
        "solver { base_lr: 0.01  max_iter: 4 }"
    )
    return read(str(path))


def stored(folder: Path) -> Images:
    return np.asarray(np.load(folder / "samples.npz")["data"], np.float32)


def scores(spec: Spec, views: Views | None = None) -> Images:
    """In the views of the spec unless others are given."""
    candidate = Candidate.of_spec(spec, lambda net: drawn_weights(net, 1))
    found = candidate.judged(choose_device("cpu"), views).scored
    assert found is not None
    return found.scores


def through_the_model(spec: Spec, windows: Iterable[Images]) -> Images:
    """The mean of what the compiled model says of each window, which it takes as it is."""
    weights = drawn_weights(elaborate(spec).test.net, 1)
    model = compile_spec(spec, weights=weights).model.SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = [session.run(["prob"], {"data": np.ascontiguousarray(w) / 64})[0] for w in windows]
    return np.asarray(np.mean(said, axis=0))


def corners(x: Images) -> list[Images]:
    height, width = x.shape[2:]
    bottom, right = height - CROP, width - CROP
    return [
        x[:, :, i : i + CROP, j : j + CROP]
        for i, j in [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    ]


def centre(x: Images) -> list[Images]:
    i, j = ((n - CROP) // 2 for n in x.shape[2:])
    return [x[:, :, i : i + CROP, j : j + CROP]]


def flipped(windows: list[Images]) -> list[Images]:
    return [*windows, *(w[..., ::-1] for w in windows)]


@pytest.mark.parametrize(
    ("kind", "windows"),
    [
        ("CENTRE", centre),
        ("FLIP", lambda x: flipped(centre(x))),
        ("FIVE_CROP", lambda x: corners(x) + centre(x)),
        ("TEN_CROP", lambda x: flipped(corners(x) + centre(x))),
    ],
)
def test_windows(kind: str, windows: Callable[[Images], list[Images]], tmp_path: Path) -> None:
    spec = written(tmp_path, f"crop_size: 8  views: {kind}")
    wanted = through_the_model(spec, windows(stored(tmp_path)))
    assert scores(spec) == pytest.approx(wanted, abs=1e-6)


def test_padding_makes_room(tmp_path: Path) -> None:
    spec = written(tmp_path, "crop_size: 8  pad: 2  views: TEN_CROP")
    x = np.pad(stored(tmp_path), ((0, 0), (0, 0), (2, 2), (2, 2)))
    wanted = through_the_model(spec, flipped(corners(x) + centre(x)))
    assert scores(spec) == pytest.approx(wanted, abs=1e-6)


def test_the_mean_image_is_cut_alike(tmp_path: Path) -> None:
    mean = np.random.default_rng(4).uniform(0, 255, (3, SIDE, SIDE + 3)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    spec = written(tmp_path, 'crop_size: 8  mean_file: "mean.npy"  views: TEN_CROP')
    x = stored(tmp_path) - mean
    wanted = through_the_model(spec, flipped(corners(x) + centre(x)))
    assert scores(spec) == pytest.approx(wanted, abs=1e-5)


def resized(x: Images, height: int, width: int) -> Images:
    """By Pillow, whose BILINEAR is plain interpolation where it enlarges."""
    planes = [
        Image.fromarray(plane, "F").resize((width, height), Image.Resampling.BILINEAR)
        for plane in x.reshape(-1, *x.shape[2:])
    ]
    return np.stack([np.asarray(p) for p in planes]).reshape(*x.shape[:2], height, width)


def test_scales_vote(tmp_path: Path) -> None:
    """12 x 15 images at a shorter side of 12, 14 and 16; what the longer one loses is floored."""
    spec = written(tmp_path, "crop_size: 8  views: TEN_CROP  scales: [12, 14, 16]")
    x = stored(tmp_path)
    windows = []
    for height, width in [(12, 15), (14, 17), (16, 20)]:
        at = x if height == 12 else resized(x, height, width)
        windows += flipped(corners(at) + centre(at))
    assert scores(spec) == pytest.approx(through_the_model(spec, windows), abs=1e-5)


def test_scales_give_room_where_images_are_as_large_as_the_input(tmp_path: Path) -> None:
    spec = written(tmp_path, "views: FIVE_CROP  scales: 10", side=CROP)
    x = resized(stored(tmp_path), 10, 10)
    wanted = through_the_model(spec, corners(x) + centre(x))
    assert scores(spec) == pytest.approx(wanted, abs=1e-5)


def test_views_of_the_caller_go_before_those_of_the_spec(tmp_path: Path) -> None:
    spec = written(tmp_path, "crop_size: 8  views: TEN_CROP")
    wanted = through_the_model(spec, centre(stored(tmp_path)))
    assert scores(spec, Views()) == pytest.approx(wanted, abs=1e-6)


def test_what_tells_of_a_training_sees_one_view(tmp_path: Path) -> None:
    spec = written(tmp_path, "crop_size: 8  views: TEN_CROP")
    weights = drawn_weights(elaborate(spec).test.net, 1)
    found = judge(prepare(spec), device="cpu").predictions(weights).scored
    assert found is not None
    assert (found.scores == scores(spec, Views())).all()


def test_cuda_has_a_kernel_for_every_operator(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((3, SIDE, SIDE + 3), np.float32))
    said = 'crop_size: 8  mean_file: "mean.npy"  views: TEN_CROP  scales: [12, 14]'
    spec = written(tmp_path, said)
    experiment = prepare(spec)
    assert experiment.test is not None
    net, outputs = deploy(elaborate(spec, batch=40).test.net)
    types, transform = array_types(experiment.test.fed), transform_of(net)
    made = prediction_graph(net, outputs, types, transform, CUDA, transform.seen)
    assert {"Resize", "Slice", "Concat"} <= {op.op_type for op in made.graph.ops}
    assert made.outputs["prob"].type.shape == (2, 3)


def test_a_layer_that_holds_the_batch_has_no_views(tmp_path: Path) -> None:
    layers = """
        input "data" { shape: 3x8x8 }
        reshape { shape { dim: [13, 192] } }
        fc { num_output: 3 }
        softmax_loss
    """
    with pytest.raises(UsageError, match="views: layer `reshape1` holds the batch size 13"):
        scores(written(tmp_path, "views: FLIP", layers, side=CROP, samples=13))


def test_a_compiled_model_sees_one_view(tmp_path: Path) -> None:
    one, ten = (
        compile_spec(written(tmp_path, f"crop_size: 8 {v}"), embed_preprocessing=True).model
        for v in ("", "views: TEN_CROP")
    )
    assert one.graph == ten.graph


@pytest.mark.parametrize(
    ("transform", "side", "said"),
    [
        (
            "views: TEN_CROP",
            CROP,
            "corners of 8x8 are cut out of larger images, and these are no larger",
        ),
        ("crop_size: 8  scales: 7", SIDE, "images at scale 7 are 7x8, the net takes 8x8"),
    ],
)
def test_images_without_room(transform: str, side: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        scores(written(tmp_path, transform, side=side))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ('input "data" { shape: 192 } fc { num_output: 3 } softmax_loss', "`data` is not"),
        (
            'input "data" { shape: 3x8x8 } input "label" { shape: 8x8 } '
            'conv { bottom: "data" num_output: 3 kernel_size: 1 } softmax_loss',
            "one class of an image, and `label` has 8x8",
        ),
        (
            'input "data" { shape: 3x8x8 } fc "at" { num_output: 2 } input "box" { shape: 2 }'
            'euclidean_loss { bottom: "at" bottom: "box" }',
            "views are for classes, and the net has no scores of any",
        ),
    ],
)
def test_nets_without_views(layers: str, said: str, tmp_path: Path) -> None:
    spec = written(tmp_path, "views: FLIP", layers, side=CROP)
    rng = np.random.default_rng(0)
    shape = (SAMPLES, 192) if "192" in layers else (SAMPLES, 3, 8, 8)
    label = (SAMPLES, 8, 8) if '"label"' in layers else (SAMPLES,)
    np.savez(
        tmp_path / "samples.npz",
        data=rng.integers(0, 256, shape, np.uint8),
        label=rng.integers(0, 3, label),
        box=rng.standard_normal((SAMPLES, 2)),
    )
    with pytest.raises(UsageError, match=said):
        scores(spec)


def test_training_has_no_views(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    path.write_text(
        'data "train" { source: "mnist" batch_size: 2 transform { views: FLIP } }\n'
        'input "data" { shape: 1x28x28 }\nfc { num_output: 10 }\nsoftmax_loss\n'
        "solver { base_lr: 0.1 max_iter: 1 }"
    )
    with pytest.raises(SpecErrors, match=r'net.net:1:1: .*views and scales are for `data "test"`'):
        elaborate(read(str(path)))


@pytest.mark.parametrize("scales", ["0", "10001", "[1.5]"])
def test_scales_are_sizes(scales: str, tmp_path: Path) -> None:
    with pytest.raises((SpecErrors, DataError), match="scales"):
        elaborate(written(tmp_path, f"crop_size: 8  scales: {scales}"))
