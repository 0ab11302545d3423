"""The run folder `runs/<name>/<n>/`: the whole experiment, to be looked at and run again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from shutil import rmtree
from typing import Any, TypeAlias

from numpy.typing import NDArray
from pydantic import ValidationError

from netspec.diagnostics import DataError, UsageError, printable
from netspec.files import naming, reaching, remove_orphans, write_durably
from netspec.grammar import SUFFIXES
from netspec.training.runs.checkpoint import Keeper, State
from netspec.training.runs.locking import lock_file
from netspec.training.runs.settings import Change, Settings
from netspec.training.runs.tensors import read_tensors, write_tensors

SPEC = "spec.net"
"""The spec as run; what it includes lies beside it under the names it uses."""

Model: TypeAlias = Callable[[State], bytes]
"""Makes the ONNX file of a trained state."""

_SETTINGS = "settings.json"
_LOCK = "lock"
_NAME_LENGTH = 64


class Run:
    """One run's folder; only who holds `lock()` writes to it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.locked = False

    @classmethod
    def create(
        cls,
        root: Path,
        settings: Settings,
        files: Mapping[str, str],
        more: Callable[[Path], None] | None = None,
    ) -> Run:
        """Make the next folder of this net: `files` is `spec.net` and what it includes, as texts.

        `more` writes what else belongs there from the start. The settings come last, so that a
        folder without them is known to be half made.
        """
        assert SPEC in files
        places = {_place(name): text for name, text in files.items()}
        assert len(places) == len(files)
        path = _next_folder(root / folder_name(settings.name))
        for place, text in places.items():
            target = path / place
            with reaching(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_durably(target, [text.encode()])
        with reaching(path):
            (path / "checkpoints").mkdir(exist_ok=True)
        if more is not None:
            more(path)
        write_durably(path / _SETTINGS, [_text(settings)])
        return cls(path, settings)

    def amend(self, settings: Settings) -> None:
        """Keep other settings from now on."""
        assert self.locked
        write_durably(self.path / _SETTINGS, [_text(settings)])
        self.settings = settings

    def change(self, files: Mapping[str, str], difference: str, settings: Settings) -> None:
        """Go on with other texts, see `create`; the settings remember those before.

        They come first, so that checkpoints of the texts before are known whatever happens.
        """
        change = Change(spec=self.spec_hash(), difference=difference)
        self.amend(settings.model_copy(update={"changes": (*settings.changes, change)}))
        places = {self.path / _place(name): text for name, text in files.items()}
        for target, text in places.items():
            with reaching(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_durably(target, [text.encode()])
        for file in self._texts():
            if file not in places:
                file.unlink()

    def _texts(self) -> list[Path]:
        with reaching(self.path, "read"):
            return [file for file in sorted(self.path.rglob("*")) if file.suffix in SUFFIXES]

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run; UsageError if the folder is none, DataError if it is damaged."""
        file = path / _SETTINGS
        if not file.is_file():
            inside = [found.parent for found in path.glob(f"*/{_SETTINGS}")]
            last = max(inside, key=lambda run: (len(run.name), run.name), default=None)
            hint = f"; {printable(str(last))} is one" if last else ""
            raise UsageError(f"{printable(str(path))}: is not the folder of a run{hint}")
        try:
            with reaching(file, "read"):
                return cls(path, Settings.model_validate_json(file.read_bytes()))
        except ValidationError as fault:
            first = fault.errors()[0]
            where = ".".join(map(str, first["loc"])) or "text"
            raise DataError(f"{printable(str(file))}: {where}: {printable(first['msg'])}") from None

    @property
    def spec(self) -> Path:
        """The spec as run."""
        return self.path / SPEC

    @property
    def log(self) -> Path:
        """The log of its training."""
        return self.path / "log.csv"

    @property
    def events(self) -> Path:
        """What happened in its training."""
        return self.path / "events.jsonl"

    @property
    def report(self) -> Path:
        """The page about it."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Keeper:
        """The checkpoints of its training."""
        return Keeper(self.path / "checkpoints")

    @property
    def weights_file(self) -> Path:
        """The trained weights and statistics, under their plain names; made at the end."""
        return self.path / "weights.safetensors"

    @property
    def model_file(self) -> Path:
        """The trained network as ONNX; made at the end."""
        return self.path / "model.onnx"

    @property
    def best_weights_file(self) -> Path:
        """The weights and statistics that tested best; made at the end, if there were tests."""
        return self.path / "best.safetensors"

    @property
    def best_model_file(self) -> Path:
        """The network that tested best, as ONNX; made at the end, if there were tests."""
        return self.path / "best.onnx"

    def spec_hash(self) -> str:
        """A hash of the spec's texts and their names; a checkpoint carries it."""
        total = sha256()
        for file in self._texts():
            with reaching(file, "read"):
                text = file.read_bytes()
            total.update(f"{len(text)} {file.relative_to(self.path).as_posix()}\n".encode())
            total.update(text)
        return total.hexdigest()

    @contextmanager
    def lock(self) -> Iterator[Run]:
        """Keep other writers out and clear away what a killed one left; UsageError if one is there.

        The kernel drops the lock with the process, however it ends.
        """
        descriptor = lock_file(self.path / _LOCK)
        self.locked = True
        try:
            remove_orphans(self.path)
            remove_orphans(self.path / "checkpoints")
            with naming():
                yield self
        finally:
            self.locked = False
            with suppress(OSError):  # nothing was written to it
                os.close(descriptor)

    def discard(self) -> None:
        """Remove the folder, the settings first: without them the rest is no run."""
        assert self.locked
        (self.path / _SETTINGS).unlink(missing_ok=True)
        rmtree(self.path, ignore_errors=True)

    def finish(self, state: State, model: Model | None = None) -> None:
        """Write the trained weights, and the model that `model` makes of them.

        The same training gives the same bytes, resumed or not.
        """
        self._write(state.result, self.weights_file, model, self.model_file)

    def finish_best(self, state: State | None, model: Model | None = None) -> None:
        """The same of the weights that tested best, beside them; None if they are the last."""
        if state is not None:
            self._write(state.result, self.best_weights_file, model, self.best_model_file)
            return
        _copy(self.weights_file, self.best_weights_file)
        if model is not None:
            _copy(self.model_file, self.best_model_file)

    def _write(
        self,
        state: State,
        weights: Path,
        model: Model | None,
        model_file: Path,
    ) -> None:
        assert self.locked
        assert not set(state.weights) & set(state.statistics)
        facts = {"net": self.settings.name, "spec": self.spec_hash()}
        write_tensors(weights, "weights", {"": {**state.weights, **state.statistics}}, facts)
        if model is not None:
            write_durably(model_file, [model(state)])

    def weights(self, *, best: bool = False) -> dict[str, NDArray[Any]]:
        """The trained weights and statistics by name, verified; DataError if there are none.

        Those of the end, or those that tested best.
        """
        weights, _ = self._read(best)
        return weights

    def trained(self, *, best: bool = False) -> dict[str, NDArray[Any]] | None:
        """The same; None if the run is not finished, or goes on with another spec since."""
        if not (self.best_weights_file if best else self.weights_file).exists():
            return None
        weights, facts = self._read(best)
        return weights if facts.get("spec") == self.spec_hash() else None

    def _read(self, best: bool) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        file = self.best_weights_file if best else self.weights_file
        sections, facts = read_tensors(file, "weights")
        return sections[""], facts


def _copy(file: Path, to: Path) -> None:
    with reaching(file, "read"):
        content = file.read_bytes()
    write_durably(to, [content])


def _text(settings: Settings) -> bytes:
    text = json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def latest_run(root: Path, name: str) -> Run | None:
    """The last run of the net of this name that was completely made."""
    return next(runs_of(root, name), None)


def runs_of(root: Path, name: str) -> Iterator[Run]:
    """All that were completely made, the last one first."""
    folder = root / folder_name(name)
    for number in sorted(_numbers(folder), reverse=True):
        path = folder / str(number)
        if (path / _SETTINGS).is_file():
            yield Run.open(path)


def folder_name(name: str) -> str:
    """The folder of a net's name: itself if it is a plain word, else a safe word and a hash.

    A plain word is of ASCII letters, digits, `.`, `_` and `-`, begins with none of the marks and
    has at most 64 characters: `ResNet-18` stays, `../../x` becomes `x-` and eight digits.
    """
    word = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")
    if word and word == name[:_NAME_LENGTH]:
        return word
    digest = sha256(name.encode(errors="replace")).hexdigest()
    return f"{word[: _NAME_LENGTH - 9] or 'net'}-{digest[:8]}"


def _place(name: str) -> PurePosixPath:
    """A file's place in the run folder; a name that leads out or onto our own files is refused."""
    place = PurePosixPath(name)
    strange = not name.isprintable() or "\\" in name or ":" in name or place.is_absolute()
    if strange or ".." in place.parts or place.suffix not in SUFFIXES:
        raise UsageError(f"`{printable(name)}` cannot be copied into the folder of a run")
    return place


def _numbers(folder: Path) -> list[int]:
    with reaching(folder, "read"):
        names = os.listdir(folder) if folder.is_dir() else []
    return [int(name) for name in names if re.fullmatch(r"[1-9][0-9]{0,8}", name)]


def _next_folder(parent: Path) -> Path:
    """Make `1`, `2`, …: mkdir fails where another process was faster, and the next one is tried."""
    with reaching(parent):
        parent.mkdir(parents=True, exist_ok=True)
        number = max(_numbers(parent), default=0) + 1
        while True:
            try:
                (parent / str(number)).mkdir()
                return parent / str(number)
            except FileExistsError:
                number += 1
