"""Validation samples: what a training's tests look at, and what is left to `netspec test`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.compiler import drawn_weights, elaborate, read
from netspec.data.split import Fold
from netspec.diagnostics import DataError, SpecErrors, UsageError
from netspec.ir.layer import Phase
from netspec.runtime.device import Device
from netspec.training.launch import train
from netspec.training.outcome import Diverged, Outcome
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare
from netspec.training.testing.candidate import Candidate
from netspec.training.trials.folds import Scores, cross_validate
from netspec.training.trials.initial import initial_check

LAYERS = 'input "data" { shape: 3x4x4 }  fc { num_output: 3 }  softmax_loss  accuracy'
SOLVER = "solver { base_lr: 0.01  max_iter: 3  display: 1 }"


def archive(path: Path, samples: int = 60, **arrays: object) -> None:
    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, (samples, 3, 4, 4), np.uint8)
    np.savez(path, data=data, label=np.arange(samples) % 3, **arrays)  # type: ignore[arg-type]


def spec(folder: Path, train: str = "val: 0.2", test: str = "", layers: str = LAYERS) -> Path:
    """A spec on an archive beside it."""
    path = folder / "net.net"
    common = "batch_size: 4  transform { scale: 1/255 }"
    path.write_text(
        f'name: "V"  data "train" {{ source: "train.npz"  {train}  {common} }}\n'
        + (f'data "test" {{ source: "{test}"  {common} }}\n' if test else "")
        + f"{layers}\n{SOLVER}\n"
    )
    archive(folder / "train.npz")
    return path


def run(path: Path, **options: object) -> Outcome:
    return train(read(str(path)), runs=path.parent / "runs", device="cpu", **options)  # type: ignore[arg-type]


def test_a_share_without_test_data(tmp_path: Path) -> None:
    path = spec(tmp_path)
    found = prepare(read(str(path)))
    assert found.test is not None
    assert (len(found.train), len(found.test)) == (48, 12)
    assert found.batches.samples == 48
    assert np.bincount(found.test.arrays["label"]).tolist() == [4, 4, 4]
    net = found.nets.test.net
    assert net.batch == 4
    assert net.data is not None
    assert net.data.transform.scale == 1 / 255

    outcome = run(path)
    again = Run.open(outcome.run)
    assert Candidate.of_run(again, split="val").evaluated(Device("cpu")).loss == pytest.approx(
        outcome.test["loss"]
    )
    with pytest.raises(UsageError, match=r'no `data "test" .*`--split val` takes the samples'):
        Candidate.of_run(again).evaluated(Device("cpu"))


def test_what_was_learned_and_what_was_held_out_are_all(tmp_path: Path) -> None:
    path = spec(tmp_path)
    again = Run.open(run(path).run)
    rows = [Candidate.of_run(again, split=split).dataset.rows for split in ("train", "val")]
    assert [None if found is None else len(found) for found in rows] == [48, 12]
    assert sorted(np.concatenate([r for r in rows if r is not None])) == [*range(60)]
    given = Candidate.of_run(again, split="train", data=tmp_path / "train.npz").dataset
    assert len(given) == 60  # data that are named are taken whole
    archive(tmp_path / "train.npz", 80)
    with pytest.raises(DataError, match="its training data have changed"):
        Candidate.of_run(again, split="train")


def test_test_data_are_left_alone_until_asked_for(tmp_path: Path) -> None:
    path = spec(tmp_path, test="test.npz")
    outcome = run(path)  # there is no test.npz yet
    archive(tmp_path / "test.npz", 6)
    again = Run.open(outcome.run)
    assert Candidate.of_run(again).evaluated(Device("cpu")).samples == 6
    assert Candidate.of_run(again, split="val").evaluated(Device("cpu")).samples == 12


def test_the_transform_and_batch_of_test_are_for_validation_too(tmp_path: Path) -> None:
    path = spec(tmp_path, train="val: 0.2", test="none.npz")
    path.write_text(
        path.read_text().replace('"none.npz"  batch_size: 4', '"none.npz"  batch_size: 6')
    )
    found = prepare(read(str(path)))
    assert (found.nets.test.net.batch, [*found.sources]) == (6, [Phase.TRAIN])


def test_labels_that_are_no_classes_are_not_spread(tmp_path: Path) -> None:
    layers = 'input "data" { shape: 3x4x4 }  input "y" { shape: 1 }  fc { num_output: 1 }\n'
    path = spec(tmp_path, layers=layers + 'euclidean_loss { bottom: "fc1"  bottom: "y" }')
    archive(tmp_path / "train.npz", y=np.arange(60.0)[:, np.newaxis])
    found = prepare(read(str(path)))
    assert found.test is not None
    assert len(found.test) == 12


def test_a_look_at_the_beginning_sees_what_is_trained_on(tmp_path: Path) -> None:
    path = spec(tmp_path)
    found = prepare(read(str(path)))
    batch = found.train.arrays["data"][found.batches.indices(0)]
    assert initial_check(read(str(path))).layers[0].mean == pytest.approx(
        batch.mean() / 255, rel=1e-5
    )


def test_a_spec_without_a_solver_holds_out_what_the_default_seed_does(tmp_path: Path) -> None:
    """Tested with weights from elsewhere, its transform reads what a training would measure."""
    path = spec(tmp_path, test="train.npz")
    path.write_text(path.read_text().replace("scale: 1/255", "standardize: true"))
    expected = prepare(read(str(path))).train.measured
    path.write_text(path.read_text().replace(SOLVER, ""))
    found = Candidate.of_spec(read(str(path)), drawn_weights).dataset.measured
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_resume_holds_out_the_same(tmp_path: Path) -> None:
    path = spec(tmp_path)
    outcome = run(path)
    assert run(path, resume=True).ran == 0
    archive(tmp_path / "train.npz", 80)
    with pytest.raises(DataError, match="its training data have changed: other samples"):
        run(path, resume=True)
    with pytest.raises(DataError, match="its training data have changed"):
        Candidate.of_run(Run.open(outcome.run), split="val").evaluated(Device("cpu"))
    assert run(path, resume=True, force=True).ran == 0
    assert len(Candidate.of_run(Run.open(outcome.run), split="val").dataset) == 16


def test_folds_are_runs(tmp_path: Path) -> None:
    path = spec(tmp_path, train="")
    source, runs = read(str(path)), tmp_path / "runs"

    def start(spec: object, resume: bool | Path, fold: Fold) -> Outcome:
        return train(spec, runs=runs, device="cpu", resume=resume, fold=fold)  # type: ignore[arg-type]

    scores = cross_validate(source, 3, runs, start, resume=False)
    assert [Run.open(o.run).settings.fold for o in scores.ended] == [(1, 3), (2, 3), (3, 3)]
    losses = [o.test["loss"] for o in scores.ended]
    assert scores.mean["loss"] == pytest.approx(np.mean(losses))
    assert scores.deviation["loss"] == pytest.approx(np.std(losses, ddof=1))
    for outcome in scores.ended:
        found = Candidate.of_run(Run.open(outcome.run), split="val").evaluated(Device("cpu"))
        assert found.samples == 20
        assert found.loss == pytest.approx(outcome.test["loss"])
    assert run(path, resume=scores.ended[1].run).ran == 0


def test_a_killed_cross_validation_goes_on(tmp_path: Path) -> None:
    path = spec(tmp_path)
    source, runs = read(str(path)), tmp_path / "runs"
    killed: list[int] = [2]

    def start(spec: object, resume: bool | Path, fold: Fold) -> Outcome:
        if fold.number in killed:
            raise KeyboardInterrupt
        return train(spec, runs=runs, device="cpu", resume=resume, fold=fold)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="no cross-validation of V in 3 folds"):
        cross_validate(source, 3, runs, start, resume=True)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(source, 3, runs, start, resume=False)
    killed.clear()
    scores = cross_validate(source, 3, runs, start, resume=True)
    assert [outcome.ran for outcome in scores.ended] == [0, 3, 3]
    assert [outcome.run.name for outcome in scores.ended] == ["1", "2", "3"]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_fold_that_diverges_does_not_end_the_others(tmp_path: Path, lost: int) -> None:
    path = spec(tmp_path)
    heard: list[str] = []

    def start(spec: object, resume: bool | Path, fold: Fold) -> Outcome:
        if fold.number == lost:
            raise Diverged("runs/V/2: diverged")
        return Outcome(tmp_path, 3, 3, {"loss": float(fold.number)}, None, None, 0)

    scores = cross_validate(read(str(path)), 3, tmp_path, start, resume=False, warn=heard.append)
    ended = [n for n in (1, 2, 3) if n != lost]
    assert [bool(outcome) for outcome in scores.outcomes] == [n != lost for n in (1, 2, 3)]
    assert scores.mean == {"loss": pytest.approx(np.mean(ended))}
    assert scores.deviation == {"loss": pytest.approx(np.std(ended, ddof=1))}
    assert heard == [f"fold {lost} diverged: runs/V/2: diverged"]


def test_one_fold_of_two_has_no_deviation(tmp_path: Path) -> None:
    ended = Outcome(tmp_path, 3, 3, {"loss": 1.0}, None, None, 0)
    scores = Scores((None, ended))
    assert (scores.mean, scores.deviation) == ({"loss": 1.0}, {})


def test_all_folds_diverge(tmp_path: Path) -> None:
    def never(*_: object) -> Outcome:
        raise Diverged("runs/V/2: diverged")

    with pytest.raises(Diverged):
        cross_validate(read(str(spec(tmp_path))), 2, tmp_path, never, resume=False)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("val: 1", "", "`val` must be below 1, not 1"),
        ("val: 3/2", "", "`val` must be below 1, not 3/2"),
        ("val: -1/2", "", "`val` must be at least 0"),
        ("", 'train.npz"  val: 0.5  root_folder: "', '`val` is for `data "train"`'),
        ('classes: ["a"]  class_names: "b"', "", "takes classes or class_names, not both"),
    ],
)  # fmt: skip
def test_what_a_section_may_not_say(tmp_path: Path, train: str, test: str, message: str) -> None:
    with pytest.raises(SpecErrors, match=message):
        elaborate(read(str(spec(tmp_path, train, test))))


def test_more_than_the_classes_allow(tmp_path: Path) -> None:
    path = spec(tmp_path, train="val: 0.99")
    with pytest.raises(DataError, match=r"train.npz: `val: 0.99` .* is 59, but each of the 3"):
        prepare(read(str(path)))


def test_folds_need_a_seed(tmp_path: Path) -> None:
    path = spec(tmp_path)
    path.write_text(path.read_text().replace("max_iter: 3", "max_iter: 3  random_seed: -1"))
    with pytest.raises(UsageError, match="folds are drawn by random_seed"):
        cross_validate(read(str(path)), 2, tmp_path, lambda *_: None, resume=False)  # type: ignore[arg-type,return-value]


def pictures(root: Path, **splits: int) -> None:
    """Images of three classes in folders of splits."""
    for split, count in splits.items():
        for label, name in enumerate(("ant", "bee", "cow")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (4, 4), (80 * label, i, 0)).save(folder / f"{i}.png")


def test_a_folder_val_beside_test(tmp_path: Path) -> None:
    path = spec(tmp_path, train="", test="pictures")
    path.write_text(path.read_text().replace("train.npz", "pictures"))
    pictures(tmp_path / "pictures", train=4, val=2, test=3)
    outcome = run(path)
    found = prepare(read(str(path)))
    assert found.test is not None
    assert (len(found.train), len(found.test)) == (12, 6)
    again = Run.open(outcome.run)
    assert again.settings.classes == ("ant", "bee", "cow")
    assert Candidate.of_run(again).evaluated(Device("cpu")).samples == 9
    validated = Candidate.of_run(again, split="val").evaluated(Device("cpu"))
    assert (validated.samples, validated.loss) == (6, pytest.approx(outcome.test["loss"]))


def test_a_folder_val_alone_is_the_test(tmp_path: Path) -> None:
    path = spec(tmp_path, train="", test="pictures")
    path.write_text(path.read_text().replace("train.npz", "pictures"))
    pictures(tmp_path / "pictures", train=2, val=1)
    again = Run.open(run(path).run)
    assert Candidate.of_run(again).evaluated(Device("cpu")).samples == 3
    with pytest.raises(UsageError, match="has no validation samples"):
        Candidate.of_run(again, split="val").evaluated(Device("cpu"))
