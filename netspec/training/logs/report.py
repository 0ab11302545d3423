"""The page of a run: its curves, what the net says of the test data, its weights, what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from netspec.ir.layer import Role
from netspec.ir.net import Net
from netspec.report import chart as charts
from netspec.report import grid as grids
from netspec.report import html, raster
from netspec.report.axis import number, percent
from netspec.report.chart import Line, chart
from netspec.report.columns import DEFAULT, find_columns
from netspec.report.curve import Curve
from netspec.report.grid import Cell, grid
from netspec.report.html import facts_table, layers_table
from netspec.report.page import heading, page, words
from netspec.report.summary import Summary
from netspec.report.table import Table, totals_table
from netspec.training.logs import judged as judging
from netspec.training.logs.events import Failed, Norm
from netspec.training.logs.filters import first_filters
from netspec.training.logs.history import History
from netspec.training.logs.judged import Judged
from netspec.training.runs.run import Run

_SPEC = 200_000
"""Characters of a spec that are shown."""

_TILE, _SHEET = 66, 800
"""Pixels of a filter and of a row of them, about."""

_STYLE = """
body { max-width: 1240px; margin: 0 auto; }
.tiles { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 12px 0 4px; }
.tiles div { min-width: 90px; }
.tiles b { display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: 13px; }
pre { margin: 0; padding: 10px 12px; font: 12px/1.45 ui-monospace, Menlo, Consolas, monospace; }
.facts td { overflow-wrap: anywhere; }
"""


def metric_names(net: Net) -> tuple[str, ...]:
    """The values of a test that are shares of 1."""
    found = (node for node in net.nodes if node.layer.role is Role.METRIC)
    return tuple(top for node in found for top in node.tops)


@dataclass(frozen=True)
class RunPage:
    """What a page shows, gathered."""

    run: Run
    history: History
    net: Net
    """Of phase TEST."""
    summary: Summary
    weights: Mapping[str, NDArray[Any]]
    judged: Judged | None = None

    def html(self) -> str:
        """The page, whole in one file: the same facts give the same bytes."""
        style = html.STYLE + charts.STYLE + grids.STYLE + raster.STYLE + judging.STYLE + _STYLE
        title = f"{self.run.settings.name} {self.run.path.absolute().name}"
        return page(title, [*self._parts(title)], style=style)

    def _parts(self, title: str) -> Iterator[str]:
        yield heading(title, self._state())
        yield f'<div class="tiles">{"".join(_tile(*pair) for pair in self._figures())}</div>'
        yield from _listed("Warnings", self.history.warnings)
        yield from self._curves()
        if self.judged is not None:
            yield from self.judged.parts()
        yield from self._filters()
        yield from self._norms()
        yield "<h2>Network</h2>"
        yield facts_table(totals_table(self.summary))
        yield "<p></p>"
        yield layers_table(self.summary.cost, find_columns(DEFAULT))
        yield "<h2>Spec</h2>"
        yield f'<div class="scroll" tabindex="0"><pre>{self._spec()}</pre></div>'
        yield "<h2>Run</h2>"
        yield facts_table(self._settings())

    def _state(self) -> str:
        last = self.history.last
        if last is None:
            return "has not begun"
        when = datetime.fromtimestamp(last.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        done = f"{last.iteration:,} of {self.history.length:,} iterations"
        said = f"{self.history.state}, {done}, {when}"
        return f"{said}: {last.message}" if isinstance(last, Failed) else said

    def _figures(self) -> Iterator[tuple[str, str]]:
        history = self.history
        for name, value in (history.tested.test if history.tested else {}).items():
            yield f"test {name}", "not finite" if value is None else self._said(name, value)
            if best := history.best.get(name):
                yield f"best {name}, iteration {best[1]:,}", self._said(name, best[0])
        if history.last is not None:
            yield "epochs", number(float(f"{history.last.epoch:.4g}"))
        yield "time", _duration(history.seconds)
        if history.speed:
            yield "iterations a second", f"{history.speed:.4g}"
        if history.skipped:
            yield "updates left out", f"{history.skipped:,}"

    def _said(self, name: str, value: float) -> str:
        return f"{value:.2%}" if name in self.history.metrics else f"{value:.4g}"

    def _curves(self) -> Iterator[str]:
        history = self.history
        drawn = []
        for name in dict.fromkeys((*history.train, *history.test)):
            train, test = (curves.get(name, Curve()) for curves in (history.train, history.test))
            lines = [Line("training", train, 0), Line("test", test, 1, exact=True)]
            share = name in history.metrics
            drawn.append(
                chart(name, lines, "epoch", log=not share, says=percent if share else number)
            )
        rate = Line("learning rate", history.rate, 2, exact=True)
        drawn.append(chart("learning rate", [rate], "epoch"))
        if any(drawn):
            yield "<h2>Curves</h2>"
            yield f'<div class="charts">{"".join(drawn)}</div>'

    def _filters(self) -> Iterator[str]:
        found = first_filters(self.net, self.weights)
        if found is None:
            return
        count, _, height, width = found.tiles.shape
        zoom = max(1, _TILE // (width + 1))
        columns = min(count, 16, max(1, _SHEET // (zoom * (width + 1))))
        sheet = raster.tiled(found.tiles, columns)
        yield "<h2>First filters</h2>"
        more = f", the first {count}" if found.count > count else ""
        yield (
            f"<p>{words(found.name)}: {found.count:,} of {height}x{width}{more}, all in one scale; "
            "grey is 0.</p>"
        )
        yield raster.raster(sheet, side=zoom * max(sheet.shape[1:]), bgr=self._bgr, exact=True)

    @property
    def _bgr(self) -> bool:
        return self.net.data is not None and self.net.data.channel_order == "BGR"

    def _norms(self) -> Iterator[str]:
        if not self.history.norms:
            return
        first, last = self.history.norms[0], self.history.norms[-1]
        yield "<h2>Weights, gradients and updates</h2>"
        yield (
            f"<p>Norms in iteration {last.iteration:,}, and how large the step's update was beside "
            "the weights: about 0.001 is usual, 0.1 is of a rate that is too high and 0.00001 of "
            "one that is too low.</p>"
        )
        heads = ["parameter", "weights", "gradient", "update/weights",
                 f"in iteration {first.iteration:,}"]  # fmt: skip
        rows = (
            [
                (name, ""),
                _number(norm.weight),
                _number(norm.gradient),
                _number(_ratio(norm)),
                _number(_ratio(first.parameters[name]) if name in first.parameters else None),
            ]
            for name, norm in last.parameters.items()
        )
        yield grid(heads, rows, numbers=(1, 2, 3, 4))

    def _spec(self) -> str:
        text = self.run.spec.read_text("utf-8", errors="replace")
        cut = "\n…" if len(text) > _SPEC else ""
        return "\n".join(map(words, (text[:_SPEC] + cut).split("\n")))

    def _settings(self) -> Table:
        settings = self.run.settings
        table = Table([("", False), ("", False)])
        target = f"{settings.target}, blocks of {settings.block}" if settings.block else (
            settings.target or ""
        )  # fmt: skip
        facts = {
            "command": " ".join(settings.command),
            "device": settings.device,
            "target": target,
            "threads": "one for each core" if settings.threads is None else str(settings.threads),
            **({"shards of a batch": str(settings.shards)} if settings.shards > 1 else {}),
            "random seed": str(settings.seed),
            **{f"data, {phase}": source for phase, source in settings.data.items()},
            **{f"set {name}": value for name, value in settings.overrides.items()},
            **settings.versions,
        }
        for name, value in facts.items():
            table.add(name, value)
        return table


def _tile(name: str, value: str) -> str:
    return f"<div><b>{words(value)}</b><span>{words(name)}</span></div>"


def _listed(title: str, texts: list[str]) -> Iterator[str]:
    if texts:
        yield f"<h2>{title}</h2>"
        yield f"<ul>{''.join(f'<li>{words(text)}</li>' for text in dict.fromkeys(texts))}</ul>"


def _number(value: float | None) -> Cell:
    return "–" if value is None else f"{value:.3g}", ' class="n"'


def _ratio(norm: Norm) -> float | None:
    """None where the weights are 0, as biases are at first."""
    return norm.update / norm.weight if norm.update is not None and norm.weight else None


def _duration(seconds: float) -> str:
    """`12.3 s`, `4 min 5 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {seconds % 60:.0f} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
