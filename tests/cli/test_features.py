"""`netspec features`: what a layer gives for every sample, and what may be learned from that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.data import open_dataset

Netspec = Callable[..., Any]


@pytest.fixture(scope="module")
def hidden(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The features of LeNet's `relu1`, by split."""
    from netspec.cli import main

    folder = tmp_path_factory.mktemp("features")
    files = {split: folder / f"{split}.npz" for split in ("train", "test")}
    for split, file in files.items():
        assert (
            main(["features", str(trained), "--layer", "relu1", "--split", split, "-o", str(file)])
            == 0
        )
    return files


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_they_are_what_the_compiled_net_puts_out(
    split: str, count: int, hidden: dict[str, Path], trained: Path, netspec: Netspec, tmp_path: Path
) -> None:
    model = tmp_path / "relu1.onnx"
    weights = trained / "weights.safetensors"
    assert (
        netspec("compile", "lenet", "--output", "relu1", "--weights", weights, "-o", model).code
        == 0
    )
    digits = open_dataset("mnist", split=split, base=tmp_path).arrays
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    fed = digits["data"][-50:].astype(np.float32) / 255
    (wanted,) = session.run(["relu1"], {"data": fed})
    archive = np.load(hidden[split])
    assert archive["data"].shape == (count, 500)
    assert archive["data"].dtype == np.float32
    assert archive["data"][-50:] == pytest.approx(wanted, abs=1e-4)
    assert (archive["label"] == digits["label"]).all()
    assert archive["classes"].tolist() == list("0123456789")


def test_they_are_a_data_set(hidden: dict[str, Path], tmp_path: Path) -> None:
    dataset = open_dataset(str(hidden["test"]), split="test", base=tmp_path)
    assert (dataset.arrays["data"] == np.load(hidden["test"])["data"]).all()
    assert dataset.classes == tuple("0123456789")
    assert dataset.arrays["label"].dtype == np.int64


SVM = """
name: "{name}"
data "train" {{ source: "{train}"  batch_size: 100  {transform} }}
data "test" {{ source: "{test}"  batch_size: 500  {transform} }}
input "data" {{ shape: {shape} }}
fc "score" {{ num_output: 10 }}
hinge_loss {{ multiclass: true }}
accuracy
solver {{
  type: SGD  base_lr: 0.01  momentum: 0.9  weight_decay: 0.001
  lr_policy: poly  power: 1  max_epoch: 3
}}
"""


def test_a_support_vector_machine_on_features_beats_one_on_pixels(
    hidden: dict[str, Path], netspec: Netspec, tmp_path: Path
) -> None:
    """The linear classifier of the lectures, and what a network's features do for it."""
    said = {}
    for name, facts in {
        "pixels": {
            "train": "mnist",
            "test": "mnist",
            "shape": "1x28x28",
            "transform": "transform { scale: 1/255 }",
        },
        "features": {**{k: str(f) for k, f in hidden.items()}, "shape": "500", "transform": ""},
    }.items():
        spec = tmp_path / f"{name}.net"
        spec.write_text(SVM.format(name=name, **facts))
        result = netspec("train", spec, "--runs", tmp_path / "runs", "--device", "cpu", "--json")
        said[name] = result.lines[-1]["test"]["accuracy"]
    assert said["features"] > 0.94
    assert said["features"] > said["pixels"] + 0.05


NET = """
data "{phase}" {{ source: "samples.npz"  batch_size: 4 }}
input "data" {{ shape: 3x8x8 }}
conv "conv1" {{ num_output: 5  kernel_size: 3  top: "maps" }}
fc "score" {{ num_output: 3 }}
softmax_loss
"""


def written(folder: Path, phase: str = "test") -> Path:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "samples.npz",
        data=rng.standard_normal((9, 3, 8, 8)).astype(np.float32),
        label=rng.integers(0, 3, 9),
        box=rng.standard_normal((9, 2)).astype(np.float32),
    )
    path = folder / "net.net"
    path.write_text(NET.format(phase=phase))
    return path


def weights(netspec: Netspec, spec: Path) -> Path:
    out = spec.with_suffix(".onnx")
    assert netspec("compile", spec, "-o", out).code == 0
    return out


