"""The options that say how a Caffe file is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from netspec.cli import options
from netspec.diagnostics import UsageError

if TYPE_CHECKING:
    from netspec.caffe.upgrade import Wishes
    from netspec.ir.types import Shape

_SHAPE = re.compile(r"([^=]+)=((?:[1-9][0-9]{0,8})(?:x[1-9][0-9]{0,8})*|1?)")


def caffe_options(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a verb the options of Caffe's files, as one argument `wishes`; None without any."""

    @click.option("--level", type=int, help="Caffe: the level of the net, for its layers' rules.")
    @click.option(
        "--stage", "stages", metavar="NAMES",
        help="Caffe: the stages of the net, with commas between them.",
    )  # fmt: skip
    @click.option(
        "--lenient", is_flag=True,
        help="Caffe: warn of what netspec does not know, and leave it out.",
    )  # fmt: skip
    @click.option(
        "--shape", "shapes", multiple=True, metavar="BLOB=SHAPE",
        help="Caffe: the shape of a blob that the file does not tell, such as data=3x224x224.",
    )  # fmt: skip
    @wraps(command)
    def wrapped(
        level: int | None, stages: str | None, lenient: bool, shapes: Sequence[str], **rest: Any
    ) -> int:
        given = level is not None or stages is not None or lenient or shapes
        wishes = _wishes(level, stages, lenient, shapes) if given else None
        return command(wishes=wishes, **rest)

    return wrapped


def _wishes(level: int | None, stages: str | None, lenient: bool, shapes: Sequence[str]) -> Wishes:
    from netspec.caffe.upgrade import Wishes

    known = dict(map(_shape, shapes))
    return Wishes(level, options.names(stages, "--stage"), lenient, known)


def _shape(text: str) -> tuple[str, Shape]:
    found = _SHAPE.fullmatch(text)
    if not found:
        raise UsageError(
            f"--shape takes a blob and its shape, such as data=3x224x224, not `{text}`"
        )
    blob, shape = found.groups()
    return blob, tuple(int(n) for n in shape.split("x") if n)
