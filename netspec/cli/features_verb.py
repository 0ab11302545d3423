"""`netspec features`: what a layer gives for every sample, as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.cli.candidates import Opener, candidate_options
from netspec.diagnostics import printable
from netspec.ir.types import size
from netspec.report.json import VERSION
from netspec.wording import counted

if TYPE_CHECKING:
    from netspec.training.testing.candidate import Split


@click.command("features")
@click.argument("run")
@click.option("--layer", required=True, help="The layer, or the blob, whose values are written.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    show_default=True,
    help="Whose samples; `train` without those that a run held out, which are `val`. The test "
    "section's transform is for all of them, and nothing is drawn by lot.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .npz to write.  [default: features-SPLIT.npz]",
)
@candidate_options
@options.DEVICE
@options.JSON
def command(
    run: str,
    layer: str,
    split: Split,
    out: Path | None,
    opener: Opener,
    device: str,
    as_json: bool,
) -> int:
    """What a layer of RUN gives for every sample, with the labels, as an .npz to train on.

    RUN is a run folder, or a spec or Caffe net with `--weights`. Frozen layers of a deep net and a
    small net on their features learn where data are few; `fc` with `hinge_loss` is a linear SVM.
    """
    from netspec.runtime.device import choose_device
    from netspec.training.testing.features import Features

    file = out or Path(f"features-{split}.npz")
    options.check_suffix(file, ".npz", "features are")
    features = Features(opener.one(run, split), layer, choose_device(device))
    features.write(file)
    count, *sample = features.shape
    if as_json:
        report = {
            "version": VERSION,
            "file": str(file),
            "blob": features.blob,
            "samples": count,
            "shape": sample,
            "arrays": ["data", *features.beside],
        }
        options.print_json(report)
    else:
        arrays = ", ".join(f"`{name}`" for name in features.beside)
        beside = f", with {arrays}" if arrays else ""
        shape = size(tuple(sample)) or "a number"
        click.echo(
            printable(
                f"{file}: {counted(count, 'sample')} of {shape} from `{features.blob}`{beside}"
            )
        )
    return 0
