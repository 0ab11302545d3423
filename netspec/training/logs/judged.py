"""The part of a run's page that tells what the net says of each test sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.data import Dataset
from netspec.data.lazy import Lazy
from netspec.ir.net import Net
from netspec.report.grid import Cell, barred, grid, shaded
from netspec.report.page import words
from netspec.report.raster import drawable, raster, to_bytes
from netspec.training.testing.predicting import Predictions
from netspec.training.testing.scored import ClassShare, Mistake, Regressed, Scored

_MISTAKES, _MATRIX, _CLASSES, _PAIRS, _TARGETS = 24, 24, 40, 20, 20
"""How many of each a page shows at most."""
_SHEET = 1024
"""Classes up to which a confusion matrix is a picture."""

STYLE = """
.beside { display: flex; flex-wrap: wrap; gap: 16px 40px; align-items: flex-start; }
.beside > div { max-width: 100%; }
.beside .raster { margin-bottom: 12px; }
.mistakes { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
.mistakes figure { margin: 0; font-size: 12px; overflow-wrap: anywhere; }
.mistakes .raster { max-width: 100%; }
.mistakes figcaption { color: var(--muted); }
.mistakes b { color: var(--text); }
"""


@dataclass(frozen=True)
class Judged:
    """What a net says of its test data, and when."""

    predictions: Predictions
    iteration: int
    images: NDArray[Any] | Lazy | None
    """The test images, N x C x H x W, if there are any."""
    bgr: bool
    """Whether blue comes first in them."""

    @classmethod
    def of(cls, predictions: Predictions, iteration: int, net: Net, dataset: Dataset) -> Judged:
        """What a net says of this test data."""
        images = dataset.fed.get(next(iter(net.transformed), "data"))
        bgr = net.data is not None and net.data.channel_order == "BGR"
        return cls(predictions, iteration, images, bgr)

    def parts(self) -> Iterator[str]:
        """The sections, as HTML."""
        scored = self.predictions.scored
        if scored is not None and scored.count:
            yield "<h2>Classes</h2>"
            yield f"<p>After iteration {self.iteration:,}: {words(_summary(scored))}.</p>"
            yield f'<div class="beside"><div>{"".join(_classes(scored.per_class()))}</div>'
            yield f"<div>{''.join(_confusion(scored))}</div></div>"
            yield from self._mistakes(scored)
        for regressed in self.predictions.regressed:
            yield from _errors(regressed)

    def _mistakes(self, scored: Scored) -> Iterator[str]:
        found: dict[int, Mistake] = {}
        for mistake in scored.mistakes(8 * _MISTAKES):  # a sample of many labels comes up again
            found.setdefault(mistake.sample, mistake)
        if not found:
            return
        yield "<h2>Worst mistakes</h2>"
        yield "<p>What is it, what was it taken for, and how surely.</p>"
        shown = list(found.values())[:_MISTAKES]
        yield f'<div class="mistakes">{"".join(self._mistake(m, scored) for m in shown)}</div>'

    def _mistake(self, mistake: Mistake, scored: Scored) -> str:
        image = ""
        if self.images is not None and drawable(self.images.shape[1:]):
            pixels = to_bytes(np.asarray(self.images[mistake.sample]))
            image = raster(pixels, side=84, bgr=self.bgr and pixels.shape[0] == 3)
        sure = f"{mistake.confidence:.1%}" if scored.probable else f"{mistake.confidence:.3g}"
        return (
            f"<figure>{image}<figcaption><b>{words(scored.name(mistake.label))}</b>, taken for "
            f"<b>{words(scored.name(mistake.predicted))}</b> ({sure}), "
            f"sample {mistake.sample:,}</figcaption></figure>"
        )


def _summary(scored: Scored) -> str:
    said = [f"{scored.top_k(1):.2%} of {scored.count:,} right"]
    if scored.scores.shape[1] > 5:
        said.append(f"{scored.top_k(5):.2%} among the first five")
    error = scored.calibration_error()
    if not isnan(error):
        said.append(f"calibration error {error:.2%}")
    return ", ".join(said)


def _classes(shares: Sequence[ClassShare]) -> Iterator[str]:
    """The classes in their order, or those with the lowest recall if there are many."""
    rows = list(shares)
    if len(rows) > _CLASSES:
        rows = sorted(rows, key=lambda share: 2.0 if isnan(share.recall) else share.recall)
        rows = rows[:_CLASSES]
        yield f"<p>The {_CLASSES} of {len(shares):,} classes with the lowest recall:</p>"
    else:
        yield "<p>Each class:</p>"
    most = max(share.count for share in shares) or 1
    cells = (
        [
            (share.name, ""),
            barred(f"{share.count:,}", share.count / most),
            _share(share.precision),
            _share(share.recall),
        ]
        for share in rows
    )
    yield grid(["class", "samples", "precision", "recall"], cells, numbers=(1, 2, 3))


def _share(value: float) -> Cell:
    return ("–", ' class="n"') if isnan(value) else barred(f"{value:.1%}", value)


def _confusion(scored: Scored) -> Iterator[str]:
    """The matrix with its numbers, or as a picture beside the commonest confusions."""
    table = scored.confusion()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    if len(table) <= _MATRIX:
        yield "<p>Confusion: a row for what it is, a column for what it was taken for.</p>"
        names = [scored.name(i) for i in range(len(table))]
        rows = (
            [
                (names[i], ""),
                *(_taken(int(table[i, j]), shares[i, j], i == j) for j in range(len(table))),
            ]
            for i in range(len(table))
        )
        yield grid(["", *names], rows, kind="matrix")
        return
    if len(table) <= _SHEET:
        yield "<p>Confusion: a row for each class, a column for what it was taken for.</p>"
        yield raster(
            np.asarray(255 * (1 - shares**0.5), np.uint8)[np.newaxis], side=512, exact=True
        )
    wrong = table * (1 - np.eye(len(table), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(at), len(table)) for at in order if wrong.flat[at]]
    cells = (
        [(scored.name(i), ""), (scored.name(j), ""), barred(f"{table[i, j]:,}", shares[i, j])]
        for i, j in pairs
    )
    yield grid(["class", "taken for", "times"], cells, numbers=(2,))


def _taken(count: int, share: float, right: bool) -> Cell:
    return shaded(f"{count:,}" if count else "", share, good=right)


def _errors(regressed: Regressed) -> Iterator[str]:
    yield f"<h2>Errors of {words(regressed.name)}</h2>"
    pairs = list(zip(regressed.mean_absolute_error(), regressed.rmse(), strict=True))
    if len(pairs) > _TARGETS:
        yield f"<p>The first {_TARGETS} of {len(pairs):,} targets.</p>"
    rows = (
        [(str(i), ""), (f"{mean:.4g}", ' class="n"'), (f"{rmse:.4g}", ' class="n"')]
        for i, (mean, rmse) in enumerate(pairs[:_TARGETS])
    )
    yield grid(["target", "mean absolute error", "RMSE"], rows, numbers=(1, 2))
