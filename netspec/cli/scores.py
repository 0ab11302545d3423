"""What is shown of the scores of a test: tables for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netspec.diagnostics import printable
from netspec.report.table import Table
from netspec.training.testing.predicting import Predictions
from netspec.training.testing.scored import Mistake, Regressed, Scored

TOP = (1, 5)
"""The k of the top-k that are shown, where there are more classes."""

_WIDEST = 20
"""Classes up to which a confusion matrix is shown whole."""
_PAIRS = 20
"""Of the classes most often taken for another, how many are shown where there are more."""
_MATRIX = 100
"""Classes up to which JSON holds the confusion matrix unasked."""

Files = Sequence[Path]
"""The file of each sample; empty where samples have only numbers."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What was asked for."""

    confusion: bool
    per_class: bool
    mistakes: int

    @property
    def anything(self) -> bool:
        """Whether it is more than the shares."""
        return self.confusion or self.per_class or self.mistakes > 0


def shares(scored: Scored) -> dict[str, float]:
    """Top-1, and top-5 of more than five classes."""
    classes = scored.scores.shape[1]
    return {f"top-{k}": scored.top_k(k) for k in TOP if k == 1 or k < classes}


def percentages(scored: Scored, known: Collection[int] = ()) -> list[str]:
    """The shares as people read them, but for those of `known` k."""
    left_out = {f"top-{k}" for k in known}
    return [f"{n} {share:.2%}" for n, share in shares(scored).items() if n not in left_out]


def errors_line(head: Regressed) -> str:
    """A head's errors over all its targets."""
    mean = head.mean_absolute_error().mean()
    root = np.sqrt(np.square(head.rmse()).mean())
    targets = head.targets.shape[1]
    over = f" over {targets:,} targets" if targets > 1 else ""
    return f"{printable(head.name)}: mean absolute error {mean:.4g}  RMSE {root:.4g}{over}"


def tables(found: Predictions, shown: Shown, files: Files) -> Iterator[Table]:
    """What was asked for, as tables."""
    scored = found.scored
    if shown.per_class:
        if scored:
            yield _per_class(scored)
        yield from map(_per_target, found.regressed)
    if scored and shown.confusion:
        whole = scored.scores.shape[1] <= _WIDEST
        yield _confusion(scored) if whole else _most_confused(scored)
    if scored and shown.mistakes:
        yield _mistakes(scored, shown.mistakes, files)


def data(found: Predictions, shown: Shown, files: Files) -> dict[str, Any]:
    """The same for programs; the confusion matrix of many classes only if it is asked for."""
    heads = [
        {
            "name": head.name,
            "mean_absolute_error": head.mean_absolute_error().tolist(),
            "rmse": head.rmse().tolist(),
        }
        for head in found.regressed
    ]
    scored = found.scored
    if scored is None:
        return {"scores": None, "heads": heads}
    whole = shown.confusion or scored.scores.shape[1] <= _MATRIX
    mistakes = [
        {**asdict(mistake), "file": _file(mistake, files)}
        for mistake in scored.mistakes(shown.mistakes)
    ]
    scores = {
        "count": scored.count,
        **{name.replace("-", "_"): share for name, share in shares(scored).items()},
        "calibration_error": scored.calibration_error(),
        "classes": [asdict(share) for share in scored.per_class()],
        "confusion": scored.confusion().tolist() if whole else None,
        "mistakes": mistakes,
    }
    return {"scores": scores, "heads": heads}


def _per_class(scored: Scored) -> Table:
    table = Table([("class", False), ("samples", True), ("precision", True), ("recall", True)])
    for share in scored.per_class():
        table.add(share.name, f"{share.count:,}", _percent(share.precision), _percent(share.recall))
    return table


def _per_target(head: Regressed) -> Table:
    table = Table([(head.name, False), ("mean absolute error", True), ("RMSE", True)])
    for i, (mean, root) in enumerate(zip(head.mean_absolute_error(), head.rmse(), strict=True)):
        table.add(str(i), f"{mean:.4g}", f"{root:.4g}")
    return table


def _confusion(scored: Scored) -> Table:
    """Rows are what is true, columns what was predicted."""
    matrix = scored.confusion()
    names = [scored.name(i) for i in range(len(matrix))]
    table = Table([("true \\ predicted", False), *((name, True) for name in names)])
    for name, row in zip(names, matrix.tolist(), strict=True):
        table.add(name, *(f"{count:,}" if count else "·" for count in row))
    return table


def _most_confused(scored: Scored) -> Table:
    matrix = scored.confusion()
    np.fill_diagonal(matrix, 0)
    table = Table([("true", False), ("predicted", False), ("samples", True)])
    for place in np.argsort(-matrix, axis=None, kind="stable")[:_PAIRS]:
        label, taken = divmod(int(place), len(matrix))
        if matrix[label, taken]:
            table.add(scored.name(label), scored.name(taken), f"{matrix[label, taken]:,}")
    return table


def _mistakes(scored: Scored, count: int, files: Files) -> Table:
    confidence = "probability" if scored.probable else "score"
    table = Table([("sample", False), ("true", False), ("predicted", False), (confidence, True)])
    for mistake in scored.mistakes(count):
        sample = _file(mistake, files) or f"{mistake.sample:,}"
        names = scored.name(mistake.label), scored.name(mistake.predicted)
        sure = mistake.confidence
        table.add(sample, *names, f"{sure:.2%}" if scored.probable else f"{sure:.4g}")
    return table


def _file(mistake: Mistake, files: Files) -> str | None:
    return str(files[mistake.sample]) if files else None


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.2%}"
