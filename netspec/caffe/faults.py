"""Where a pass over a Caffe file reports to, and how strictly."""

from __future__ import annotations

from dataclasses import dataclass

from netspec.diagnostics import Diagnostics, SpecError


@dataclass(frozen=True, slots=True)
class Faults:
    """Reports into `diagnostics`; `lenient` turns what can be read nonetheless into warnings."""

    diagnostics: Diagnostics
    lenient: bool = False

    def error(self, fault: SpecError) -> None:
        """What Caffe refuses."""
        self.diagnostics.error(fault)

    def warn(self, lint: SpecError) -> None:
        """What Caffe takes, though hardly as its author meant it."""
        self.diagnostics.warn(lint)

    def refuse(self, fault: SpecError) -> None:
        """What Caffe refuses, but can be read: an error, or a warning if lenient."""
        report = self.diagnostics.warn if self.lenient else self.diagnostics.error
        report(fault)
