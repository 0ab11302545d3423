"""Labels that are images as phase TEST sees them: of the part that the net is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.ir.label_images import label_images, outer_label
from netspec.ir.net import Net


def tested_labels(net: Net, name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """The labels `name` of all samples, padded, resized and cut to the middle as their images are.

    Labels that are no images are given back as they are.
    """
    if name not in label_images(net) or net.data is None:
        return labels
    transform = net.data.transform
    if transform.pad:
        ends = [(0, 0)] * (labels.ndim - 2) + [(transform.pad, transform.pad)] * 2
        labels = np.pad(labels, ends, constant_values=outer_label(net, name))
    if transform.resize:
        extent = labels.shape[-2:]
        made = [n * transform.shorter // min(extent) for n in extent]
        rows, columns = (
            np.floor((np.arange(m) + 0.5) * n / m).astype(np.int64)
            for n, m in zip(extent, made, strict=True)
        )
        labels = labels[..., rows[:, np.newaxis], columns]
    crop = transform.crop_size
    if crop:
        top, left = ((n - crop) // 2 for n in labels.shape[-2:])
        labels = labels[..., top : top + crop, left : left + crop]
    return labels
