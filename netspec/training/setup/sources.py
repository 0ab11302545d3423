"""Where the samples of a phase are, and their opening for its net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from netspec import zoo
from netspec.compiler import Spec
from netspec.data import (
    Dataset,
    Reading,
    check_dataset,
    check_order,
    fitted,
    mean_image,
    open_dataset,
)
from netspec.diagnostics import DataError, UsageError, printable
from netspec.ir.labelled import Labelled
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import MEAN
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.free import free_memory

SPLITS = {Phase.TRAIN: "train", Phase.TEST: "test"}


def place_of(
    spec: Spec, net: Net, phase: Phase, data: Path | None, source: str | None
) -> tuple[Path, str]:
    """The folder and the name of a phase's source."""
    section = net.data
    if section is None or (phase is Phase.TEST and section.val and data is None):
        hint = "; `--split val` takes the samples held out" if section else ""
        raise UsageError(f'{spec.path}: there is no `data "{SPLITS[phase]}" {{ … }}`{hint}')
    base, name = spec.base, section.source
    if data is not None:
        base, name = Path.cwd(), str(data)
    elif source is not None:
        base, name = Path.cwd(), source
    if not name:
        raise UsageError(
            f'{spec.path}: `data "{SPLITS[phase]}"` names no source: give the samples by --data'
        )
    return base, name


def found_at(base: Path, name: str) -> str:
    """What a run remembers of a source: its absolute path, or a bundled name."""
    path = (base / name).absolute()
    return str(path) if path.exists() else name


def opened(
    spec: Spec, net: Net, base: Path, name: str, split: str, reading: Reading | None = None
) -> Dataset:
    """The samples of a phase as its net takes them."""
    if Path(name).is_absolute() and not Path(name).exists():  # as a run remembers it
        raise DataError(f"{printable(name)}: no such file or folder; --data says where it is now")
    if base == zoo.folder() and name != "mnist" and not (base / name).exists():
        raise DataError(f"{spec.path.stem} comes without its data, {name}: --data says where it is")
    images = stored_inputs(net).get(next(iter(net.transformed), "data"))
    dataset = open_dataset(
        name,
        split=split,
        base=base,
        shape=images.sample if images else None,
        section=net.data,
        folder=spec.base,
        reading=_with_room(reading or Reading()),
    )
    assert net.data is not None
    check_order(net.data.model_copy(update={"source": name}), base)
    return suited(dataset, net, spec.base)


def _with_room(reading: Reading) -> Reading:
    """With half of what is free for images, unless it says how much: a training needs more."""
    free = free_memory(Device("cpu"))
    if reading.room is not None or free is None:
        return reading
    return replace(reading, room=free // 2)


def suited(dataset: Dataset, net: Net, base: Path) -> Dataset:
    """The data set as the net takes it, with the mean image; DataError if it does not fit."""
    inputs = stored_inputs(net, dataset.shapes)
    fed = {name: type for name, type in inputs.items() if name in net.inputs}
    dataset = fitted(dataset, fed)
    _check(dataset, net, fed)
    check_batches(dataset, net)
    if net.data is None or not net.data.transform.mean_file or MEAN not in inputs:
        return dataset
    image = mean_image(base / net.data.transform.mean_file, inputs[MEAN].shape)
    return replace(dataset, measured={MEAN: image})


def check_batches(dataset: Dataset, net: Net) -> None:
    """UsageError if a net for tests takes whole batches alone, and the samples are none."""
    if net.hung and net.phase is Phase.TEST and len(dataset) % net.batch:
        raise UsageError(
            f"layer `{net.hung.name}` holds the batch size {net.batch}, of which the "
            f"{len(dataset)} test samples are no multiple"
        )


def _check(dataset: Dataset, net: Net, inputs: Mapping[str, TensorType]) -> None:
    labelled = [node for node in net.nodes if isinstance(node.layer, Labelled)]
    if not labelled:
        check_dataset(dataset, inputs)
    for node in labelled:
        assert isinstance(node.layer, Labelled)
        check_dataset(
            dataset,
            inputs,
            node.bottom_types[0].shape[node.layer.axis],
            layer=node.bottoms[0],
            ignore_label=node.layer.ignore_label,
        )
