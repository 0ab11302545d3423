"""What a run was started with, beyond its spec: kept beside it, to go on and to run again."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Change(BaseModel):
    """Another spec that the run was made to go on with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str
    """The hash of the one before."""
    difference: str
    """Line by line."""


class Settings(BaseModel):
    """What a run was started with, beyond its spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    """The net's."""
    command: tuple[str, ...] = ()
    overrides: dict[str, str] = {}
    """What `--set` gave, by path."""
    device: str = "cpu"
    target: str | None = None
    """What its graphs were compiled for; runs of earlier versions do not tell."""
    block: int = 0
    threads: int | None = None
    """As asked for."""
    recompute: tuple[str, ...] = ()
    shards: int = 1
    """In how many parts a batch is computed: in one by earlier versions."""
    seed: int = 1
    fold: tuple[int, int] | None = None
    """Which fold of how many was held out, in a cross-validation."""
    restarts: int = 0
    """Of how many trainings from several seeds it is one; 0 if it stands for itself."""
    held_out: str = ""
    """The digest of the samples that were held out; empty if none were."""
    samples: str = ""
    """What the training's samples are known by; runs of earlier versions do not tell."""
    tested: str = ""
    """The same of those that its tests look at."""
    classes: tuple[str, ...] = ()
    """The names of the classes, if the data know them."""
    folder: str | None = None
    """Where the spec's paths begin."""
    data: dict[str, str] = {}
    """Where the samples of each phase came from."""
    manifests: dict[str, str] = {}
    """The hash of each phase's manifest, where its data have one."""
    skip_bad: int = 0
    """How many samples that cannot be read may be passed over."""
    solver: dict[str, Any] = {}
    """The solver's fields as resolved."""
    versions: dict[str, str] = {}
    given: tuple[str, ...] = ()
    """What options such as `--epochs` set, as `path=value`; the run's spec has it."""
    amended: tuple[str, ...] = ()
    """What they set since, over the run's spec."""
    changes: tuple[Change, ...] = ()


def environment() -> dict[str, str]:
    """The versions that a run's numbers hang on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("netspec", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
