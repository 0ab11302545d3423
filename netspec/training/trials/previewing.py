"""Samples beside what training makes of them, for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.emit import emit
from netspec.codegen.feed import feed_graph
from netspec.compiler import Spec, elaborate
from netspec.data import Dataset, channel_order
from netspec.diagnostics import UsageError
from netspec.ir.measured import CHANNEL_MEAN, CHANNEL_STD
from netspec.ir.net import Net
from netspec.ir.transform import MEAN, ColourOrder
from netspec.ir.types import size
from netspec.report.raster import Reach, reach, to_bytes
from netspec.runtime.device import choose_device
from netspec.runtime.session import make_session
from netspec.training.execution.bound import array_types
from netspec.training.execution.randoms import uniform
from netspec.training.setup.opening import first_batch, open_training

Images = NDArray[np.uint8]
"""H x W grey, or H x W x 3 RGB."""


@dataclass(frozen=True)
class Row:
    """A sample's image as it is stored, and as training sees it in several iterations."""

    name: str
    """Of its class, as far as the data know it; else its label."""
    stored: Images
    drawn: Sequence[Images]


def preview(
    spec: Spec, *, samples: int, draws: int, seed: int | None = None, data: Path | None = None
) -> list[Row]:
    """The first samples of a training, each as the first iterations would see it.

    None is held out, and what a lot skips is skipped. The images go through the very graph of the
    training step; then the mean and the scale are taken back. Lots are those of a training with
    `seed`, the solver's unless given. UsageError or DataError if there are no images.
    """
    net = elaborate(spec, batch=samples).train.net
    seed = net.seed if seed is None else seed
    dataset, source = open_training(spec, net, data=data, seed=seed)
    assert net.data is not None
    order = channel_order(net.data.model_copy(update={"source": source}), Path())
    _check(net)
    arrays = first_batch(dataset, net, seed)
    made = _fed(net, arrays, draws, seed)
    eyes = {name: _Eye.for_images(arrays[name], order) for name in net.transformed}
    return [
        Row(
            _named(dataset, arrays, i),
            eye.sees(arrays[blob][i]),
            [eye.sees(images[i]) for images in made[blob]],
        )
        for i in range(min(samples, len(dataset)))
        for blob, eye in eyes.items()
    ]


def _check(net: Net) -> None:
    """Refuse what cannot be shown."""
    assert net.data is not None
    for name in net.transformed:
        sample = net.inputs[name].sample
        if len(sample) != 3:
            raise UsageError(
                f"a preview is of images, and `{name}` is {size(sample) or 'a number'}"
            )
    if net.data.transform.scale == 0:
        raise UsageError("transform: a scale of 0 leaves nothing to be shown")


def _fed(
    net: Net, arrays: Mapping[str, NDArray[Any]], draws: int, seed: int
) -> dict[str, list[NDArray[np.float32]]]:
    """What the net is fed for its batch in each iteration, mean and scale taken back."""
    graph = feed_graph(net, array_types(arrays))
    device = choose_device("cpu")
    session = make_session(emit(graph.graph, names=graph.names), device)
    wanted = {port.name for port in session.get_inputs()}
    fed = {name: array for name, array in arrays.items() if name in wanted}
    fed["indices"] = np.arange(net.batch, dtype=np.int64)
    made: dict[str, list[NDArray[np.float32]]] = {name: [] for name in net.transformed}
    outputs = [f"fed:{name}" for name in made]
    for iteration in range(draws):
        lots = {
            f"random:{name}": uniform(seed, iteration, name, value.type.shape)
            for name, value in graph.randoms.items()
        }
        for name, images in zip(made, session.run(outputs, fed | lots), strict=True):
            made[name].append(_unscaled(net, images, arrays))
    return made


def _unscaled(
    net: Net, images: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """Images in the units of the source; a mean image counts as its channels' averages."""
    assert net.data is not None
    transform = net.data.transform
    std = np.asarray(transform.std or (1.0,)).reshape(-1, 1, 1)
    mean = np.asarray(transform.mean_value or (0.0,)).reshape(-1, 1, 1)
    if transform.whiten:
        return images * np.float32(42.5) + np.float32(127.5)  # three deviations are all of it
    if CHANNEL_MEAN in arrays:
        mean = arrays[CHANNEL_MEAN].reshape(-1, 1, 1)
    if CHANNEL_STD in arrays:
        std = transform.scale * arrays[CHANNEL_STD].reshape(-1, 1, 1)
    if MEAN in arrays:
        mean = arrays[MEAN].mean((1, 2), keepdims=True)
    unscaled: NDArray[np.float32] = (images * (std / transform.scale) + mean).astype(np.float32)
    return unscaled


@dataclass(frozen=True)
class _Eye:
    """How values become grey or colours."""

    blue_first: bool
    reach: Reach
    """Of all images as they are stored: what is made of them is shown in the same shades."""

    @classmethod
    def for_images(cls, images: NDArray[Any], order: ColourOrder | None) -> _Eye:
        return cls(order == "BGR", reach(images))

    def sees(self, image: NDArray[Any]) -> Images:
        """C x H x W as an image; of other channels than 1 or 3 the first is shown."""
        pixels = to_bytes(image, self.reach)
        if len(pixels) != 3:
            grey: Images = pixels[0]
            return grey
        return np.ascontiguousarray(
            (pixels[::-1] if self.blue_first else pixels).transpose(1, 2, 0)
        )


def _named(dataset: Dataset, arrays: Mapping[str, NDArray[Any]], row: int) -> str:
    """A sample's class, if it has one."""
    labels = arrays.get("label")
    if labels is None or labels[row].size != 1:
        return ""
    label = labels[row].item()
    known = isinstance(label, int) and 0 <= label < len(dataset.classes)
    return dataset.classes[label] if known else str(label)