@pytest.mark.parametrize("layer", ["conv1", "maps"])
def test_a_spec_with_weights(layer: str, netspec: Netspec, tmp_path: Path) -> None:
    """By the layer's name or the blob's, with the other arrays of the data; 9 is 4 and 4 and 1."""
    spec = written(tmp_path)
    words = ["--weights", weights(netspec, spec), "--split", "test", "-o", tmp_path / "f.npz"]
    result = netspec("features", spec, "--layer", layer, *words, "--json")
    assert result.code == 0
    assert result.json == {
        "version": 1,
        "file": str(tmp_path / "f.npz"),
        "blob": "maps",
        "samples": 9,
        "shape": [5, 6, 6],
        "arrays": ["data", "label", "box"],
    }
    found, stored = np.load(tmp_path / "f.npz"), np.load(tmp_path / "samples.npz")
    assert found["data"].shape == (9, 5, 6, 6)
    assert (found["box"] == stored["box"]).all()
    first = (tmp_path / "f.npz").read_bytes()
    assert netspec("features", spec, "--layer", layer, *words).code == 0
    assert (tmp_path / "f.npz").read_bytes() == first


def test_what_a_loss_predicts_is_a_blob(netspec: Netspec, tmp_path: Path) -> None:
    spec = written(tmp_path)
    words = ["--weights", weights(netspec, spec), "--split", "test", "-o", tmp_path / "f.npz"]
    result = netspec("features", spec, "--layer", "prob", *words)
    assert result.out == f"{tmp_path / 'f.npz'}: 9 samples of 3 from `prob`, with `label`, `box`\n"
    assert np.load(tmp_path / "f.npz")["data"].sum(1) == pytest.approx(np.ones(9), abs=1e-6)


def test_the_held_out_are_a_split_of_a_run(netspec: Netspec, tmp_path: Path) -> None:
    spec = written(tmp_path, "train")
    solver = "solver { base_lr: 0.1  max_iter: 2 }"
    text = spec.read_text().replace("batch_size: 4", "batch_size: 4  val: 1/3")
    spec.write_text(f"{text}{solver}")
    assert netspec("train", spec, "--runs", tmp_path / "runs").code == 0
    counts = {}
    for split in ("train", "val"):
        words = ["--layer", "conv1", "--split", split, "-o", tmp_path / "f.npz", "--json"]
        counts[split] = netspec("features", tmp_path / "runs/net/1", *words).json["samples"]
    assert counts == {"train": 6, "val": 3}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("conv2", "there is no layer `conv2`; did you mean `conv1`?"),
        ("softmax_loss1", "there is no blob `softmax_loss1` to put out"),
        ("data", "`data` goes into the net"),
    ],
)
def test_no_layer(layer: str, said: str, netspec: Netspec, tmp_path: Path) -> None:
    spec = written(tmp_path)
    words = ["--weights", weights(netspec, spec), "--split", "test", "-o", tmp_path / "f.npz"]
    result = netspec("features", spec, "--layer", layer, *words)
    assert result.code in (1, 2)
    assert said in result.err
    assert not (tmp_path / "f.npz").exists()


def test_what_else_is_missing(netspec: Netspec, tmp_path: Path) -> None:
    spec = written(tmp_path)
    given = ["--weights", weights(netspec, spec), "--layer", "score"]
    result = netspec("features", spec, *given)
    assert 'there is no `data "train" { … }`' in result.err
    result = netspec("features", spec, *given, "--split", "test", "-o", tmp_path / "f.csv")
    assert "features are written as .npz" in result.err
    result = netspec("features", spec, "--layer", "score", "--split", "test")
    assert "is no run folder; a spec takes --weights" in result.err
    bundled = netspec("features", "lenet", "--layer", "fc1")
    assert bundled.err == "lenet: is no run folder; a spec takes --weights\n"
    result = netspec("features", spec, *given, "--split", "test", "-o", tmp_path / "no" / "f.npz")
    assert result.code == 1
    assert "cannot be written" in result.err


def test_training_data_alone(netspec: Netspec, tmp_path: Path) -> None:
    """A spec without test data treats its samples as the section of the training says."""
    spec = written(tmp_path, "train")
    words = ["--weights", weights(netspec, spec), "--layer", "score", "-o", tmp_path / "f.npz"]
    assert netspec("features", spec, *words).code == 0
    assert np.load(tmp_path / "f.npz")["data"].shape == (9, 3)
