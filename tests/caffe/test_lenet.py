"""Caffe's LeNet as its authors published it: its weights, and its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from netspec.caffe.upgrade import Wishes
from netspec.compiler import compile_spec, elaborate, read
from netspec.data import open_dataset
from netspec.runtime.device import Device
from netspec.training.launch import train
from netspec.training.testing.candidate import Candidate
from netspec.weights import load_weights

from .corpus import ROOT

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "mnist"
FOLDER = ROOT / "nets" / "BVLC__caffe" / "examples" / "mnist"
WEIGHTS = ROOT / "weights" / "lenet.caffemodel"

pytestmark = pytest.mark.skipif(
    not (DIGITS.is_dir() and WEIGHTS.is_file()), reason="corpus or data are not here"
)


def test_its_weights_know_the_digits() -> None:
    """Above 98.5 % of MNIST's 10,000 test images, as a net and as ONNX."""
    wishes = Wishes(shapes={"data": (1, 28, 28)})
    spec = read(str(FOLDER / "lenet_train_test.prototxt"), wishes=wishes)
    match = load_weights([WEIGHTS], elaborate(spec).test.net)
    assert not match.missing
    found = Candidate.of_spec(spec, lambda _: match.arrays, data=DIGITS).evaluated(Device("cpu"))
    assert found.samples == 10_000
    assert found.metrics["accuracy"] > 0.985
    deploy = read(str(FOLDER / "lenet.prototxt"))
    model = compile_spec(deploy, weights=match.arrays).model
    runner = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    data = open_dataset(str(DIGITS), split="test", base=Path(), shape=(1, 28, 28)).arrays
    images = data["data"].astype(np.float32) / 256
    (prob,) = runner.run(["prob"], {"data": images})
    assert np.mean(prob.argmax(1) == data["label"]) == pytest.approx(found.metrics["accuracy"])


@pytest.mark.slow
def test_it_learns_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """98.5 % in 2,000 iterations, with nothing but the data put in place of the database."""
    monkeypatch.chdir(tmp_path)
    solver = str(FOLDER / "lenet_solver.prototxt")
    spec = read(solver, sets=["solver.max_iter=2000"], data=DIGITS)
    outcome = train(spec, runs=tmp_path / "runs", data=DIGITS, device="cpu")
    assert outcome.test["accuracy"] >= 0.985
    assert sorted(file.name for file in outcome.run.glob("lenet_iter_*")) == [
        "lenet_iter_2000.caffemodel",
        "lenet_iter_2000.solverstate",
    ]
