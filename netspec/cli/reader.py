"""The options that say how a spec is read: what is overridden, where includes are, Caffe's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netspec.cli import options
from netspec.cli.wishes import caffe_options
from netspec.compiler import Spec, read
from netspec.diagnostics import Diagnostics
from netspec.ir.layer import Phase

if TYPE_CHECKING:
    from netspec.caffe.upgrade import Wishes


@dataclass(frozen=True, slots=True)
class SpecReader:
    """Reads a spec or a Caffe file as the command line says; one without fields, as it stands."""

    sets: tuple[str, ...] = ()
    include_paths: tuple[Path, ...] = ()
    wishes: Wishes | None = None

    def read(self, spec: str, *, data: Path | None = None) -> Spec:
        """The spec; what is odd about a Caffe file is told on stderr."""
        diagnostics = Diagnostics()
        source = self.read_into(diagnostics, spec, data=data)
        options.print_warnings(diagnostics)
        return source

    def read_into(
        self,
        diagnostics: Diagnostics,
        spec: str,
        *,
        data: Path | None = None,
        phase: Phase = Phase.TEST,
    ) -> Spec:
        """The spec; what is odd about a Caffe file goes to `diagnostics`, see `compiler.read`."""
        return read(
            spec,
            sets=self.sets,
            include_paths=self.include_paths,
            wishes=self.wishes,
            diagnostics=diagnostics,
            data=data,
            phase=phase,
        )


def with_reader(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a verb what its SETS, INCLUDES and `caffe_options` say as one argument `reader`.

    For a verb whose help has other options between them, or that takes no Caffe file; for the
    others there is `reader_options`.
    """

    @wraps(command)
    def gathered(
        sets: tuple[str, ...],
        include_paths: tuple[Path, ...],
        wishes: Wishes | None = None,
        **others: Any,
    ) -> int:
        return command(reader=SpecReader(sets, include_paths, wishes), **others)

    return gathered


def reader_options(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a verb the options that say how a spec is read, as one argument `reader`."""
    return options.SETS(options.INCLUDES(caffe_options(with_reader(command))))
