"""`netspec test`: accuracy and loss on the test data, of runs or of a spec with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netspec.cli import options
from netspec.cli.candidates import Opener, candidate_options
from netspec.cli.progress import number, results
from netspec.cli.views import SCALES, VIEWS, chosen
from netspec.diagnostics import UsageError, printable
from netspec.report.json import VERSION
from netspec.report.table import print_table
from netspec.wording import counted

if TYPE_CHECKING:
    from netspec.cli.scores import Shown
    from netspec.ir.net import Net
    from netspec.training.execution.evaluator import Evaluation
    from netspec.training.testing.candidate import Candidate, Split
    from netspec.training.testing.predicting import Predictions


@click.command("test")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@candidate_options
@click.option("--per-class", is_flag=True, help="Precision and recall of every class.")
@click.option("--confusion", is_flag=True, help="Which classes were taken for which.")
@click.option(
    "--mistakes",
    type=click.IntRange(0, 10_000),
    default=0,
    metavar="N",
    help="The N worst mistakes, by file where the source has files.",
)
@VIEWS
@SCALES
@click.option(
    "--iterations",
    type=click.IntRange(1, 2**31),
    help="Batches of the test data, over again if it has fewer: loss and metrics alone.  "
    "[default: each sample once]",
)
@click.option(
    "--split", type=click.Choice(["test", "val"]), default="test", show_default=True,
    help="The test data, or the samples that the tests of a run's training looked at.",
)  # fmt: skip
@options.DEVICE
@options.JSON
def command(
    runs: tuple[str, ...],
    opener: Opener,
    per_class: bool,
    confusion: bool,
    mistakes: int,
    views: str | None,
    scales: str | None,
    iterations: int | None,
    split: Split,
    device: str,
    as_json: bool,
) -> int:
    """Accuracy and loss of RUN on its test data; each loss where it has several.

    RUN is a run folder, or a spec or Caffe net with `--weights`. Several run folders are tested one
    by one, and then as an ensemble that averages their probabilities.
    """
    from netspec.cli.scores import Shown
    from netspec.ir.heads import class_head

    shown = Shown(confusion, per_class, mistakes)
    if iterations and (shown.anything or views or scales or len(runs) > 1):
        raise UsageError("--iterations is for loss and metrics of one net, which count batches")
    members = opener.all(runs, split)
    tested = []
    for run, member in zip(runs, members, strict=True):
        if (confusion or mistakes) and class_head(member.net) is None:
            asked = "--confusion" if confusion else "--mistakes"
            raise UsageError(f"{asked} is of classes, and {printable(run)} tells none apart")
        tested.append(_tested(run, member, device, iterations, views, scales))
        if not as_json:
            click.echo(tested[-1].line)
    if as_json:
        options.print_json({"version": VERSION, **_report(tested, shown)})
    else:
        _print(tested, shown)
    return 0


@dataclass(frozen=True)
class _Tested:
    """How a net did."""

    run: str
    net: Net
    evaluation: Evaluation
    found: Predictions | None
    """None if only batches were counted."""
    views: int
    files: Sequence[Path]
    samples: str
    """What they are known by."""

    @property
    def line(self) -> str:
        """All in one line."""
        from netspec.cli.scores import percentages
        from netspec.training.metrics import values

        told = [f"{n} {number(n, value)}" for n, value in results(values(self.evaluation)).items()]
        samples = counted(self.evaluation.samples, "sample")
        seen = ""
        if self.found and self.found.scored and self.views == 1:
            told += percentages(self.found.scored, _counted(self.net))
        elif self.found and self.found.scored:
            shares = "  ".join(percentages(self.found.scored))
            seen = f"  averaged over {self.views} views of each: {shares}"
        return f"{printable(self.run)}: {'  '.join(told)}  ({samples}){seen}"

    @property
    def data(self) -> dict[str, Any]:
        """All but what the scores tell."""
        evaluation = self.evaluation
        scores = results({"loss": evaluation.loss, **evaluation.metrics})
        return {
            "run": self.run,
            "samples": evaluation.samples,
            **scores,
            "losses": evaluation.losses,
            "views": self.views,
        }


def _tested(
    run: str,
    member: Candidate,
    device: str,
    iterations: int | None,
    views: str | None,
    scales: str | None,
) -> _Tested:
    from netspec.runtime.device import choose_device
    from netspec.training.execution.bound import transform_of

    place = choose_device(device)
    seen = chosen(views, scales, transform_of(member.net).seen)
    found = None if iterations else member.judged(place, seen)
    evaluation = member.evaluated(place, iterations)
    files, samples = member.dataset.files, member.samples
    return _Tested(run, member.net, evaluation, found, len(seen), files, samples)


def _report(tested: Sequence[_Tested], shown: Shown) -> dict[str, Any]:
    """One net's results, or those of several and of their ensemble."""
    from netspec.cli import scores

    reports = [
        each.data | (scores.data(each.found, shown, each.files) if each.found else {})
        for each in tested
    ]
    if len(tested) == 1:
        return reports[0]
    together = scores.data(_ensemble(tested), shown, tested[0].files)
    return {"runs": reports, "ensemble": together}


def _print(tested: Sequence[_Tested], shown: Shown) -> None:
    """What there is to say beside a line for each net: of their ensemble, if they are several."""
    from netspec.cli.scores import errors_line, percentages, tables

    found = tested[0].found
    if len(tested) > 1:
        found = _ensemble(tested)
        assert found.scored is not None
        told = "  ".join(percentages(found.scored))
        click.echo(f"ensemble of {len(tested)}: {told}  ({found.scored.count:,} samples)")
    if found is None:
        return
    for head in found.regressed:
        click.echo(errors_line(head))
    for table in tables(found, shown, tested[0].files):
        click.echo()
        print_table(table)


def _ensemble(tested: Sequence[_Tested]) -> Predictions:
    from netspec.training.testing.candidate import Voice, ensemble
    from netspec.training.testing.predicting import Predictions

    voices = [
        Voice(each.run, each.net, each.found.scored, each.samples)
        for each in tested
        if each.found and each.found.scored
    ]
    if len(voices) < len(tested):
        raise UsageError("an ensemble is of nets with scores of classes")
    return Predictions(ensemble(voices), ())


def _counted(net: Net) -> set[int]:
    """The k of the shares that accuracy layers count already."""
    from netspec.layers.accuracy import Accuracy

    return {node.layer.top_k for node in net.nodes if isinstance(node.layer, Accuracy)}
