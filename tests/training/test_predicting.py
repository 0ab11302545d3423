"""Predictions of whole data sets against the compiled model and the evaluator's metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from netspec.compiler import Spec, compile_spec, drawn_weights, elaborate, read
from netspec.diagnostics import NetspecError
from netspec.ir.heads import ClassHead, TargetHead, class_head, target_heads
from netspec.runtime.device import Device
from netspec.training.setup.experiment import prepare
from netspec.training.testing import predicting
from netspec.training.testing.candidate import Candidate
from netspec.training.testing.predicting import Predictions, judge

SAMPLES = 11


def written(folder: Path, layers: str, transform: str = "scale: 1/255", **arrays: object) -> Spec:
    """A spec on a small `.npz` whose test batches do not come out even."""
    rng = np.random.default_rng(0)
    samples = {
        "data": rng.integers(0, 256, (SAMPLES, 3, 8, 8), np.uint8),
        "label": rng.integers(0, 3, SAMPLES),
        **arrays,
    }
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]
    path = folder / "net.net"
    path.write_text(
        "".join(
            f'data "{phase}" {{ source: "samples.npz"  batch_size: 4  '
            f"transform {{ {transform} }} }}\n"
            for phase in ("train", "test")
        )
        + layers
        + "\nsolver { base_lr: 0.01  max_iter: 4 }"
    )
    return read(str(path))


def judged(spec: Spec, weights: dict[str, NDArray[Any]]) -> Predictions:
    return judge(prepare(spec), device="cpu").predictions(weights)


def weights_of(spec: Spec) -> dict[str, NDArray[Any]]:
    return dict(drawn_weights(elaborate(spec).test.net, 1))


CONV = """
input "data" { shape: 3x8x8 }
conv { num_output: 16  kernel_size: 3 }
relu
pool { pool: MAX  kernel_size: 2  stride: 2 }
"""
NET = f'{CONV} fc "score" {{ num_output: 3 }} softmax_loss accuracy'


def test_scores_are_those_of_the_compiled_model(tmp_path: Path) -> None:
    spec = written(tmp_path, NET)
    weights = weights_of(spec)
    scored = judged(spec, weights).scored
    assert scored is not None
    arrays = np.load(tmp_path / "samples.npz")
    model = compile_spec(spec, weights=weights).model.SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    fed = arrays["data"].astype(np.float32) / 255
    (wanted,) = session.run(["prob"], {"data": fed})
    assert scored.scores == pytest.approx(wanted, abs=1e-5)
    assert (scored.labels == arrays["label"]).all()
    assert scored.probable


@pytest.mark.parametrize(
    "loss",
    ["softmax_loss", "hinge_loss", "softmax_loss { ignore_label: 2 }"],
)
def test_top_1_is_the_accuracy_of_the_evaluator(loss: str, tmp_path: Path) -> None:
    ignore = "{ ignore_label: 2 }" if "ignore" in loss else ""
    spec = written(tmp_path, f'{CONV} fc "score" {{ num_output: 3 }} {loss} accuracy {ignore}')
    # The evaluator averages the shares of batches: one of all samples makes it the share of all.
    spec.path.write_text(spec.path.read_text().replace("batch_size: 4", f"batch_size: {SAMPLES}"))
    spec = read(str(spec.path))
    weights = weights_of(spec)
    scored = judged(spec, weights).scored
    assert scored is not None
    metrics = Candidate.of_spec(spec, lambda _: weights).evaluated(Device("cpu")).metrics
    assert scored.top_k(1) == pytest.approx(next(iter(metrics.values())), abs=1e-6)


def test_a_label_for_every_position(tmp_path: Path) -> None:
    layers = """
        input "data" { shape: 3x8x8 }
        input "label" { shape: 8x8 }
        conv "score" { num_output: 3  kernel_size: 1 }
        softmax_loss { ignore_label: 2 }
        accuracy { ignore_label: 2 }
    """
    label = np.random.default_rng(2).integers(0, 3, (SAMPLES, 8, 8))
    spec = written(tmp_path, layers, label=label)
    weights = weights_of(spec)
    scored = judged(spec, weights).scored
    assert scored is not None
    assert scored.count == (label != 2).sum()
    # Every position counts alike here, every sample in the evaluator: on one batch they agree.
    whole = spec.path.read_text().replace("batch_size: 4", f"batch_size: {SAMPLES}")
    spec.path.write_text(whole)
    found = (
        Candidate.of_spec(read(str(spec.path)), lambda _: weights).evaluated(Device("cpu")).metrics
    )
    assert scored.top_k(1) == pytest.approx(next(iter(found.values())), abs=1e-6)


def test_numbers_are_compared_with_their_targets(tmp_path: Path) -> None:
    layers = f"""
        {CONV}
        fc "at" {{ num_output: 2 }}
        input "box" {{ shape: 2 }}
        euclidean_loss {{ bottom: "at"  bottom: "box" }}
    """
    box = np.random.default_rng(2).standard_normal((SAMPLES, 2)).astype(np.float32)
    spec = written(tmp_path, layers, box=box)
    weights = weights_of(spec)
    assert target_heads(elaborate(spec).test.net) == (TargetHead("at", "box"),)
    found = judged(spec, weights)
    assert found.scored is None
    (head,) = found.regressed
    assert head.name == "at"
    assert (head.targets == box).all()
    # Caffe's loss is Σ (p - t)² / 2N.
    loss = Candidate.of_spec(spec, lambda _: weights).evaluated(Device("cpu")).loss
    assert np.square(head.rmse()).sum() / 2 == pytest.approx(loss, rel=1e-5)


HEADS = f"""
{CONV}
head "aux" {{ fc "early" {{ num_output: 3 }}  softmax_loss {{ loss_weight: 0.3 }} }}
fc "score" {{ num_output: 3 }}
"""


@pytest.mark.parametrize(
    ("end", "output"),
    [
        ("softmax_loss", "prob2"),
        ("softmax_loss accuracy", "prob2"),
        ("softmax_loss { loss_weight: 0.1 }", "prob"),
        ("softmax_loss { loss_weight: 0.1 } accuracy", "prob2"),
        ("hinge_loss", "score"),
    ],
)
def test_the_main_chain_scores(end: str, output: str, tmp_path: Path) -> None:
    net = elaborate(written(tmp_path, HEADS + end)).test.net
    assert class_head(net) == ClassHead(output, "label", 1, None)


def test_accuracy_without_a_loss_reads_its_scores(tmp_path: Path) -> None:
    layers = f"""
        {CONV} fc "score" {{ num_output: 3 }}
        softmax_loss {{ include {{ phase: TRAIN }} }}
        accuracy
    """
    spec = written(tmp_path, layers)
    assert class_head(elaborate(spec).test.net) == ClassHead("score", "label", 1, None)
    assert judged(spec, weights_of(spec)).scored is not None


def test_a_net_without_heads_says_nothing(tmp_path: Path) -> None:
    layers = f"{CONV} reduction {{ loss_weight: 1 }}"
    found = judged(spec := written(tmp_path, layers), weights_of(spec))
    assert (found.scored, found.regressed) == (None, ())


def test_what_memory_does_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "MOST_BYTES", 100)
    said = "3 for each of 11 samples takes 132 bytes, more than 100"
    with pytest.raises(NetspecError, match=said):
        judged(spec := written(tmp_path, NET), weights_of(spec))
