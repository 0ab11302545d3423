"""`netspec test` beyond accuracy and loss: classes, mistakes, errors, views, ensembles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

Netspec = Callable[..., Any]

SAMPLES, CLASSES = 18, 6
HIDDEN = "conv { num_output: 4  kernel_size: 3 }\nrelu\n"


def written(
    folder: Path, name: str, *, classes: int = CLASSES, side: int = 8, tail: str = ""
) -> Path:
    """A spec on images of `side`, in `samples.npz` beside it, whose labels hang on nothing."""
    rng = np.random.default_rng(0)
    np.savez(
        folder / f"samples{side}.npz",
        data=rng.integers(0, 256, (SAMPLES, 3, side, side), np.uint8),
        label=rng.integers(0, 4, SAMPLES),
        box=rng.standard_normal((SAMPLES, 2)),
    )
    tail = tail or f'fc "score" {{ num_output: {classes} }}\nsoftmax_loss\naccuracy'
    sections = "".join(
        f'data "{phase}" {{ source: "samples{side}.npz"  batch_size: 4  '
        "transform { scale: 1/255 } }\n"
        for phase in ("train", "test")
    )
    path = folder / f"{name}.net"
    path.write_text(
        f'name: "{name}"\n{sections}input "data" {{ shape: 3x{side}x{side} }}\n{HIDDEN}{tail}\n'
        "solver { base_lr: 0.02  max_iter: 6 }"
    )
    return path


def trained(netspec: Netspec, folder: Path, name: str, *words: object, **said: Any) -> Path:
    spec = written(folder, name, **said)
    assert netspec("train", spec, "--runs", folder / "runs", *words).code == 0
    return max((folder / "runs" / name).iterdir(), key=lambda run: int(run.name))


def probabilities(run: Path, data: Path) -> Any:
    """What the run's model gives, by onnxruntime alone."""
    session = ort.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    fed = np.load(data)["data"].astype(np.float32) / 255
    return session.run(["prob"], {"data": fed})[0]


