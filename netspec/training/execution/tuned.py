"""What autotune measured, as a run keeps it, and when it still holds.

Another formulation rounds otherwise. A run that goes on therefore takes the choices that it began
with, on whatever machine, whether or not they are the fastest there.
"""

from __future__ import annotations

import json
import platform
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, field_validator

from netspec.codegen.measured import Choices
from netspec.diagnostics import printable
from netspec.files import write_durably
from netspec.training.execution.machine import Machine
from netspec.version import __version__

FILE = "autotune.json"
"""In the folder of a run."""

_MOST = 2**24
"""Bytes of a file that can be one of ours: some hundred operators take 100 KiB."""

Warn: TypeAlias = Callable[[str], None]


class Circumstances(BaseModel):
    """What times hang on besides an operator's shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    netspec: str
    onnxruntime: str
    processor: str
    threads: int
    target: str
    block: int

    @classmethod
    def here(cls, machine: Machine) -> Circumstances:
        """Those of this process on a machine."""
        return cls(
            netspec=__version__,
            onnxruntime=ort.__version__,
            processor=_processor(),
            threads=machine.device.usable_threads,
            target=machine.target.name,
            block=machine.target.block,
        )

    def beside(self, other: Circumstances) -> str:
        """What differs, for people: `onnxruntime 1.26.0, here 1.27.0`."""
        mine, theirs = self.model_dump(), other.model_dump()
        return ", ".join(
            f"{name} {printable(str(mine[name]))}, here {theirs[name]}"
            for name in mine
            if mine[name] != theirs[name]
        )


class Measured(BaseModel):
    """An operator's formulation, and the times of all that were tried, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: str
    rules: str
    """What would have been taken without a measurement."""
    ms: dict[str, FiniteFloat]


class Tuned(BaseModel):
    """What is kept: by the operator's key. What was left unmeasured is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    circumstances: Circumstances
    operators: dict[str, Measured]

    @field_validator("operators")
    @classmethod
    def _known(cls, operators: dict[str, Measured]) -> dict[str, Measured]:
        for key, measured in operators.items():
            names = key.rpartition(": ")[2].split("|")
            for name in (measured.chosen, measured.rules):
                if name not in names:
                    raise ValueError(f"`{name}` is no formulation of {key}")
        return operators

    @property
    def choices(self) -> Choices:
        return Choices({key: measured.chosen for key, measured in self.operators.items()})


def read(folder: Path, warn: Warn, instead: str) -> Tuned | None:
    """What a run keeps; None if it keeps nothing, or, with a warning, if the file is damaged."""
    file = folder / FILE
    try:
        return Tuned.model_validate_json(_bytes(file))
    except FileNotFoundError:
        return None
    except ValidationError as fault:
        first = fault.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'text'}: {first['msg']}"
    except OSError as fault:
        why = f"cannot be read: {fault.strerror or fault}"
    warn(f"{printable(str(file))}: {printable(why)}; {instead}")
    return None


def _bytes(file: Path) -> bytes:
    """A regular file of a reasonable size; never waits for a pipe or a device."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, "is not a regular file")
    if found.st_size > _MOST:
        raise OSError(None, f"is larger than {_MOST >> 20} MiB")
    return file.read_bytes()


def write(folder: Path, tuned: Tuned) -> None:
    """Keep it in the folder of a run, for who holds the run's lock. Raises DataError."""
    text = json.dumps(tuned.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_durably(folder / FILE, [f"{text}\n".encode()])


def kept(folder: Path, here: Circumstances, warn: Warn) -> Choices:
    """The choices with which a run began; the rules' if it was not tuned or the file is damaged.

    They hold under other circumstances too, since new ones would change the numbers of the run.
    """
    found = read(folder, warn, "its operators are computed as the rules say, and round so")
    if found is None:
        return Choices()
    if found.circumstances != here:
        differ = found.circumstances.beside(here)
        said = "the choices are kept, and may not be the fastest; --autotune measures anew"
        warn(f"{printable(str(folder / FILE))}: was measured with {differ}; {said}")
    return found.choices


def still_true(folder: Path, here: Circumstances, warn: Warn) -> Tuned | None:
    """What was measured under these circumstances; a warning if there is something else."""
    found = read(folder, warn, "measured anew")
    if found is None or found.circumstances == here:
        return found
    differ = found.circumstances.beside(here)
    warn(f"{printable(str(folder / FILE))}: was measured with {differ}; measured anew")
    return None


def _processor() -> str:
    """The processor's name and, where the system tells, its family and model."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            word, _, text = line.partition(":")
            facts.setdefault(word.strip(), text.strip())
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{word} {facts[word]}" for word in ("cpu family", "model") if word in facts]
    return ", ".join([name, *numbers])
