"""Checkpoints survive what disks, kernels and cosmic rays do to them."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from netspec.diagnostics import DataError
from netspec.files import remove_orphans
from netspec.training.metrics import Averages
from netspec.training.runs import tensors
from netspec.training.runs.checkpoint import Keeper, Progress, State, load, save
from netspec.training.runs.tensors import write_tensors


def state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    weights = {
        "3a/conv.weight": rng.normal(size=(4, 3)).astype(np.float32).T,  # not contiguous
        "scale": np.array(rng.normal(), np.float32),
        "none": np.zeros((0, 3), np.float32),
    }
    slots = {"momentum": {n: w * 2 for n, w in weights.items()}, "empty": {}}
    return State(weights, slots, {"bn.mean": rng.normal(size=5).astype(np.float32)})


def progress(iteration: int = 7, **more: Any) -> Progress:
    averages = Averages().add({"loss": 0.1}).add({"loss": 1 / 3})
    return Progress(iteration=iteration, averages=averages, last_loss=0.2, spec="ab", **more)


def same(a: State, b: State) -> bool:
    def flat(s: State) -> dict[str, tuple[Any, ...]]:
        sections = {"w": s.weights, **{f"s{n}": t for n, t in s.slots.items()}, "t": s.statistics}
        return {
            f"{section}/{n}": (t.dtype, t.shape, t.tobytes())
            for section, tensors in sections.items()
            for n, t in tensors.items()
        }

    return flat(a) == flat(b) and set(a.slots) == set(b.slots)


def temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_load_gives_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    noted = progress(best=random.random(), best_iteration=3, test={"loss": float("inf")})
    save(path, state(), noted)
    found, told = load(path)
    assert same(found, state())
    assert told == noted
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_running_means_lie_beside_the_weights(tmp_path: Path) -> None:
    """They are what is tested and written; a state without them is its own result."""
    path, plain = tmp_path / "a.safetensors", state()
    means = {n: a + 1 for n, a in {**plain.weights, **plain.statistics}.items() if n != "none"}
    save(path, replace(plain, averages=means), progress())
    found, _ = load(path)
    assert same(found, plain)
    assert all(np.array_equal(found.averages[n], a) for n, a in means.items())
    result = found.result
    assert np.array_equal(result.weights["scale"], plain.weights["scale"] + 1)
    assert np.array_equal(result.statistics["bn.mean"], plain.statistics["bn.mean"] + 1)
    assert result.weights["none"] is found.weights["none"]
    assert plain.result.weights == plain.weights


def test_any_safetensors_reader_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, state(), progress())
    read = load_file(path)
    assert set(read) == {
        *(f"weights/{n}" for n in state().weights),
        *(f"slots/momentum/{n}" for n in state().weights),
        "statistics/bn.mean",
    }
    assert np.array_equal(read["weights/3a/conv.weight"], state().weights["3a/conv.weight"])


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / name, state(), progress())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_floats_of_progress_come_back_exactly() -> None:
    for value in np.random.default_rng(1).integers(0, 2**63, 2000).view(np.float64):
        if np.isfinite(value):
            text = Progress(best=float(value)).model_dump_json()
            assert Progress.model_validate_json(text).best == value


def test_every_flipped_bit_is_caught(tmp_path: Path) -> None:
    path, bad = tmp_path / "a", tmp_path / "b"
    save(path, state(), progress())
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    rng = random.Random(1)
    payload = [rng.randrange(header, len(good)) for _ in range(250)]
    for offset in [rng.randrange(header) for _ in range(250)] + payload:
        flipped = bytearray(good)
        flipped[offset] ^= 1 << rng.randrange(8)
        bad.write_bytes(flipped)
        if offset >= header:
            with pytest.raises(DataError, match=r"b: section `\w+[/\w]*` does not have the sha256"):
                load(bad)
            continue
        try:
            found, told = load(bad)
        except DataError:
            continue
        assert same(found, state())  # such as another blank in the header
        assert told == progress()


def test_every_truncation_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, state(), progress())
    good = path.read_bytes()
    for length in [*range(0, len(good), 7), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(DataError):
            load(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(DataError):
        load(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(DataError, match="No such file"):
        load(path)
    with pytest.raises(DataError, match="not a regular file"):
        load(tmp_path)
    save_file({"weights/x": np.zeros(1, np.float32)}, path)
    with pytest.raises(DataError, match="not that of a netspec checkpoint"):
        load(path)
    save_file({}, path, {"kind": "checkpoint", "version": "2"})
    with pytest.raises(DataError, match="has version 2; this netspec reads 1"):
        load(path)
    save_file({}, path, {"kind": "checkpoint", "version": "1", "sha256": "[[[["})
    with pytest.raises(DataError, match="header"):
        load(path)
    write_tensors(path, "checkpoint", {}, {"progress": '{"iteration": -1}'})
    with pytest.raises(DataError, match="header"):
        load(path)


def test_the_last_three_and_the_best_are_kept(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for iteration in range(1, 8):
        keeper.save(
            state(iteration), progress(iteration, best=1.0, best_iteration=min(iteration, 2))
        )
    assert [int(p.stem) for p in keeper.paths()] == [2, 5, 6, 7]
    found = keeper.newest()
    assert found is not None
    assert same(found.state, state(7))


def test_resume_falls_back_and_sets_the_damaged_aside(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    assert keeper.newest() is None
    for iteration in (1, 2, 3):
        keeper.save(state(iteration), progress(iteration))
    for iteration in (2, 3):
        with keeper.path(iteration).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
    found = keeper.newest()
    assert found is not None
    assert found.progress.iteration == 1
    assert [path for path, _ in found.damaged] == [keeper.path(3), keeper.path(2)]
    keeper.set_aside(found)
    assert keeper.paths() == [keeper.path(1)]
    keeper.path(1).write_bytes(b"")
    with pytest.raises(DataError, match="no checkpoint can be read"):
        keeper.newest()


def test_what_cannot_be_read_for_once_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(tmp_path)
    for iteration in (1, 2):
        keeper.save(state(iteration), progress(iteration))
    newest = keeper.path(2)

    def unwilling(path: Path, **how: Any) -> Any:
        if path == newest:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return safe_open(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(tensors, "safe_open", unwilling)
        found = keeper.newest()
        assert found is not None
        assert found.progress.iteration == 1
        ((path, fault),) = found.damaged
        assert path == newest
        assert "00000002.safetensors: cannot be read: Input/output error" in str(fault)
        keeper.set_aside(found)
    again = keeper.newest()
    assert again is not None
    assert again.progress.iteration == 2


def test_a_later_one_that_was_out_of_reach_is_left_behind(tmp_path: Path) -> None:
    """Else a run that fell back and went on, perhaps at another rate, would one day leap to it."""
    keeper = Keeper(tmp_path)
    for iteration in (1, 2, 9):
        keeper.save(state(iteration), progress(iteration))
    keeper.save(state(3), progress(3))
    assert keeper.paths() == [keeper.path(i) for i in (1, 2, 3)]
    assert keeper.path(9).with_suffix(".left").exists()


def test_a_full_disk_is_seen_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a", state(), progress())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (10**9, 10**9 - 1000, 1000))
    with pytest.raises(
        DataError, match=r"needs 1\.05 MB, and 0\.00 MB are free; what was there is kept$"
    ):
        save(tmp_path / "a", state(1), progress())
    monkeypatch.undo()
    assert same(load(tmp_path / "a")[0], state())
    assert not temporaries(tmp_path)


def test_a_write_that_hits_a_limit_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, state(), progress())
    big = State({"w": np.ones(1 << 16, np.float32)}, {}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(DataError, match="File too large; what was there is kept"):
            save(path, big, progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(load(path)[0], state())
    assert not temporaries(tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", Path("/proc/self")):
        with pytest.raises(DataError, match="a: cannot be written"):
            save(folder / "a", state(), progress())


@pytest.mark.parametrize("continuing", [False, True])
def test_the_nth_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, continuing: bool
) -> None:
    """SQLite's loop: fail call n = 1, 2, … until the operation completes."""
    keeper = Keeper(tmp_path, keep=1)
    keeper.save(state(1), progress(1))
    calls, failing = 0, 0

    def spoilt(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing or (continuing and calls > failing > 0):
                raise OSError(5, "Input/output error")
            return real(*args, **kwargs)

        return call

    for name in ("open", "write", "fsync", "replace", "close", "unlink"):
        monkeypatch.setattr(os, name, spoilt(getattr(os, name)))
    for failing in itertools.count(1):
        calls = 0
        try:
            keeper.save(state(2), progress(2))
            done = True
        except DataError:
            done = False
        reached, calls, failing_now = calls, 0, failing
        failing = 0
        found = keeper.newest()
        assert found is not None
        assert not found.damaged
        assert same(found.state, state(found.progress.iteration))
        assert found.progress.iteration in ((2,) if done else (1, 2))
        if not continuing:
            assert not temporaries(tmp_path)
        remove_orphans(tmp_path)
        assert not temporaries(tmp_path)
        if done and reached < failing_now:
            break
        for path in keeper.paths():
            path.unlink()
        keeper.save(state(1), progress(1))
    assert failing_now > 10


@dataclass
class Trace:
    """What a save did to the disk, in order."""

    operations: list[tuple[Any, ...]] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)

    def record(self, patch: pytest.MonkeyPatch) -> None:
        log, files = self.operations, self.files
        real = {n: getattr(os, n) for n in ("open", "write", "fsync", "replace", "unlink")}

        def opened(path: Any, flags: int, *rest: Any) -> int:
            descriptor: int = real["open"](path, flags, *rest)
            files[descriptor] = "" if Path(path).is_dir() else Path(path).name
            if flags & os.O_CREAT:
                log.append(("create", Path(path).name))
            return descriptor

        def written(descriptor: int, chunk: Any) -> int:
            log.append(("write", files[descriptor], bytes(chunk)))
            count: int = real["write"](descriptor, chunk)
            return count

        def synced(descriptor: int) -> None:
            log.append(("sync", files[descriptor]))
            real["fsync"](descriptor)

        def replaced(old: Any, new: Any) -> None:
            log.append(("replace", Path(old).name, Path(new).name))
            real["replace"](old, new)

        def unlinked(path: Any, **_: Any) -> None:
            log.append(("unlink", Path(path).name))
            real["unlink"](path)

        for name, call in zip(real, (opened, written, synced, replaced, unlinked), strict=True):
            patch.setattr(os, name, call)


