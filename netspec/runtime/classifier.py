"""A compiled model at work: bytes of an image in, probabilities out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import ValidationError

from netspec.diagnostics import DataError, NetspecError
from netspec.ir.deploy import PROBABILITIES
from netspec.ir.sections import Transform
from netspec.ir.types import Shape, size
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
        self._transform = self._read_transform(metadata[_PREPROCESSING])
        if missing := _missing(self._transform):
            raise DataError(
                f"{origin}: {missing} that is not in the model: compile it with "
                "--embed-preprocessing"
            )
        names: dict[str, str] = json.loads(metadata.get("names", "{}"))
        self.classes = tuple(names[key] for key in sorted(names, key=int))

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

    def probabilities(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The output `prob`, or else the first, for an image of `image_shape`: one per class."""
        if image.shape != self.image_shape:
            raise DataError(
                f"{self._origin}: takes images of {size(self.image_shape)}, not {size(image.shape)}"
            )
        fed = self._prepare(image)[np.newaxis]
        fixed = self._input.shape[0]
        if isinstance(fixed, int):
            fed = np.repeat(fed, fixed, axis=0)
        (made,) = self._session.run([self._output], {self._input.name: fed})
        found = np.asarray(made[0], np.float32).reshape(-1)
        if not np.isclose(found.sum(), 1, atol=1e-3):
            message = f"{self._origin}: its output `{self._output}` does not hold probabilities"
            raise DataError(message)
        return found

    def _prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(padded - mean_value) · scale / std, as the training graph computes it."""
        transform = self._transform
        if transform.channel_order == "BGR" and len(image) == 3:
            image = image[::-1]
        if self._input.type == "tensor(uint8)":
            return image
        pad = 0 if transform.crop_size else transform.pad
        x = np.pad(image.astype(np.float32), ((0, 0), (pad, pad), (pad, pad)))
        mean = np.asarray(transform.mean_value or (0.0,), np.float32).reshape(-1, 1, 1)
        std = np.asarray(transform.std or (1.0,), np.float64).reshape(-1, 1, 1)
        return ((x - mean) * (transform.scale / std).astype(np.float32)).astype(np.float32)


def _missing(transform: Transform) -> str | None:
    """What preparing an image takes beside the transform; None if that is all."""
    if transform.whiten:
        return "images are multiplied by a matrix"
    if transform.mean_file or transform.mean == "IMAGE":
        return "a mean image is subtracted"
    return (
        "the mean of each channel is subtracted"
        if transform.mean or transform.standardize
        else None
    )
