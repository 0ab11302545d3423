"""What a data set holds for the inputs of a net, before the transform of its section."""

from __future__ import annotations

from collections.abc import Mapping

from netspec.diagnostics import DataError
from netspec.ir.label_images import label_images
from netspec.ir.measured import beside
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, TensorType, size


def stored_inputs(net: Net, found: Mapping[str, Shape] | None = None) -> dict[str, TensorType]:
    """What a data set holds for each input: images as they are before the transform.

    What its transform reads beside them is there, too, such as a mean image, as `MEAN`. `found` are
    the shapes of a data set's samples, by array: images may have any size that leaves room for the
    crop; without them they have its size, and are of bytes if their colours are changed, which is
    for no others. DataError if no image can give an input.
    """
    transform = net.data.transform if net.data else Transform()
    pad, crop = transform.pad, transform.crop_size
    inputs, labels = dict(net.inputs), label_images(net)
    for name in (*net.transformed, *labels) if pad or crop else ():
        sample = inputs[name].sample or (1,)
        axes = len(sample) - 2 if name in labels else 1
        channels, extent = sample[:axes], list(sample[axes:])
        if crop and extent != [crop, crop]:
            taken = size(inputs[name].sample)
            raise DataError(f"transform: crop_size {crop} does not give the {taken} of `{name}`")
        if crop:
            extent = _uncropped(name, (found or {}).get(name), channels, transform)
        elif not extent or min(extent) <= 2 * pad:
            raise DataError(f"transform: pad {pad} leaves nothing of the input `{name}`")
        else:
            extent = [n - 2 * pad for n in extent]
        inputs[name] = inputs[name].with_shape(inputs[name].batch, *channels, *extent)
    if found is None and transform.coloured:
        inputs |= {name: inputs[name].with_dtype("uint8") for name in net.transformed}
    _check_labels(labels, net.transformed, inputs)
    inputs.update(beside(net, inputs))
    return inputs


def _check_labels(
    labels: tuple[str, ...], images: tuple[str, ...], inputs: Mapping[str, TensorType]
) -> None:
    """Refuse label images of another size than the images that they are moved with."""
    for name in labels:
        extent, image = inputs[name].sample[-2:], inputs[images[0]].sample[-2:]
        if extent != image:
            raise DataError(
                f"transform: labels `{name}` of {size(extent)} for images of {size(image)}: they "
                "are cut alike"
            )


def _uncropped(name: str, found: Shape | None, channels: Shape, transform: Transform) -> list[int]:
    """Height and width of the images that are cut, as far as they are known."""
    crop, axes = transform.crop_size, len(channels)
    if found is None or len(found) != axes + 2 or found[:axes] != channels:
        return [crop, crop]
    if not transform.resize and min(found[axes:]) + 2 * transform.pad < crop:
        padded = f" padded by {transform.pad}" if transform.pad else ""
        raise DataError(
            f"transform: crop_size {crop} is more than the images of `{name}` have, "
            f"{size(found)}{padded}"
        )
    return list(found[axes:])
