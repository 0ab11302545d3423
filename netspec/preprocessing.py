"""What a compiled model leaves to its users to do with an image, or does itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from netspec.codegen.inference import Embedded
from netspec.data import channel_order, mean_image, sample_types
from netspec.diagnostics import DataError
from netspec.ir.fields import plain
from netspec.ir.measured import CHANNEL_MEAN, CHANNEL_STD, read_beside
from netspec.ir.mixed import MIXES
from netspec.ir.net import Net
from netspec.ir.sections import DataSection
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import MEAN, Transform
from netspec.ir.types import TensorType, size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Arrays: TypeAlias = "Mapping[str, npt.NDArray[np.float32]]"

_TRAINING = (*MIXES, "pca_jitter")
"""Fields of a transform that do nothing behind the training."""


@dataclass(frozen=True)
class Preprocessing:
    """The transform of a section, with what it reads."""

    transform: Transform
    measured: Arrays
    """A mean image and what was measured of the training data, as far as they are known."""
    stored: dict[str, TensorType] | None
    """The images that the model takes, by blob, where the transform is a part of it."""

    def embedded(self, net: Net) -> Embedded | None:
        """The part of the model that does it, for the batch of `net`."""
        if self.stored is None:
            return None
        stored = {
            name: type.with_shape(net.batch, *type.sample) for name, type in self.stored.items()
        }
        return Embedded(self.transform, stored, self.measured)

    @property
    def facts(self) -> tuple[dict[str, Any], dict[str, Any] | None, Arrays]:
        """What is left to do, what the model does, and the arrays that either takes.

        What was measured of channels is said as numbers.
        """
        said = plain(_said(self.transform.tested, self.measured))
        whole = {field: value for field, value in said.items() if field not in _TRAINING}
        channels = (CHANNEL_MEAN, CHANNEL_STD)
        arrays = {name: a for name, a in self.measured.items() if name not in channels}
        if self.stored is None:
            return whole, None, arrays
        order = {key: whole.pop(key) for key in ("channel_order",) if key in whole}
        return order, whole, arrays


def preprocessing_of(net: Net, base: Path, measured: Arrays, *, embedded: bool) -> Preprocessing:
    """That of a deployed net, whose paths begin at `base`, with what was measured for it.

    A mean file that is not there, or something not measured, is a fault (DataError) only if the
    model is to hold it.
    """
    section = net.data or DataSection(batch_size=1)
    transform = section.transform
    order = channel_order(section, base)
    if order is not None and any(net.inputs[name].channels == 3 for name in net.transformed):
        transform = transform.model_copy(update={"channel_order": order})
    names = read_beside(net, transform)
    known = {name: measured[name] for name in names if name in measured}
    file = base / transform.mean_file
    if transform.mean_file and (embedded or file.exists()):
        known[MEAN] = mean_image(file)
    missing = [name.removeprefix("transform#") for name in names if name not in known]
    if embedded and missing:
        raise DataError(
            f"transform: no {' and '.join(missing)} of the training data is at hand: compile the "
            "spec.net in the folder of its run, which keeps them"
        )
    stored = _stored(net, section, base, known) if embedded else None
    return Preprocessing(transform, known, stored)


def _said(transform: Transform, measured: Arrays) -> Transform:
    """The transform with numbers for what was measured of channels."""
    said: dict[str, Any] = {}
    if CHANNEL_MEAN in measured:
        said |= {"mean_value": _numbers(measured[CHANNEL_MEAN]), "mean": None}
    if CHANNEL_STD in measured:
        deviations = _numbers(measured[CHANNEL_STD])
        scaled = tuple(abs(transform.scale) * deviation for deviation in deviations)
        said |= {"std": scaled, "standardize": False}
    return transform.model_copy(update=said)


def _numbers(array: npt.NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(map(float, array))


def _stored(net: Net, section: DataSection, base: Path, measured: Arrays) -> dict[str, TensorType]:
    """The types of the images: the mean's size, else that of what is there, else the crop's."""
    there = sample_types(section, base, split="test") or {}
    shapes = {name: type.shape for name, type in there.items()}
    mean = measured.get(MEAN)
    if mean is not None:
        shapes.update(dict.fromkeys(net.transformed, mean.shape))
    inputs = stored_inputs(net, shapes)
    if mean is not None and MEAN in inputs and inputs[MEAN].shape != mean.shape:
        taken = f"a mean of {size(mean.shape)} for images of {size(inputs[MEAN].shape)}"
        file = section.transform.mean_file
        raise DataError(f"{base / file if file else 'transform'}: {taken}")
    return {
        name: TensorType(inputs[name].shape, there[name].dtype if name in there else "uint8")
        for name in net.transformed
    }
