"""`netspec predict`: the classes of images, with probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from netspec.cli import options
from netspec.cli.views import SCALES, VIEWS, chosen
from netspec.data import Picture, read_image, read_scaled
from netspec.diagnostics import DataError, UsageError, printable
from netspec.ir.types import size
from netspec.ir.views import Views
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.runtime.classifier import Classifier
from netspec.runtime.device import choose_device

Probabilities = NDArray[np.float32]


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--ensemble",
    "others",
    multiple=True,
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="Average the probabilities with those of this model, too; may be repeated.",
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes shown.")
@VIEWS
@SCALES
@options.DEVICE
@options.JSON
def command(
    model: Path,
    images: tuple[Path, ...],
    others: tuple[Path, ...],
    top: int,
    views: str | None,
    scales: str | None,
    device: str,
    as_json: bool,
) -> int:
    """Classes of IMAGES by MODEL: a run folder, or an ONNX file that netspec wrote.

    Where corners are cut and no size is given, the shorter side of an image is made 8/7 of what
    the net takes, as 256 is of 224.
    """
    place = choose_device(device)
    names = [str(name) for name in (model, *others)]
    members = [Classifier(_bytes(Path(name)), name, place) for name in names]
    _check_alike(names, members)
    seen = _views(members[0], chosen(views, scales, members[0].views))
    found = [_predict(members, image, seen) for image in images]
    if as_json:
        said = [_report(prediction, members[0], names, top) for prediction in found]
        options.print_json({"version": VERSION, "predictions": said})
        return 0
    print_table(_table(found, members[0], names, top))
    for prediction in found:
        if prediction.note:
            click.echo(f"{printable(str(prediction.image))}: {prediction.note}", err=True)
    return 0


@dataclass(frozen=True)
class _Prediction:
    """What the models say of an image."""

    image: Path
    note: str | None
    each: Sequence[Probabilities]
    """What every model says."""

    @property
    def mean(self) -> Probabilities:
        """What they say together."""
        return np.asarray(np.mean(self.each, axis=0, dtype=np.float64), np.float32)

    def ranked(self, top: int) -> list[int]:
        """The most probable classes."""
        return [int(i) for i in np.argsort(-self.mean, kind="stable")[:top]]


def _predict(members: Sequence[Classifier], image: Path, views: Views) -> _Prediction:
    shape = members[0].image_shape
    if views.plain:
        picture = read_image(image, shape)
        return _Prediction(
            image, _note(picture), [m.probabilities(picture.pixels) for m in members]
        )
    pictures = {
        view.scale: read_scaled(image, shape[0], view) if view.scale else read_image(image, shape)
        for view in views
    }
    pixels = {scale: picture.pixels for scale, picture in pictures.items()}
    note = None if views.scales else _note(pictures[None])
    return _Prediction(image, note, [member.of_views(pixels, views) for member in members])


def _note(picture: Picture) -> str | None:
    return f"resized from {size(picture.size)}" if picture.resized else None


def _views(member: Classifier, wanted: Views) -> Views:
    """The views as they are wanted, with room for corners."""
    if wanted.scales or wanted.kind in ("CENTRE", "FLIP"):
        return wanted
    return Views(wanted.kind, (round(min(member.image_shape[1:]) * 8 / 7),))


def _check_alike(names: Sequence[str], members: Sequence[Classifier]) -> None:
    for name, member in zip(names[1:], members[1:], strict=True):
        if why := members[0].differs(member):
            raise UsageError(f"no ensemble of `{names[0]}` and `{name}`: {why}")


def _table(
    found: Sequence[_Prediction], member: Classifier, names: Sequence[str], top: int
) -> Table:
    """A row for each class; of an ensemble what each model says, too."""
    single = names if len(names) > 1 else ()
    titles = [(name, True) for name in ("probability", *single)]
    table = Table([("image", False), ("class", False), *titles])
    for prediction in found:
        for place, i in enumerate(prediction.ranked(top)):
            image = "" if place else str(prediction.image)
            each = prediction.each if single else ()
            shares = (f"{float(said[i]):.2%}" for said in (prediction.mean, *each))
            table.add(image, _name(member, i), *shares)
    return table


def _report(
    prediction: _Prediction, member: Classifier, names: Sequence[str], top: int
) -> dict[str, Any]:
    """What `--json` tells of an image."""
    ranked = prediction.ranked(top)
    report = {
        "image": str(prediction.image),
        "note": prediction.note,
        "classes": [_class(member, i, prediction.mean) for i in ranked],
    }
    if len(names) == 1:
        return report
    models = [
        {"model": name, "classes": [_class(member, i, said) for i in ranked]}
        for name, said in zip(names, prediction.each, strict=True)
    ]
    return {**report, "models": models}


def _class(member: Classifier, i: int, said: Probabilities) -> dict[str, Any]:
    return {"index": i, "name": _name(member, i), "probability": float(said[i])}


def _name(member: Classifier, i: int) -> str:
    return member.classes[i] if i < len(member.classes) else str(i)


def _bytes(model: Path) -> bytes:
    path = model / "model.onnx" if model.is_dir() else model
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if model.is_dir():
            raise UsageError(
                f"{model} has no model.onnx: its training is not finished, or it is no run folder"
            ) from None
        raise UsageError(f"there is no run folder or model `{model}`") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
