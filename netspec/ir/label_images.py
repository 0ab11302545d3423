"""Labels that are images, a class for each pixel: they move as the images do."""

from __future__ import annotations

from netspec.ir.labelled import Labelled
from netspec.ir.net import Net


def label_images(net: Net) -> tuple[str, ...]:
    """The inputs of labels that are as high and wide as the images that a transform is for."""
    images = [net.inputs[name].sample for name in net.transformed]
    extents = {sample[1:] for sample in images if len(sample) == 3}
    return tuple(
        name
        for name, type in net.inputs.items()
        if type.dtype == "int64" and len(type.sample) in (2, 3) and type.sample[-2:] in extents
    )


def outer_label(net: Net, name: str) -> int:
    """The label beyond the edge of a label image: `fill_label`, or what its loss ignores, or 0."""
    said = net.data.transform.fill_label if net.data else None
    ignored = (
        node.layer.ignore_label
        for node in net.nodes
        if isinstance(node.layer, Labelled) and name in node.bottoms
    )
    return next((label for label in (said, *ignored) if label is not None), 0)
