"""`netspec predict`: the classes of images, with probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netspec.cli import options
from netspec.data import read_image
from netspec.diagnostics import DataError, UsageError, printable
from netspec.ir.types import size
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.runtime.classifier import Classifier
from netspec.runtime.device import choose_device


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes shown.")
@options.DEVICE
@options.JSON
def command(model: Path, images: tuple[Path, ...], top: int, device: str, as_json: bool) -> int:
    """Classes of IMAGES by MODEL: a run folder, or an ONNX file that netspec wrote."""
    classifier = Classifier(_bytes(model), str(model), choose_device(device))
    found = [_predict(classifier, image, top) for image in images]
    if as_json:
        options.print_json({"version": VERSION, "predictions": found})
        return 0
    table = Table([("image", False), ("class", False), ("probability", True)])
    for entry in found:
        for i, rank in enumerate(entry["classes"]):
            image = entry["image"] if i == 0 else ""
            table.add(image, rank["name"], f"{rank['probability']:.2%}")
    print_table(table)
    for entry in found:
        if entry["note"]:
            click.echo(f"{printable(entry['image'])}: {entry['note']}", err=True)
    return 0


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


def _predict(classifier: Classifier, image: Path, top: int) -> dict[str, Any]:
    picture = read_image(image, classifier.image_shape)
    probabilities = classifier.probabilities(picture.pixels)
    ranked = sorted(range(len(probabilities)), key=lambda i: -float(probabilities[i]))[:top]
    names = classifier.classes
    return {
        "image": str(image),
        "note": f"resized from {size(picture.size)}" if picture.resized else None,
        "classes": [
            {
                "index": i,
                "name": names[i] if i < len(names) else str(i),
                "probability": float(probabilities[i]),
            }
            for i in ranked
        ],
    }
