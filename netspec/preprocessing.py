"""What a compiled model leaves to its users to do with an image, or does itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netspec.codegen.inference import Embedded
from netspec.data import channel_order, mean_image, sample_types
from netspec.diagnostics import DataError
from netspec.ir.fields import plain
from netspec.ir.net import Net
from netspec.ir.sections import MEAN, DataSection, Transform
from netspec.ir.stored import stored_inputs
from netspec.ir.types import TensorType, size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Preprocessing:
    """The transform of a section, with what it reads."""

    transform: Transform
    mean: npt.NDArray[np.float32] | None
    stored: dict[str, TensorType] | None
    """The images that the model takes, by blob, where the transform is a part of it."""

    def embedded(self, net: Net) -> Embedded | None:
        """The part of the model that does it, for the batch of `net`."""
        if self.stored is None:
            return None
        stored = {
            name: type.with_shape(net.batch, *type.sample) for name, type in self.stored.items()
        }
        return Embedded(self.transform, stored, self.mean)

    @property
    def facts(
        self,
    ) -> tuple[dict[str, Any], dict[str, Any] | None, npt.NDArray[np.float32] | None]:
        """What is left to do, what the model does, and the mean image."""
        whole = plain(self.transform.tested)
        if self.stored is None:
            return whole, None, self.mean
        order = {key: whole.pop(key) for key in ("channel_order",) if key in whole}
        return order, whole, self.mean


def preprocessing_of(net: Net, base: Path, *, embedded: bool) -> Preprocessing:
    """That of a deployed net, whose paths begin at `base`.

    A mean file that is not there is a fault (DataError) only if the model is to hold it.
    """
    section = net.data or DataSection(batch_size=1)
    transform = section.transform
    order = channel_order(section, base)
    if order is not None and any(net.inputs[name].channels == 3 for name in net.transformed):
        transform = transform.model_copy(update={"channel_order": order})
    mean = None
    file = base / transform.mean_file
    if transform.mean_file and (embedded or file.exists()):
        mean = mean_image(file)
    stored = _stored(net, section, base, mean) if embedded else None
    return Preprocessing(transform, mean, stored)


def _stored(
    net: Net, section: DataSection, base: Path, mean: npt.NDArray[np.float32] | None
) -> dict[str, TensorType]:
    """The types of the images: the mean's size, else that of what is there, else the crop's."""
    there = sample_types(section, base, split="test") or {}
    shapes = {name: type.shape for name, type in there.items()}
    if mean is not None:
        shapes.update(dict.fromkeys(net.transformed, mean.shape))
    inputs = stored_inputs(net, shapes)
    if mean is not None and MEAN in inputs and inputs[MEAN].shape != mean.shape:
        taken = f"a mean of {size(mean.shape)} for images of {size(inputs[MEAN].shape)}"
        raise DataError(f"{base / section.transform.mean_file}: {taken}")
    return {
        name: TensorType(inputs[name].shape, there[name].dtype if name in there else "uint8")
        for name in net.transformed
    }
