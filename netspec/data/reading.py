"""How samples are read, beyond what a section of data says."""

from __future__ import annotations

from dataclasses import dataclass, field

from netspec.data.dataset import Dataset
from netspec.data.tolerance import Tolerance
from netspec.ir.sections import DataSection


@dataclass(frozen=True)
class Reading:
    """What may stay on the disk, and what may be passed over."""

    room: int | None = None
    """Bytes that decoded images may take in memory; None for no limit."""
    tolerance: Tolerance = field(default_factory=Tolerance)

    def holds(self, dataset: Dataset, section: DataSection) -> bool:
        """Whether the images of a data set are to be in memory."""
        if section.cache is not None:
            return section.cache == "MEMORY"
        needed = sum(lazy.nbytes for lazy in dataset.streamed.values())
        return self.room is None or needed <= self.room
