"""The samples that a run is tested on, without the bad ones that its training would pass over."""

from __future__ import annotations

from collections.abc import Callable

from netspec.data import Dataset, Reading
from netspec.data.decoding import readable
from netspec.data.tolerance import Tolerance
from netspec.ir.net import Net
from netspec.training.feeding import allowed
from netspec.training.runs.run import Run
from netspec.training.setup.sources import check_batches


def without_bad(
    run: Run, net: Net, opened: Callable[[Reading], Dataset], tell: Callable[[str], None]
) -> Dataset:
    """The samples of a data set of the run that can be read; `tell` hears of each other one.

    None stands in for another: it would count twice. DataError for more bad ones than the run may
    pass over, UsageError if what is left does not fit the batches of the net.
    """
    limit = allowed(run)
    whole = opened(Reading(tolerance=Tolerance(limit)))
    found = readable(whole, Tolerance(limit, tell, instead="it is left out"))
    check_batches(found, net)
    return found
