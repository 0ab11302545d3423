"""`events.jsonl`: what happened in a training, one JSON object a line.

Every line has `event`, `iteration` (those done), `epoch` and `time`; the models below say what else
each kind of event holds. The first line, and each `resumed`, holds `version`: 1. Later versions of
netspec may add fields and kinds of events under the same number. A number that is not finite is
null.

The file tells the history of the weights: lines are only added, and when a killed training goes on,
those after the checkpoint from which it does are cut off, since they will come again. So they are
after a rollback.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from netspec.files import reaching
from netspec.training.runs.checkpoint import Progress

Number: TypeAlias = float | None
"""None where it is not finite."""

_LONGEST = 1 << 24
"""Bytes of a line that is still read."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    iteration: int
    """Iterations done."""
    epoch: float
    """How often the training has gone through its samples, the last time in part."""
    time: float
    """When, in seconds since 1970 (UTC)."""


class Started(_Event):
    """A new training is about to begin."""

    version: Literal[1] = 1
    """Of what the lines hold."""
    event: Literal["started"] = "started"
    net: str
    """The net's name."""
    length: int
    """Iterations in all."""
    batch: int
    """Samples of an iteration."""
    samples: int
    """Of the training data."""


class Resumed(_Event):
    """The training goes on from a checkpoint, or from the beginning if there was none yet."""

    version: Literal[1] = 1
    """Of what the lines hold."""
    event: Literal["resumed"] = "resumed"
    length: int
    """Iterations in all."""


class RolledBack(_Event):
    """The training diverged, and goes on from an earlier checkpoint."""

    event: Literal["rolled_back"] = "rolled_back"
    diverged: int
    """Iterations done when it did; those behind `iteration` are taken back."""
    message: str
    """Why."""


class Row(_Event):
    """Every `display` iterations and after each test, as a row of `log.csv`."""

    event: Literal["row"] = "row"
    lr: Number
    """The learning rate of the last step."""
    train: dict[str, Number]
    """Means since the last row: `loss`, single losses where there are several, metrics."""


class Tested(_Event):
    """A test."""

    event: Literal["tested"] = "tested"
    test: dict[str, Number]
    """`loss`, single losses where there are several, and metrics on the test data."""


class Norm(BaseModel):
    """Of one parameter's values: the root of the sum of their squares."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    weight: Number
    """Of the values before the step."""
    gradient: Number
    """Of the gradient."""
    update: Number
    """Of what the step added."""


class Norms(_Event):
    """How large weights, gradients and updates were in the first step and in that before a test."""

    event: Literal["norms"] = "norms"
    parameters: dict[str, Norm]
    """By the name of the parameter, in the net's order."""


class Saved(_Event):
    """A checkpoint is safe."""

    event: Literal["saved"] = "saved"
    path: str
    """Of the checkpoint, within the run's folder."""


class Warned(_Event):
    """Something the user should know."""

    event: Literal["warned"] = "warned"
    message: str
    """What it is."""


class Skipped(_Event):
    """An update was left out, since the loss, a gradient or a statistic was not finite."""

    event: Literal["skipped"] = "skipped"


class Stopped(_Event):
    """A signal ended the training after a checkpoint."""

    event: Literal["stopped"] = "stopped"


class Failed(_Event):
    """The training ended otherwise: it diverged, a disk was full, it was interrupted."""

    event: Literal["failed"] = "failed"
    message: str
    """Why."""


class Finished(_Event):
    """The final weights are written."""

    event: Literal["finished"] = "finished"
    ran: int
    """Iterations of the process that ended here."""
    skipped: int
    """Updates left out in all."""
    test: dict[str, Number]
    """What the last test gave; empty without test data."""
    best: Number
    """The best value of the last metric, or the lowest loss where there is none."""
    best_iteration: int | None
    """After which it was."""


Event: TypeAlias = (
    Started
    | Resumed
    | RolledBack
    | Row
    | Tested
    | Norms
    | Saved
    | Warned
    | Skipped
    | Stopped
    | Failed
    | Finished
)

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def line(event: Event) -> bytes:
    """An event as it stands in the file."""
    return event.model_dump_json().encode() + b"\n"


def read_events(path: Path, since: Progress | None = None) -> tuple[list[Event], int]:
    """The sound events of a file, and the byte at which they end.

    Those that come after `since` do not count: the training that goes on from there will have them
    again. None where there is no file; DataError if it cannot be read, since what is behind that
    byte is cut off.
    """
    events: list[Event] = []
    size = 0
    with reaching(path, "read"), suppress(FileNotFoundError), path.open("rb") as file:
        while text := file.readline(_LONGEST):
            event = _parsed(text)
            if event is None or (since is not None and _after(event, since)):
                break
            events.append(event)
            size += len(text)
    return events, size


def kept(path: Path, iteration: int) -> int:
    """The byte at which a file ends when its training goes back to an iteration."""
    return read_events(path, Progress(iteration=iteration, recorded=iteration))[1]


def schema() -> dict[str, object]:
    """The JSON Schema of a line."""
    return _EVENT.json_schema(mode="serialization")


def _parsed(text: bytes) -> Event | None:
    """The event of a whole line; None if it is torn or none of ours."""
    if not text.endswith(b"\n"):
        return None
    try:
        return _EVENT.validate_json(text)
    except ValidationError:
        return None


def _after(event: Event, progress: Progress) -> bool:
    """Whether an event is undone when the training goes on from here.

    A test that a signal cut short comes again after the checkpoint of its own iteration.
    """
    done = progress.recorded if isinstance(event, Row | Tested) else progress.iteration
    return event.iteration > done