def survivors(
    operations: list[tuple[Any, ...]], disk: dict[str, bytes]
) -> Iterator[dict[str, bytes]]:
    """Every folder that a power cut at the end of `operations` may leave.

    A write that was not synced is there, torn or missing; a change of the folder that was not
    synced is there or missing, each on its own.
    """
    contents: dict[str, list[tuple[bytes, bool]]] = {}
    changes: list[tuple[tuple[Any, ...], bool]] = []
    for operation in operations:
        match operation:
            case ("write", name, chunk):
                contents.setdefault(name, []).append((chunk, False))
            case ("sync", ""):
                changes = [(change, True) for change, _ in changes]
            case ("sync", name):
                contents[name] = [(chunk, True) for chunk, _ in contents.get(name, [])]
            case _:
                changes.append((operation, False))
    written = [
        [(n, c)]
        if safe
        else [(n, c), (n, c[: len(c) // 2] + bytes(len(c) - len(c) // 2)), (n, b"")]
        for n, chunks in contents.items()
        for c, safe in chunks
    ]
    kept = [[change] if safe else [change, None] for change, safe in changes]
    for bodies in itertools.product(*written):
        data = {n: b"".join(c for name, c in bodies if name == n) for n in contents}
        for folder in itertools.product(*kept):
            names = dict(disk)
            for change in folder:
                match change:
                    case ("create", name):
                        names[name] = data.get(name, b"")
                    case ("replace", old, new):
                        names.pop(old, None)
                        names[new] = data.get(old, b"")
                    case ("unlink", name):
                        names.pop(name, None)
            yield names


def lost(
    operations: list[tuple[Any, ...]], disk: dict[str, bytes], folder: Path
) -> tuple[int, int]:
    """How many states there are after all prefixes, and how many have no sound checkpoint."""
    seen: dict[tuple[tuple[str, bytes], ...], bool] = {}
    states = none = 0
    for end in range(len(operations) + 1):
        for names in survivors(operations[:end], disk):
            key = tuple(sorted((n, b) for n, b in names.items() if not n.endswith(".tmp")))
            if key not in seen:
                for old in folder.iterdir():
                    old.unlink()
                for name, body in key:
                    (folder / name).write_bytes(body)
                try:
                    seen[key] = Keeper(folder).newest() is None
                except DataError:
                    seen[key] = True
            states, none = states + 1, none + seen[key]
    return states, none


def test_a_power_cut_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that may be on the disk after each operation of a save that keeps only the new one."""
    run, model = tmp_path / "run", tmp_path / "model"
    run.mkdir()
    model.mkdir()
    keeper = Keeper(run, keep=1)
    small = State({"w": np.arange(3, dtype=np.float32)}, {"m": {"w": np.ones(3, np.float32)}}, {})
    keeper.save(small, progress(1))
    disk = {p.name: p.read_bytes() for p in run.iterdir()}
    trace = Trace()
    with monkeypatch.context() as patch:
        trace.record(patch)
        keeper.save(small, progress(2))
        keeper.save(small, progress(2, skipped=1))  # over a file of the same name
    operations = trace.operations
    assert [o[0] for o in operations].count("sync") == 4
    states, none = lost(operations, disk, model)
    assert none == 0
    assert states > 100
    # The model bites: without the first flush, as safetensors writes, checkpoints are lost.
    careless = [o for o in operations if o[0] != "sync" or o[1] == ""]
    assert lost(careless, disk, model)[1] > 0


def test_a_file_that_may_not_survive_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in place: nothing that was there before is kept."""
    folder = os.open(tmp_path, os.O_RDONLY)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), os.fstat(folder)):
            raise OSError(5, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DataError, match="is written, but a power cut may lose it: Input/outp"):
            save(tmp_path / "a", state(), progress())
    os.close(folder)
    assert same(load(tmp_path / "a")[0], state())