def confused(labels: Any, said: Any) -> list[list[int]]:
    matrix = np.zeros((CLASSES, CLASSES), int)
    np.add.at(matrix, (labels, said.argmax(1)), 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def test_all_that_json_holds(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "one")
    said = probabilities(run, tmp_path / "samples8.npz")
    labels = np.load(tmp_path / "samples8.npz")["label"]
    report = netspec("test", run, "--mistakes", 3, "--json").json
    scores = report["scores"]
    assert scores["top_1"] == pytest.approx(report["accuracy"]) == (said.argmax(1) == labels).mean()
    fifth = np.sort(said, axis=1)[:, -5]
    assert scores["top_5"] == pytest.approx((said[np.arange(SAMPLES), labels] >= fifth).mean())
    assert scores["confusion"] == confused(labels, said)
    assert [c["count"] for c in scores["classes"]] == np.bincount(labels, minlength=6).tolist()
    assert scores["classes"][5]["recall"] is None  # no label is 5
    assert len(scores["mistakes"]) == 3
    worst = scores["mistakes"][0]
    assert worst["confidence"] == pytest.approx(said[worst["sample"], worst["predicted"]], abs=1e-6)
    assert worst["label"] == labels[worst["sample"]] != worst["predicted"]
    assert worst["file"] is None
    assert report["heads"] == []
    assert 0 <= scores["calibration_error"] <= 1


def test_the_default_is_one_line(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "one")
    line, *more = netspec("test", run).out.splitlines()
    assert more == []
    assert "accuracy" in line
    assert "top-1" not in line  # which is the accuracy
    assert "top-5 " in line
    assert line.endswith("(18 samples)")


def test_tables(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "one")
    out = netspec("test", run, "--per-class", "--confusion", "--mistakes", 2).out
    _, classes, confusion, mistakes = out.split("\n\n")
    assert classes.splitlines()[0].split() == ["class", "samples", "precision", "recall"]
    assert classes.splitlines()[-1].split()[0] == "5"
    assert classes.splitlines()[-1].split()[-1] == "-"
    said = probabilities(run, tmp_path / "samples8.npz")
    wanted = confused(np.load(tmp_path / "samples8.npz")["label"], said)
    rows = [line.replace("·", "0").split() for line in confusion.splitlines()[1:]]
    assert [[int(cell) for cell in row[1:]] for row in rows] == wanted
    assert len(mistakes.splitlines()) == 3


def test_of_many_classes_the_pairs_are_shown(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "many", classes=21)
    _, pairs = netspec("test", run, "--confusion").out.split("\n\n")
    lines = [line.split() for line in pairs.splitlines()]
    assert lines[0] == ["true", "predicted", "samples"]
    assert all(true != predicted for true, predicted, _ in lines[1:])
    assert len(netspec("test", run, "--json").json["scores"]["confusion"]) == 21


def test_mistakes_by_file(netspec: Netspec, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{i}.png")
    words = ["--data", tmp_path / "pets"]
    run = trained(netspec, tmp_path, "pets", *words, classes=2)
    report = netspec("test", run, "--mistakes", 9, "--json").json
    for mistake in report["scores"]["mistakes"]:
        label = ("cat", "dog")[mistake["label"]]
        assert Path(mistake["file"]) == tmp_path / f"pets/test/{label}/{mistake['sample'] % 4}.png"
    assert report["scores"]["mistakes"]
    assert "pets/test/" in netspec("test", run, "--mistakes", 9).out


def test_errors_of_heads(netspec: Netspec, tmp_path: Path) -> None:
    tail = """
        fc "at" { num_output: 2 }
        input "box" { shape: 2 }
        euclidean_loss { bottom: "at"  bottom: "box" }
    """
    run = trained(netspec, tmp_path, "place", tail=tail)
    report = netspec("test", run, "--json").json
    assert report["scores"] is None
    (head,) = report["heads"]
    assert head["name"] == "at"
    assert sum(r * r for r in head["rmse"]) / 2 == pytest.approx(report["loss"], rel=1e-5)
    assert all(m <= r for m, r in zip(head["mean_absolute_error"], head["rmse"], strict=True))
    _, line = netspec("test", run).out.splitlines()
    assert line.startswith("at: mean absolute error ")
    assert line.endswith(" over 2 targets")
    assert len(netspec("test", run, "--per-class").out.splitlines()) == 6
    for words in (["--confusion"], ["--mistakes", 3]):
        refused = netspec("test", run, *words)
        assert (refused.code, refused.out) == (2, "")
        assert f"{words[0]} is of classes, and {run} tells none apart" in refused.err


def test_an_ensemble(netspec: Netspec, tmp_path: Path) -> None:
    runs = [
        trained(netspec, tmp_path, "one", "--set", f"solver.random_seed={seed}") for seed in (1, 2)
    ]
    report = netspec("test", *runs, "--json").json
    singles = [netspec("test", run, "--json").json for run in runs]
    assert [r["scores"] for r in report["runs"]] == [s["scores"] for s in singles]
    mean = np.mean([probabilities(run, tmp_path / "samples8.npz") for run in runs], axis=0)
    labels = np.load(tmp_path / "samples8.npz")["label"]
    together = report["ensemble"]["scores"]
    assert together["top_1"] == pytest.approx((mean.argmax(1) == labels).mean())
    assert together["confusion"] == confused(labels, mean)
    lines = netspec("test", *runs).out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*map(str, runs), "ensemble of 2"]
    assert "top-1" in lines[2]


def test_a_run_twice_is_itself(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "one")
    report = netspec("test", run, run, "--json").json
    assert report["ensemble"]["scores"] == report["runs"][0]["scores"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"classes": 5}, "they tell 6 and 5 classes apart"),
        ({"side": 10}, "they take `data` of 3x8x8, and `data` of 3x10x10"),
        ({"tail": 'fc "score" { num_output: 6 }\nhinge_loss'}, "one gives probabilities"),
        ({"tail": "reduction { loss_weight: 1 }"}, "of nets with scores of classes"),
    ],
)
def test_no_ensemble(other: dict[str, Any], said: str, netspec: Netspec, tmp_path: Path) -> None:
    runs = [trained(netspec, tmp_path, "one"), trained(netspec, tmp_path, "other", **other)]
    result = netspec("test", *runs, "--json")
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_an_ensemble_is_of_the_same_samples(netspec: Netspec, tmp_path: Path) -> None:
    first = trained(netspec, tmp_path, "one")
    (tmp_path / "b").mkdir()
    other = trained(netspec, tmp_path / "b", "other")
    archive = tmp_path / "b" / "samples8.npz"
    arrays = dict(np.load(archive))
    np.savez(archive, **{**arrays, "label": arrays["label"][::-1]})
    result = netspec("test", first, other)
    assert result.code == 2
    assert "the labels of their test data differ" in result.err


