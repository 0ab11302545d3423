"""`report.html`: what stands in it, that nothing of it acts, and what it costs."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.cli import main
from netspec.compiler import elaborate, read
from netspec.diagnostics import DataError
from netspec.ir.layer import Phase
from netspec.report.page import page
from netspec.report.summary import summarise
from netspec.training.execution.executor import Executor
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.logs import events, reporter
from netspec.training.logs.events import Norm, Norms, Resumed, Row, Started, Stopped, read_events
from netspec.training.logs.filters import first_filters
from netspec.training.logs.history import History
from netspec.training.logs.judged import Judged
from netspec.training.logs.report import RunPage, metric_names
from netspec.training.logs.reporter import Budget
from netspec.training.outcome import Outcome
from netspec.training.runs.run import Run
from netspec.training.runs.settings import Settings
from netspec.training.testing.predicting import Predictions
from netspec.training.testing.scored import Regressed, Scored

HOSTILE = "<script>alert(1)<"
VOID = {"meta", "img", "br", "input"}

NET = """
name: "a</title><script>alert(2)</script>"
data "train" { source: "pictures"  batch_size: 4  transform { scale: 1/255 } }
data "test" { source: "pictures"  batch_size: 4  transform { scale: 1/255 } }
input "data" { shape: 3x8x8 }
conv { num_output: 5  kernel_size: 3 }
relu
fc { num_output: 2 }
softmax_loss
accuracy { top: "right" }
solver { base_lr: 0.05  max_iter: 12  display: 2 }
"""


class Strict(HTMLParser):
    """Refuses what is not nested well, and notes what a page could load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.acts: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.acts += [name for name, _ in attrs if name.startswith("on")]
        self.loads += [v or "" for name, v in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec on a folder of twelve pictures, whose names and whose classes' would act."""
    generator = np.random.default_rng(0)
    for name in (HOSTILE, "b&b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    path = tmp_path / "net.net"
    path.write_text(NET)
    return path


class Ear(Listener):
    def __init__(self, dies: int = -1) -> None:
        self.warnings: list[str] = []
        self._dies = dies

    def warned(self, message: str) -> None:
        if "the tests look at the" not in message:  # which they do here, on purpose
            self.warnings.append(message)

    def saving(self, iteration: int) -> None:
        if iteration == self._dies:
            raise OSError("the end")


def trained(spec: Path, ear: Listener | None = None, **more: Any) -> Outcome:
    runs = spec.parent / "runs"
    return train(read(str(spec)), runs=runs, device="cpu", listener=ear, **more)


def test_all_is_there_and_nothing_acts(spec: Path) -> None:
    ear = Ear()
    run = Run.open(trained(spec, ear).run)
    assert ear.warnings == []
    text = run.report.read_text("utf-8")
    found = Strict(text)
    assert found.texts["h2"] == [
        "Warnings", "Curves", "Classes", "Worst mistakes", "First filters",
        "Weights, gradients and updates", "Network", "Spec", "Run",
    ]  # fmt: skip
    assert "script" not in found.tags
    assert not found.tags & {"link", "iframe", "object", "embed", "form", "a", "base"}
    assert found.acts == []
    assert found.loads
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in found.loads)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text
    assert len(text) < 100_000
    assert [b for b in found.texts["b"] if b == HOSTILE]
    assert "b&b" in found.texts["td"]
    assert found.texts["h1"] == ["a</title><script>alert(2)</script> 1"]
    names = [b for b in found.texts["b"] if b.startswith(("loss", "right", "learning"))]
    assert names == ["loss", "right", "learning rate"]
    assert found.texts["p"][0].startswith("finished, 12 of 12 iterations, ")
    assert "conv1.weight" in found.texts["td"]
    assert 'name: "a</title><script>alert(2)</script>"' in "".join(found.texts["pre"])
    assert "one for each core" in found.texts["td"]


def test_a_page_while_it_trains(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Reader(Ear):
        def saving(self, iteration: int) -> None:
            (page,) = spec.parent.glob("runs/*/1/report.html")
            seen.append(page.read_text("utf-8"))

    monkeypatch.setattr(Budget, "allows", lambda _: True)
    ear = Reader()
    trained(spec, ear)
    assert ear.warnings == []
    said = [Strict(text).texts["p"] for text in seen]
    assert [p[0].split(", 2")[0] for p in said] == [
        f"training, {i} of 12 iterations" for i in (3, 6, 9, 12)
    ]
    assert [p[1].split(":")[0] for p in said] == [f"After iteration {i}" for i in (3, 6, 9, 12)]


def test_it_is_made_again_from_the_folder(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(spec).run
    written = (run / "report.html").read_bytes()
    assert main(["report", str(run), "-o", str(tmp_path / "x.html"), "--device", "cpu"]) == 0
    assert (tmp_path / "x.html").read_bytes() == written
    (tmp_path / "pictures").rename(tmp_path / "gone")
    assert main(["report", str(run), "--device", "cpu"]) == 0
    assert "the page leaves out what it would show" in capsys.readouterr().err
    assert b"Worst mistakes" not in (run / "report.html").read_bytes()
    elsewhere = ["report", str(run), "--device", "cpu", "--data", str(tmp_path / "gone")]
    assert main(elsewhere) == 0
    assert b"Worst mistakes" in (run / "report.html").read_bytes()
    assert main([*elsewhere[:-1], str(tmp_path / "nowhere")]) == 1
    (run / "events.jsonl").unlink()
    assert main(["report", str(run)]) == 2
    assert "has no events" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2


def test_a_resumed_training_draws_the_same_curves(spec: Path) -> None:
    whole = Run.open(trained(spec).run)
    with pytest.raises(OSError, match="the end"):
        trained(spec, Ear(dies=6))
    run = Run.open(spec.parent / "runs" / whole.path.parent.name / "2")
    assert "failed, 6 of 12 iterations" in run.report.read_text("utf-8")
    trained(spec, resume=True)
    one, other = (History(events=read_events(r.events)[0]) for r in (whole, run))
    assert other.state == "finished"
    assert one.train.keys() == other.train.keys()
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert {n: c.points for n, c in a.items()} == {n: c.points for n, c in b.items()}
    assert one.rate.points == other.rate.points
    assert one.best == other.best


def test_a_page_that_fails_costs_one_warning(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run.open(trained(spec).run)

    def full(path: Path, chunks: Any) -> None:
        raise DataError(f"{path}: cannot be written: No space left on device")

    ear = Ear()
    monkeypatch.setattr(reporter, "write_atomically", full)
    run = Run.open(trained(spec, ear).run)
    (warning,) = ear.warnings
    assert "is behind, training goes on" in warning
    assert "No space left" in warning
    assert not run.report.exists()
    for name in ("conv1.weight", "fc1.bias"):
        assert (run.weights()[name] == whole.weights()[name]).all()


def test_a_judgement_that_fails_leaves_the_page(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Judged:
        raise MemoryError("too much")

    ear = Ear()
    monkeypatch.setattr(Judged, "of", fail)
    run = Run.open(trained(spec, ear).run)
    assert [w.split(": ", 1)[1] for w in ear.warnings] == ["is behind, training goes on: too much"]
    assert "Worst mistakes" not in run.report.read_text("utf-8")
    assert "finished, 12 of 12" in run.report.read_text("utf-8")


def test_what_is_held_while_training() -> None:
    net = elaborate(read("lenet")).test.net
    assert reporter.affordable(net, 6_000_000)
    assert not reporter.affordable(net, 7_000_000)


def test_a_page_takes_a_small_share_of_the_time() -> None:
    now = 0.0
    budget = Budget(lambda: now, 0.03)
    assert not budget.allows()
    now += 10
    assert budget.allows()
    with budget:
        now += 2
    now += 666
    assert not budget.allows()
    now += 1
    assert budget.allows()


def test_the_script_of_a_page_is_the_one_that_it_allows() -> None:
    text = page("x", [], script="let a = 1;")
    digest = b64encode(sha256(b"let a = 1;").digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "script-src" not in page("x", [])


def event(kind: Callable[..., Any], iteration: int, time: float, **more: Any) -> Any:
    return kind(iteration=iteration, epoch=iteration / 10, time=time, **more)


def test_time_is_that_of_training() -> None:
    history = History()
    history.add(event(Started, 0, 100, net="n", length=40, batch=1, samples=1))
    history.add(event(Row, 10, 110, lr=1, train={}))
    history.add(event(Stopped, 10, 110))
    assert (history.state, history.seconds, history.speed) == ("stopped", 10, 1)
    history.add(event(Resumed, 10, 1000, length=40))
    history.add(event(Row, 30, 1010, lr=1, train={}))
    assert (history.state, history.seconds, history.speed) == ("training", 20, 2)


def test_what_is_rolled_back_is_drawn_once(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec.write_text(NET.replace("max_iter: 12", "max_iter: 12  rollback: 1"))
    real = Executor.step

    def step(self: Executor, iteration: int, indices: Any, rate: float, stopped: Any) -> Any:
        result = real(self, iteration, indices, rate, stopped)
        wild = iteration in (8, 9, 10) and rate > 0.03
        return replace(result, finite=False) if wild else result

    monkeypatch.setattr(Executor, "step", step)
    run = Run.open(trained(spec).run)
    told, _ = read_events(run.events)
    assert [e.iteration for e in told] == sorted(e.iteration for e in told)
    rows = [e.iteration for e in told if isinstance(e, Row)]
    assert rows == sorted(set(rows))
    (back,) = [e for e in told if isinstance(e, events.RolledBack)]
    assert (back.iteration, back.diverged) == (6, 11)
    page = run.report.read_text("utf-8")
    assert "back from iteration 11" in page
    assert main(["report", str(run.path), "--device", "cpu"]) == 0
    assert run.report.read_text("utf-8") == page


def test_the_best_of_each_value() -> None:
    history = History(["right"])
    for i, (loss, right) in enumerate([(3, 0.1), (1, 0.4), (2, 0.6), (None, 0.2)]):
        history.add(event(events.Tested, i, i, test={"loss": loss, "right": right}))
    assert history.best == {"loss": (1, 1), "right": (0.6, 2)}


@pytest.fixture
def lenet(tmp_path: Path) -> Callable[..., str]:
    """The page of a LeNet of which these things are known."""

    def made(predictions: Predictions | None = None, images: Any = None, **more: Any) -> str:
        nets = elaborate(read("lenet"))
        judged = None if predictions is None else Judged(predictions, 7, images, bgr=False)
        history = more.pop("history", History(metric_names(nets.test.net)))
        run = Run.create(tmp_path, Settings(name="LeNet"), {"spec.net": "a < b\n"})
        summary = summarise(nets, Phase.TEST, exact=False)
        text = RunPage(run, history, nets.test.net, summary, {}, judged).html()
        Strict(text)
        return text

    return made


def scores(count: int, classes: int) -> Scored:
    generator = np.random.default_rng(0)
    drawn = generator.random((count, classes)).astype(np.float32)
    return Scored(drawn, generator.integers(0, classes, count), tuple("<i>" * classes))


def test_a_run_that_has_not_begun(lenet: Callable[..., str]) -> None:
    assert "has not begun" in lenet()


@pytest.mark.parametrize("classes", [2, 24, 25, 300, 1500])
def test_as_many_classes_as_there_are(lenet: Callable[..., str], classes: int) -> None:
    images = np.zeros((400, 3, 90, 60), np.uint8)
    text = lenet(Predictions(scores(400, classes), ()), images)
    assert len(text) < 400_000
    assert text.count("<figure>") == 24
    assert ('class="matrix"' in text) == (classes <= 24)


@pytest.mark.parametrize("shape", [(400, 2, 8, 8), (400, 7), (400, 0, 3, 3)])
def test_what_is_no_picture_is_not_drawn(lenet: Callable[..., str], shape: Any) -> None:
    text = lenet(Predictions(scores(400, 3), ()), np.zeros(shape, np.float32))
    assert "<img" not in text
    assert text.count("<figure>") == 24


def test_no_mistakes_no_labels_and_numbers(lenet: Callable[..., str]) -> None:
    right = Scored(np.eye(3, dtype=np.float32), np.arange(3))
    numbers = Regressed("<b>", np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))
    text = lenet(Predictions(right, (numbers,)))
    assert "Worst mistakes" not in text
    assert "Errors of &lt;b&gt;" in text
    nothing = Scored(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    assert "Classes</h2>" not in lenet(Predictions(nothing, ()))


def test_norms_of_nothing_are_dashes(lenet: Callable[..., str]) -> None:
    history = History()
    parameters = {"<p>": Norm(weight=0, gradient=None, update=1)}
    history.add(event(Norms, 1, 1, parameters=parameters))
    text = lenet(history=history)
    assert "<td>&lt;p&gt;</td>" in text
    assert text.count('<td class="n">–</td>') == 3


def test_filters_in_one_scale() -> None:
    net = elaborate(read("lenet")).test.net
    weights = np.zeros((20, 1, 5, 5), np.float32)
    weights[3, 0, 1, 2], weights[4, 0, 0, 0] = -2, 1
    found = first_filters(net, {"conv1.weight": weights})
    assert found is not None
    assert found.tiles.shape == (20, 1, 5, 5)
    assert [found.tiles[i, 0, y, x] for i, y, x in ((3, 1, 2), (4, 0, 0), (0, 0, 0))] == [
        0, 191, 128,
    ]  # fmt: skip
    still = first_filters(net, {"conv1.weight": 0 * weights})
    assert still is not None
    assert (still.tiles == 128).all()
    assert first_filters(net, {}) is None
    assert first_filters(net, {"conv1.weight": weights * np.nan}) is None


def test_a_linear_classifier_shows_its_templates() -> None:
    net = elaborate(read("linear_cifar")).test.net
    (name,) = [p.name for p in net.parameters if len(p.shape) == 2]
    found = first_filters(net, {name: np.ones((10, 3072), np.float32)})
    assert found is not None
    assert found.tiles.shape == (10, 3, 32, 32)
