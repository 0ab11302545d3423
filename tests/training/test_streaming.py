"""Images that stay on the disk train the same net, to the bit, as those in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.compiler import read
from netspec.data import Reading
from netspec.data.split import Fold
from netspec.data.tolerance import Tolerance
from netspec.diagnostics import DataError, UsageError
from netspec.ir.initial import initial_statistics, initial_weights
from netspec.runtime.device import Device
from netspec.training.execution import samples
from netspec.training.feeding import BAD
from netspec.training.launch import train
from netspec.training.loop import Diverged, Listener, Outcome, Stopped
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare
from netspec.training.testing.candidate import Candidate, Split
from netspec.training.testing.predicting import judge
from netspec.training.trials.initial import initial_check
from netspec.training.trials.previewing import preview

COUNT, SIDE = 21, 10
LAYERS = """
input "data" { shape: 3x8x8 }
conv { num_output: 4  kernel_size: 3 }
batch_norm
relu
dropout
fc { num_output: 3 }
softmax_loss
accuracy
"""
SOLVER = "solver { base_lr: 0.05  momentum: 0.9  max_iter: 12  test_interval: 4  iter_size: 2 }"
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)


def in_folders(folder: Path) -> str:
    for row, image in enumerate(IMAGES):
        path = folder / "set" / "abc"[row % 3] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return "set"


def in_a_list(folder: Path) -> str:
    in_folders(folder)
    files = sorted((folder / "set").rglob("*.png"))
    lines = [f"{file.relative_to(folder)} {'abc'.index(file.parent.name)}\n" for file in files]
    (folder / "set.txt").write_text("".join(lines))
    return "set.txt"


def in_a_zip(folder: Path) -> str:
    in_folders(folder)
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for file in sorted((folder / "set").rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return "set.zip"


def in_a_table(folder: Path) -> str:
    in_folders(folder)
    files = sorted((folder / "set").rglob("*.png"))
    lines = [f"{file.relative_to(folder)},{'abc'.index(file.parent.name)}\n" for file in files]
    (folder / "set.csv").write_text("path,label\n" + "".join(lines))
    return "set.csv"


def in_a_database(folder: Path, *, encoded: bool) -> str:
    """Datums by hand: an LMDB by its own library."""
    import lmdb

    def field(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    with (
        lmdb.open(str(folder / "set"), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for row, image in enumerate(IMAGES):
            content = image.transpose(2, 0, 1).tobytes()
            if encoded:
                Image.fromarray(image).save(folder / "x.png")
                content = (folder / "x.png").read_bytes()
            size = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
            shape = b"" if encoded else field(1, 3) + field(2, SIDE) + field(3, SIDE)
            mark = b"\x38\x01" if encoded else b""
            record = shape + b"\x22" + size + content + field(5, row % 3) + mark
            transaction.put(b"%04d" % row, record)
    return "set"


SOURCES: dict[str, Callable[[Path], str]] = {
    "folder": in_folders,
    "list": in_a_list,
    "zip": in_a_zip,
    "table": in_a_table,
    "encoded": lambda folder: in_a_database(folder, encoded=True),
    "stored": lambda folder: in_a_database(folder, encoded=False),
}


def written(
    folder: Path, source: str, cache: str = "NONE", *, solver: str = SOLVER, name: str = "net"
) -> Path:
    said = f"cache: {cache}" if cache else ""
    sections = "".join(
        f'data "{phase}" {{ source: "{source}"  batch_size: {batch}  {said}  '
        "transform { crop_size: 8  mirror: true  scale: 1/255 } }\n"
        for phase, batch in (("train", 4), ("test", 5))
    )
    path = folder / f"{name}.net"
    path.write_text(f'name: "{name}"\n{sections}{LAYERS}{solver}\n')
    return path


class Heard(Listener):
    """Remembers warnings and how it ended, and does something after a step."""

    def __init__(self, after: Callable[[int], None] = lambda _: None) -> None:
        self.warnings: list[str] = []
        self.after = after
        self.outcome: Outcome | None = None

    @property
    def passed_over(self) -> list[str]:
        return [message for message in self.warnings if "stands in for it" in message]

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        self.after(iteration)

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def finished(self, outcome: Outcome) -> None:
        self.outcome = outcome


def trained(spec: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """The weights, and the log without its times."""
    options.setdefault("device", "cpu")
    options.setdefault("threads", 1)
    outcome = train(read(str(spec)), runs=spec.parent / "runs", **options)
    rows = (outcome.run / "log.csv").read_text().splitlines()
    return Run.open(outcome.run).weights(), [row.rpartition(",")[0] for row in rows]


def same(one: Any, other: Any) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name], err_msg=name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("source", SOURCES)
def test_streamed_is_what_is_in_memory(tmp_path: Path, source: str) -> None:
    """With crops, flips, dropout, accumulation, and a last test batch that is a short one."""
    name = SOURCES[source](tmp_path)
    found = [
        trained(written(tmp_path, name, cache, name=f"{cache}net")) for cache in ("MEMORY", "NONE")
    ]
    same(*found)


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_what_is_held_out_and_measured_is_streamed_alike(tmp_path: Path, source: str) -> None:
    name = SOURCES[source](tmp_path)
    found = []
    for cache in ("MEMORY", "NONE"):
        spec = written(tmp_path, name, cache, name=f"{cache}net")
        text = spec.read_text().replace("batch_size: 4", "batch_size: 4  val: 0.2", 1)
        spec.write_text(text.replace("scale: 1/255", "standardize: true"))
        found.append(trained(spec))
    same(*found)


def test_a_run_that_was_streamed_is_tested_alike(tmp_path: Path) -> None:
    spec = written(tmp_path, in_folders(tmp_path), solver=SOLVER + "\n")
    outcome = train(read(str(spec)), runs=tmp_path / "runs", device="cpu", threads=1)
    for batches, count in ((None, COUNT), (7, 35)):
        found = Candidate.of_run(Run.open(outcome.run)).evaluated(Device("cpu"), batches)
        assert found.samples == count
    assert outcome.waited is not None
    assert outcome.waited > 0


def test_what_is_too_large_is_streamed(tmp_path: Path) -> None:
    spec = read(str(written(tmp_path, in_folders(tmp_path), "")))
    size = COUNT * 3 * SIDE * SIDE
    for room, arrays in ((size, {"data", "label"}), (size - 1, {"label"})):
        found = prepare(spec, reading=Reading(room=room))
        assert found.train.arrays.keys() == arrays
        assert found.test is not None
        assert found.test.arrays.keys() == arrays
        assert len(found.train) == COUNT
        assert found.train.shapes == {"data": (3, SIDE, SIDE), "label": ()}
    assert not prepare(spec).train.streamed, "these fit"


def test_arrays_without_room_on_the_device_are_sent_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = written(tmp_path, in_folders(tmp_path), "MEMORY")
    one = trained(spec)
    monkeypatch.setattr(samples, "_has_room", lambda *_: False)
    same(one, trained(spec))


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    spec = written(tmp_path, in_folders(tmp_path))
    whole = trained(spec)

    def stop(iteration: int) -> None:
        if iteration in (3, 4, 9):
            signal.raise_signal(signal.SIGTERM)

    for resume in (False, True, True):
        with pytest.raises(Stopped):
            trained(spec, listener=Heard(stop), resume=resume)
    same(whole, trained(spec, resume=True))


class TestFaults:
    """In the middle of a training."""

    def damaged(self, tmp_path: Path, damage: Callable[[Path], None], **options: Any) -> Any:
        """A training during which every image of class c comes to harm."""
        spec = written(tmp_path, in_folders(tmp_path))

        def after(iteration: int) -> None:
            if iteration == 5:
                for file in sorted((tmp_path / "set" / "c").iterdir()):
                    # Threads read ahead: none of them may find half a change.
                    aside = tmp_path / file.name
                    shutil.copy(file, aside)
                    damage(aside)
                    if aside.exists():
                        aside.replace(file)
                    else:
                        file.unlink()

        heard = Heard(after)
        return heard, lambda: trained(spec, listener=heard, **options)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (Path.unlink, r"cannot be read: No such file"),
            (lambda file: file.write_bytes(file.read_bytes()[:90]), r"damaged|truncated"),
            (lambda file: file.write_bytes(b"not an image"), r"neither PNG nor JPEG"),
            (
                lambda file: Image.new("RGB", (5, 4)).save(file),
                r"image of 4x5, the input takes 10x10",
            ),
        ],
        ids=["gone", "cut", "overwritten", "of another size"],
    )
    def test_stops_with_the_name_and_keeps_what_it_has(
        self, tmp_path: Path, damage: Any, message: str
    ) -> None:
        _, run = self.damaged(tmp_path, damage)
        with pytest.raises(DataError, match=rf"set/c/\d\d\.png: .*({message})"):
            run()
        found = Run.open(tmp_path / "runs" / "net" / "1").checkpoints.newest()
        assert found is not None
        assert found.progress.iteration == 4

    def test_and_goes_on_as_if_nothing_had_been_once_it_is_mended(self, tmp_path: Path) -> None:
        _, run = self.damaged(tmp_path, Path.unlink)
        with pytest.raises(DataError):
            run()
        in_folders(tmp_path)
        spec = tmp_path / "net.net"
        same(trained(spec, resume=True), trained(spec))

    def test_skip_bad_goes_on(self, tmp_path: Path) -> None:
        heard, run = self.damaged(tmp_path, Path.unlink, skip_bad=7)
        run()
        assert heard.outcome.bad_samples == 7
        named = (tmp_path / "runs" / "net" / "1" / BAD).read_text().splitlines()
        assert sorted(named) == [str(tmp_path / f"set/c/{row:02}.png") for row in range(2, 21, 3)]
        assert [warning.split(": ")[0] for warning in heard.passed_over] == named
        assert heard.passed_over[-1].endswith("(7 of at most 7)")

    def test_but_not_beyond(self, tmp_path: Path) -> None:
        heard, run = self.damaged(tmp_path, Path.unlink, skip_bad=6)
        with pytest.raises(DataError, match=r"No such file.*; 6 were passed over before it"):
            run()
        assert len(heard.passed_over) == 6

    def test_diverged(self, tmp_path: Path) -> None:
        spec = written(tmp_path, in_folders(tmp_path), solver=SOLVER.replace("0.05", "1e30"))
        with pytest.raises(Diverged):
            trained(spec)


class TestBadFromTheBegin:
    def broken(self, folder: Path) -> str:
        """The first image of a class, its last, and two of the next that follow each other."""
        source = in_folders(folder)
        for name in ("a/00", "a/18", "b/01", "b/04"):
            (folder / source / f"{name}.png").write_bytes(b"")
        return source

    def test_in_memory_is_streamed(self, tmp_path: Path) -> None:
        source = self.broken(tmp_path)
        found = [
            trained(written(tmp_path, source, cache, name=f"{cache}net"), skip_bad=4)
            for cache in ("MEMORY", "NONE")
        ]
        same(*found)
        for cache in ("MEMORY", "NONE"):
            assert len((tmp_path / f"runs/{cache}net/1/{BAD}").read_text().splitlines()) == 4

    @pytest.mark.parametrize("fold", [None, Fold(2, 3)])
    def test_in_memory_is_streamed_where_samples_are_held_out(
        self, tmp_path: Path, fold: Fold | None
    ) -> None:
        """With what is measured of the images, and of the labels."""
        source = self.broken(tmp_path)
        found = []
        for cache in ("MEMORY", "NONE"):
            spec = written(tmp_path, source, cache, name=f"{cache}net")
            more = "batch_size: 4  val: 0.4  class_weights: BALANCED"
            text = spec.read_text().replace("batch_size: 4", more, 1)
            spec.write_text(text.replace("scale: 1/255", "standardize: true"))
            found.append(trained(spec, skip_bad=4, fold=fold))
        same(*found)
        runs = [Run.open(tmp_path / f"runs/{cache}net/1") for cache in ("MEMORY", "NONE")]
        for what in ("samples", "tested", "held_out"):
            assert len({getattr(run.settings, what) for run in runs}) == 1, what

    @pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
    def test_what_is_held_out_is_never_learned(self, tmp_path: Path, cache: str) -> None:
        source = self.broken(tmp_path)
        spec = written(tmp_path, source, cache)
        spec.write_text(spec.read_text().replace("batch_size: 4", "batch_size: 4  val: 0.4", 1))
        bad = {"a/00", "a/18", "b/01", "b/04"}
        for number in range(1, 4):
            reading = Reading(tolerance=Tolerance(4))
            found = prepare(read(str(spec)), fold=Fold(number, 3), reading=reading)
            assert found.test is not None
            for part in (found.train, found.test):
                names = ["/".join(file.with_suffix("").parts[-2:]) for file in part.files]
                mine = {name for name in names if name not in bad}
                taken = part.taken(np.arange(len(part)))
                for image, label in zip(taken["data"], taken["label"], strict=True):
                    (row,) = (
                        row for row in range(COUNT)
                        if np.array_equal(IMAGES[row].transpose(2, 0, 1), image)
                    )  # fmt: skip
                    assert f"{'abc'[row % 3]}/{row:02}" in mine
                    assert label == row % 3

    @pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
    def test_one_too_many(self, tmp_path: Path, cache: str) -> None:
        spec = written(tmp_path, self.broken(tmp_path), cache)
        with pytest.raises(DataError, match=r"\.png: neither PNG nor JPEG"):
            trained(spec, skip_bad=3)
        with pytest.raises(DataError, match=r"\.png: neither PNG nor JPEG"):
            trained(spec)

    def test_resumed_counts_on(self, tmp_path: Path) -> None:
        spec = written(tmp_path, self.broken(tmp_path))
        whole = trained(spec, skip_bad=4)

        def stop(iteration: int) -> None:
            if iteration == 4:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped):
            trained(spec, skip_bad=4, listener=Heard(stop))
        heard = Heard()
        same(whole, trained(spec, resume=True, listener=heard))
        assert heard.outcome is not None
        assert heard.outcome.bad_samples == 4
        (tmp_path / "runs" / "net" / "2" / BAD).write_text("an/other.png\n" * 2)
        assert Run.open(tmp_path / "runs" / "net" / "2").settings.skip_bad == 4

    @pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
    @pytest.mark.parametrize("moved", [False, True], ids=["there", "moved"])
    @pytest.mark.parametrize("again", [None, 4, 5])
    def test_resumed_knows_them_wherever_they_are_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, moved: bool,
        again: int | None,
    ) -> None:  # fmt: skip
        """A run finds its source by its absolute path, which the spec says relative to itself."""
        monkeypatch.chdir(tmp_path)
        written(tmp_path, self.broken(tmp_path), cache)

        def stop(iteration: int) -> None:
            if iteration == 4:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped):
            trained(Path("net.net"), skip_bad=4, listener=Heard(stop))
        kept = (tmp_path / "runs/net/1" / BAD).read_text()
        options: dict[str, Any] = {}
        if moved:
            (tmp_path / "there").mkdir()
            (tmp_path / "set").rename(tmp_path / "there" / "pictures")
            options["data"] = "there/pictures"
        heard = Heard()
        trained(Path("net.net"), resume=True, skip_bad=again, listener=heard, **options)
        assert heard.outcome is not None
        assert heard.outcome.bad_samples == 4
        assert heard.passed_over == []
        assert (tmp_path / "runs/net/1" / BAD).read_text() == kept
        assert [*map(Path, kept.splitlines())] == [Path(name).absolute() for name in kept.split()]

    @pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
    @pytest.mark.parametrize("split", ["test", "val", "train"])
    def test_tested_without_them(self, tmp_path: Path, cache: str, split: Split) -> None:
        """As if their files were not there; each is told, and those of another split are not."""
        spec = written(tmp_path, self.broken(tmp_path), cache)
        if split != "test":
            spec.write_text(spec.read_text().replace("batch_size: 4", "batch_size: 4  val: 0.4", 1))
        outcome = train(read(str(spec)), runs=tmp_path / "runs", device="cpu", skip_bad=4)
        told: list[str] = []
        found = Candidate.of_run(Run.open(outcome.run), split=split, tell=told.append)
        files = [str(file) for file in found.dataset.files]
        bad = sorted(str(file) for file in (tmp_path / "set").rglob("*.png") if is_empty(file))
        assert not {*files}.intersection(bad)
        whole = {"test": 21, "val": 8, "train": 13}[split]
        assert len(files) == whole - len(told)
        assert len(told) == 4 or split != "test"
        assert all(message.split(": ")[0] in bad for message in told)
        assert all(f"; it is left out ({n} of at most 4)" in m for n, m in enumerate(told, 1))
        sound = tmp_path / "sound"
        for file in found.dataset.files:
            copy = sound / file.relative_to(tmp_path / "set")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        run = Run.open(outcome.run)
        other = Candidate.of_run(run, split="train" if split == "train" else "test", data=sound)
        assert len(other.dataset) == len(files)
        device = Device("cpu")
        one, two = (each.evaluated(device) for each in (found, other))
        assert one.samples == two.samples == len(files)
        assert one == two
        scored = [each.judged(device).scored for each in (found, other)]
        assert scored[0] is not None
        assert scored[1] is not None
        np.testing.assert_array_equal(scored[0].scores, scored[1].scores)
        np.testing.assert_array_equal(scored[0].labels, scored[1].labels)

    @pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
    def test_tested_with_no_more_than_were_allowed(self, tmp_path: Path, cache: str) -> None:
        spec = written(tmp_path, self.broken(tmp_path), cache)
        outcome = train(read(str(spec)), runs=tmp_path / "runs", device="cpu", skip_bad=4)
        (tmp_path / "set" / "c" / "02.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"02\.png: neither PNG nor JPEG.*; 4 were passed over"):
            Candidate.of_run(Run.open(outcome.run)).evaluated(Device("cpu"))

    def test_tested_with_what_it_was_allowed_since(self, tmp_path: Path) -> None:
        spec = written(tmp_path, in_folders(tmp_path))

        def stop(iteration: int) -> None:
            if iteration == 4:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped):
            trained(spec, listener=Heard(stop))
        self.broken(tmp_path)
        trained(spec, resume=True, skip_bad=4)
        run = Run.open(tmp_path / "runs" / "net" / "1")
        assert Candidate.of_run(run).evaluated(Device("cpu")).samples == COUNT - 4


def is_empty(file: Path) -> bool:
    return not file.stat().st_size


@pytest.mark.parametrize("cache", ["MEMORY", "NONE"])
def test_the_command_line_tests_what_can_be_read(tmp_path: Path, cache: str) -> None:
    """Each bad file is told once, on stderr: of a test, of features, and of a page."""
    spec = written(tmp_path, in_folders(tmp_path), cache)
    bad = [tmp_path / "set" / name for name in ("a/00.png", "b/07.png")]
    for file in bad:
        file.write_bytes(b"")
    outcome = train(read(str(spec)), runs=tmp_path / "runs", device="cpu", skip_bad=2)
    run, out = str(outcome.run), str(tmp_path / "out.npz")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = []
    for words in (
        ["test", run, "--json"],
        ["features", run, "--layer", "fc1", "--json", "-o", out],
        ["report", run],
    ):
        command = [sys.executable, "-m", "netspec", *words, "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        for n, file in enumerate(bad, 1):
            (line,) = (line for line in done.stderr.splitlines() if str(file) in line)
            assert line.startswith("warning: "), line
            assert line.endswith(f"; it is left out ({n} of at most 2)")
    assert json.loads(said[0])["samples"] == COUNT - 2
    assert json.loads(said[1])["samples"] == COUNT - 2
    with np.load(out) as arrays:
        assert np.bincount(arrays["label"]).tolist() == [6, 6, 7]


def test_a_cache_is_for_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", data=IMAGES.transpose(0, 3, 1, 2), label=np.arange(COUNT) % 3)
    with pytest.raises(DataError, match=r"`cache` is not for an \.npz of arrays"):
        prepare(read(str(written(tmp_path, "set.npz"))))


def test_the_command_line_tells_how_long_steps_waited(tmp_path: Path) -> None:
    spec = written(tmp_path, in_folders(tmp_path))
    words = [sys.executable, "-m", "netspec", "train", str(spec), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment}
    plain = subprocess.run([*words, "--runs", str(tmp_path / "plain")], **options)
    assert "ms for their samples, in the mean" in plain.stderr
    lines = subprocess.run([*words, "--runs", str(tmp_path / "json"), "--json"], **options)
    last = json.loads(lines.stdout.splitlines()[-1])
    assert last["event"] == "done"
    assert last["waited"] > 0
    (tmp_path / "set/a/00.png").unlink()
    (tmp_path / "set/a/x.png").write_bytes(b"x")
    bad = subprocess.run([*words, "--runs", str(tmp_path / "bad"), "--skip-bad", "1"], **options)
    assert bad.returncode == 0, bad.stderr
    assert "set/a/x.png: neither PNG nor JPEG" in bad.stderr
    assert "passed over, since not readable: 1 sample" in bad.stderr


_CHILD = """
import sys
from netspec.compiler import read
from netspec.training.launch import train
train(read(sys.argv[1]), runs=sys.argv[2], device="cpu", threads=1)
# Not ru_maxrss, which begins with what the process that started this one took.
print(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_that_of_some_batches(tmp_path: Path) -> None:
    """Two sets of 120 images of 1 MB, of which four batches of four or five each are held."""
    image = Image.fromarray(np.zeros((590, 590, 3), np.uint8))
    for row in range(120):
        path = tmp_path / "set" / "abc"[row % 3] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    peaks = {}
    for cache in ("MEMORY", "NONE"):
        spec = written(tmp_path, "set", cache, name=cache, solver=SOLVER.replace("12", "3"))
        words = [sys.executable, "-c", _CHILD, str(spec), str(tmp_path / "runs")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        said = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
        peaks[cache] = int(said.stdout.splitlines()[-1]) >> 10
    held = 2 * 120 * 590 * 590 * 3 >> 20
    assert peaks["MEMORY"] - peaks["NONE"] > held / 2, peaks


def test_a_run_refuses_other_manifests(tmp_path: Path) -> None:
    source = in_folders(tmp_path)
    spec = written(tmp_path, source)

    def stop(iteration: int) -> None:
        if iteration == 4:
            signal.raise_signal(signal.SIGTERM)

    from netspec.data.manifest import beside, write_text

    files = sorted((tmp_path / source).rglob("*.png"))
    lock = beside(tmp_path / source)
    lock.write_text(write_text(files, tmp_path / source))
    whole = trained(spec)
    with pytest.raises(Stopped):
        trained(spec, listener=Heard(stop))
    kept = lock.read_text()
    Image.new("RGB", (SIDE, SIDE)).save(files[0])
    with pytest.raises(DataError, match=r"bytes, and|sha256 is not that of"):
        trained(spec, resume=True)
    lock.write_text(write_text(files, tmp_path / source))
    with pytest.raises(UsageError, match="manifest of the data of phase TRAIN has changed since"):
        trained(spec, resume=True)
    lock.unlink()
    with pytest.raises(UsageError, match="manifest of the data of phase TRAIN is no longer there"):
        trained(spec, resume=True)
    in_folders(tmp_path)
    lock.write_text(kept)
    same(whole, trained(spec, resume=True))


def test_whatever_reads_samples_reads_them_from_the_disk(tmp_path: Path) -> None:
    """Predictions, the first batch of a check, a preview: as from memory."""
    source = in_folders(tmp_path)
    found = []
    for cache in ("MEMORY", "NONE"):
        spec = read(str(written(tmp_path, source, cache, name=f"{cache}net")))
        experiment = prepare(spec)
        weights = initial_weights(experiment.nets.test.net, 1)
        statistics = initial_statistics(experiment.nets.test.net)
        scored = judge(experiment, device="cpu").predictions({**weights, **statistics}).scored
        assert scored is not None
        losses = [loss.loss for loss in initial_check(spec).losses]
        shown = [image for row in preview(spec, samples=3, draws=2) for image in row.drawn]
        found.append((scored.scores, np.array(losses), np.array(shown)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
