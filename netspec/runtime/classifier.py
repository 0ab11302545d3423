"""A compiled model at work: bytes of an image in, probabilities out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import ValidationError

from netspec.diagnostics import DataError, NetspecError
from netspec.ir.deploy import PROBABILITIES
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, size
from netspec.ir.views import Views
from netspec.runtime.device import Device
from netspec.runtime.session import quiet_options, translated_errors

_PREPROCESSING = "dev.netspec.preprocessing"


class Classifier:
    """A model that `compile` or `train` wrote: it knows its preprocessing and its classes."""

    def __init__(self, model: bytes, origin: str, device: Device) -> None:
        """DataError if `model` is not netspec's, of one image input; `origin` names it there."""
        self._origin = origin
        try:
            with translated_errors():
                self._session = ort.InferenceSession(
                    model, quiet_options(), providers=device.providers
                )
        except NetspecError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{origin}: not a model that onnxruntime runs: {reason}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if _PREPROCESSING not in metadata:
            raise DataError(f"{origin}: not a model that netspec wrote: how to feed it is not said")
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise DataError(f"{origin}: predicting from images takes a net with one image input")
        self._input = inputs[0]
        outputs = [output.name for output in self._session.get_outputs()]
        self._output = PROBABILITIES if PROBABILITIES in outputs else outputs[0]
        self._count = prod(self._session.get_outputs()[outputs.index(self._output)].shape[1:])
        self._transform = self._read_transform(metadata[_PREPROCESSING])
        if missing := _missing(self._transform):
            raise DataError(
                f"{origin}: {missing} that is not in the model: compile it with "
                "--embed-preprocessing"
            )
        names: dict[str, str] = json.loads(metadata.get("names", "{}"))
        self.classes = tuple(names[key] for key in sorted(names, key=int))
        self.views = self._transform.seen
        """The views that it says are to be averaged."""

    def _read_transform(self, text: str) -> Transform:
        try:
            return Transform.model_validate(json.loads(text))
        except (ValidationError, ValueError):
            raise DataError(f"{self._origin}: its preprocessing is not understood") from None

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of an image before the transform pads it.

        Where it cuts images, they are taken to be as large as what it leaves.
        """
        channels, height, width = self._input.shape[1:]
        pad = 0 if self._transform.crop_size else 2 * self._transform.pad
        return channels, height - pad, width - pad

    def differs(self, other: Classifier) -> str | None:
        """Why the two cannot be averaged, None if they can."""
        if self.image_shape != other.image_shape:
            return f"they take images of {size(self.image_shape)} and of {size(other.image_shape)}"
        if self._count != other._count:
            return f"they tell {self._count:,} and {other._count:,} classes apart"
        if self.classes and other.classes and self.classes != other.classes:
            return "the names of their classes differ"
        return None

    def probabilities(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The output `prob`, or else the first, for an image of `image_shape`: one per class."""
        if image.shape != self.image_shape:
            raise DataError(
                f"{self._origin}: takes images of {size(self.image_shape)}, not {size(image.shape)}"
            )
        return self._run(self._prepare(image, 0 if self._transform.crop_size else self._pad))

    def of_views(
        self, images: Mapping[int | None, npt.NDArray[np.uint8]], views: Views
    ) -> npt.NDArray[np.float32]:
        """The mean of what `probabilities` are for each view.

        `images` holds the image by the scale of a view: its shorter side is as long, or, for None,
        it is of `image_shape`. UsageError if a view is larger.
        """
        window = tuple(self._input.shape[2:])
        said = []
        for view in views:
            image = self._prepare(images[view.scale], self._pad)
            view.check(image.shape[1:], window)
            top, left = view.corner(image.shape[1:], window)
            seen = image[:, top : top + window[0], left : left + window[1]]
            said.append(self._run(seen[..., ::-1] if view.flip else seen))
        return np.asarray(np.mean(said, axis=0, dtype=np.float64), np.float32)

    def _run(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """What the model gives for one input."""
        fed = np.ascontiguousarray(x)[np.newaxis]
        fixed = self._input.shape[0]
        if isinstance(fixed, int):
            fed = np.repeat(fed, fixed, axis=0)
        (made,) = self._session.run([self._output], {self._input.name: fed})
        found = np.asarray(made[0], np.float32).reshape(-1)
        if not np.isclose(found.sum(), 1, atol=1e-3):
            message = f"{self._origin}: its output `{self._output}` does not hold probabilities"
            raise DataError(message)
        return found

    @property
    def _pad(self) -> int:
        """What is left to pad; a model that takes bytes does it itself."""
        return 0 if self._input.type == "tensor(uint8)" else self._transform.pad

    def _prepare(self, image: npt.NDArray[np.uint8], pad: int) -> npt.NDArray[Any]:
        """(padded - mean_value) · scale / std, as the training graph computes it."""
        transform = self._transform
        if transform.channel_order == "BGR" and len(image) == 3:
            image = image[::-1]
        if self._input.type == "tensor(uint8)":
            return image
        x = _padded(image.astype(np.float32), pad, transform)
        mean = np.asarray(transform.mean_value or (0.0,), np.float32).reshape(-1, 1, 1)
        std = np.asarray(transform.std or (1.0,), np.float64).reshape(-1, 1, 1)
        return ((x - mean) * (transform.scale / std).astype(np.float32)).astype(np.float32)


def _missing(transform: Transform) -> str | None:
    """What preparing an image takes beside the transform; None if that is all."""
    if transform.whiten:
        return "images are multiplied by a matrix"
    if transform.mean_file or transform.mean == "IMAGE":
        return "a mean image is subtracted"
    measured = transform.mean or transform.standardize
    return "the mean of each channel is subtracted" if measured else None


def _padded(x: npt.NDArray[np.float32], pad: int, transform: Transform) -> npt.NDArray[np.float32]:
    """With cells around every channel, as the transform has them."""
    ends = ((pad, pad), (pad, pad))
    if transform.border != "CONSTANT":
        return np.pad(x, ((0, 0), *ends), mode=_BORDERS[transform.border])
    fill = np.broadcast_to(np.asarray(transform.fill or (0.0,), np.float32), len(x))
    return np.stack([np.pad(c, ends, constant_values=v) for c, v in zip(x, fill, strict=True)])


_BORDERS: dict[str, Literal["reflect", "edge"]] = {"REFLECT": "reflect", "EDGE": "edge"}
"""numpy's words."""
