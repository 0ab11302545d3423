"""A net with two losses, from arrays to a deployed model: what is where in small pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

Netspec = Callable[..., Any]

SPEC = """
name: "Localizer"
data "train" { source: "samples.npz"  batch_size: 32  transform { scale: 1/255 } }
data "test" { source: "samples.npz"  batch_size: 50  transform { scale: 1/255 } }
input "data" { shape: 1x8x8 }
input "box" { shape: 4 }
fc "trunk" { num_output: 32 }
relu
head "where" {
  fc "fc_box" { num_output: 4 }
  smooth_l1_loss "loss" { bottom: "fc_box"  bottom: "box"  loss_weight: 10 }
}
fc "scores" { num_output: 2 }
softmax_loss "what"
accuracy
solver { type: Adam  base_lr: 0.01  max_iter: 120  display: 20  regularization_type: L1
         weight_decay: 0.0001 }
"""


def pictures(count: int) -> dict[str, Any]:
    """Hollow or filled squares of 4x4 on 8x8, and their corners as shares of a side."""
    generator = np.random.default_rng(0)
    data, label = np.zeros((count, 1, 8, 8), np.uint8), generator.integers(0, 2, count)
    corner = generator.integers(0, 5, (count, 2))
    for picture, kind, (top, left) in zip(data, label, corner, strict=True):
        picture[0, top : top + 4, left : left + 4] = 255
        if kind == 0:
            picture[0, top + 1 : top + 3, left + 1 : left + 3] = 0
    return {"data": data, "label": label, "box": np.concatenate([corner, corner + 4], 1) / 8}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the spec and 130 samples, not a multiple of a test batch."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "samples.npz", **pictures(130))
    (tmp_path / "localizer.net").write_text(SPEC)
    return tmp_path


def test_trains_tests_and_predicts(netspec: Netspec, folder: Path) -> None:
    done = netspec("train", "localizer.net", "--json")
    assert done.code == 0, done.err
    run = folder / done.lines[-1]["run"]
    with (run / "log.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    for row in rows:
        assert row["loss"] == pytest.approx(row["what"] + 10 * row["where/loss"], rel=1e-5)
    assert rows[-1]["what"] < 0.5 * rows[0]["what"]
    assert rows[-1]["where/loss"] < 0.2 * rows[0]["where/loss"]
    last = done.lines[-1]["test"]
    assert last.keys() == {"loss", "what", "where/loss", "accuracy"}
    assert last["accuracy"] > 0.95

    tested = netspec("test", run, "--json").json
    assert tested["losses"] == pytest.approx({n: last[n] for n in ("what", "where/loss")}, rel=1e-5)
    shown = netspec("test", run).out
    assert f"what {last['what']:.4f}" in shown
    assert f"where/loss {last['where/loss']:.4f}" in shown

    session = ort.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == ["data"]
    assert [y.name for y in session.get_outputs()] == ["where/fc_box", "prob"]
    fresh = pictures(130)
    box, prob = session.run(None, {"data": fresh["data"] / np.float32(255)})
    assert np.mean(prob.argmax(1) == fresh["label"]) > 0.95
    error = np.abs(box - fresh["box"])
    smooth = np.where(error < 1, error**2 / 2, error - 0.5).sum(1).mean()
    assert smooth == pytest.approx(last["where/loss"], rel=1e-4)

    Image.fromarray(fresh["data"][0, 0]).save(folder / "picture.png")
    (guess,) = netspec("predict", run, "picture.png", "--json").json["predictions"]
    assert guess["classes"][0]["index"] == fresh["label"][0] == prob[0].argmax()


def test_each_loss_is_in_the_report(netspec: Netspec, folder: Path) -> None:
    report = netspec("check", "localizer.net", "--json").json
    tops = {layer["type"]: layer["tops"] for layer in report["layers"]}
    assert "where/loss" in str(tops["smooth_l1_loss"])
    assert "what" in str(tops["softmax_loss"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"box": np.zeros((130, 5))}, "a row of `box` is 5, the input takes 4"),
        ({"box": np.zeros((129, 4))}, "the arrays differ in samples"),
        ({"box": None}, "no array `box` for the input of that name"),
        ({"label": np.full(130, 0.5)}, "`label` is float32; class labels are integers"),
        ({"label": np.full(130, 2)}, "label 2 is outside [0, 2)"),
        ({"box": np.full((130, 4), np.nan)}, "nan is not a finite number"),
    ],
)
def test_targets_that_do_not_fit(change: Any, says: str, netspec: Netspec, folder: Path) -> None:
    arrays = {k: v for k, v in (pictures(130) | change).items() if v is not None}
    np.savez(folder / "samples.npz", **arrays)
    refused = netspec("train", "localizer.net")
    assert refused.code == 1
    assert says in refused.err