def test_an_ensemble_is_not_of_what_each_held_out(netspec: Netspec, tmp_path: Path) -> None:
    """Other pictures for each seed, though their labels, as many of each class, are the same."""
    folder = tmp_path / "pictures"
    for i in range(24):
        file = folder / "ab"[i // 12] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), i).save(file)
    spec = tmp_path / "held.net"
    spec.write_text(
        f'data "train" {{ source: "{folder}"  batch_size: 4  val: 0.5 }}\n'
        'input "data" { shape: 1x4x4 }\nfc { num_output: 2 }\nsoftmax_loss\naccuracy\n'
        "solver { base_lr: 0.01  max_iter: 1 }\n"
    )
    for seed in (1, 2):
        words = ("--runs", tmp_path / "runs", "--set", f"solver.random_seed={seed}")
        assert netspec("train", spec, *words, "--device", "cpu").code == 0
    runs = sorted((tmp_path / "runs" / "held").iterdir())
    assert netspec("test", runs[0], runs[0], "--split", "val").code == 0
    result = netspec("test", *runs, "--split", "val")
    assert result.code == 2
    assert "they are tested on other samples, such as each on those that it held out" in result.err


def test_an_ensemble_is_of_the_same_classes(netspec: Netspec, tmp_path: Path) -> None:
    words = ("--set", 'data.train.classes=["a","b","c","d","e","f"]')
    words += ("--set", 'data.test.classes=["a","b","c","d","e","f"]')
    runs = [trained(netspec, tmp_path, "one"), trained(netspec, tmp_path, "other", *words)]
    result = netspec("test", *runs)
    assert result.code == 2
    assert "the names of their classes differ" in result.err


def test_views(netspec: Netspec, tmp_path: Path) -> None:
    run = trained(netspec, tmp_path, "one")
    said = probabilities(run, tmp_path / "samples8.npz")
    session = ort.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    archive = np.load(tmp_path / "samples8.npz")
    fed = archive["data"][..., ::-1].astype(np.float32) / 255
    mean = (said + session.run(["prob"], {"data": fed})[0]) / 2
    report = netspec("test", run, "--views", "flip", "--json").json
    assert report["views"] == 2
    assert report["scores"]["confusion"] == confused(archive["label"], mean)
    line = netspec("test", run, "--views", "10-crop", "--scales", "10,12").out
    assert "  (18 samples)  averaged over 20 views of each: top-1 " in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--views", "10-crop"], "corners of 8x8 are cut out of larger images"),
        (["--scales", "7"], "images at scale 7 are 7x7, the net takes 8x8"),
        (["--scales", "8,x"], "--scales takes whole numbers from 1 to 10,000"),
        (["--scales", "0"], "--scales takes whole numbers from 1 to 10,000"),
        (["--views", "all"], "'all' is not one of"),
        (["--iterations", "2", "--confusion"], "--iterations is for loss and metrics"),
        (["--mistakes", "-1"], "-1 is not in the range"),
    ],
)
def test_bad_options(words: list[str], said: str, netspec: Netspec, tmp_path: Path) -> None:
    result = netspec("test", trained(netspec, tmp_path, "one"), *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_weights_go_with_one_spec(netspec: Netspec, tmp_path: Path) -> None:
    spec = written(tmp_path, "one")
    result = netspec("test", spec, spec, "--weights", "w.npz")
    assert result.code == 2
    assert "--weights goes with one spec" in result.err
    assert netspec("test").code == 2
