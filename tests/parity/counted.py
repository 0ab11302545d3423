"""Both sides of a count: a bundled spec by `check`, and its twin in PyTorch by torchinfo.

torchinfo's "mult-adds" are every learned value of a module times the positions of its output. It
so counts a bias as a multiplication at each position, batch normalisation at a single one, and a
deconvolution at the positions that it writes instead of those that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import prod
from typing import Any

from netspec.compiler import elaborate, read
from netspec.ir.analysis import Cost, LayerCost, cost
from netspec.ir.net import Net

TWINS = {
    "lenet": ("twins", "LeNet"),
    "resnet20": ("twins", "ResNet20"),
    "alexnet": ("twins_zoo", "AlexNet"),
    "resnet18": ("twins_zoo", "ResNet18"),
    "resnet50": ("twins_zoo", "ResNet50"),
    "resnet152": ("twins_zoo", "ResNet152"),
    "squeezenet1_1": ("twins_zoo", "SqueezeNet"),
    "googlenet": ("twins_zoo", "GoogLeNet"),
    "densenet121": ("twins_zoo", "DenseNet121"),
    "densenet201": ("twins_zoo", "DenseNet201"),
    "vgg11": ("twins_imagenet", "VGG11"),
    "vgg16": ("twins_imagenet", "VGG16"),
    "nin": ("twins_imagenet", "NIN"),
    "mobilenet_v1": ("twins_imagenet", "MobileNet"),
    "mobilenet_v2": ("twins_imagenet", "MobileNetV2"),
    "resnext50_32x4d": ("twins_imagenet", "ResNeXt50"),
    "se_resnet50": ("twins_imagenet", "SEResNet50"),
    "fcn8s": ("twins_beyond", "FCN8s"),
    "unet": ("twins_beyond", "UNet"),
    "speech1d": ("twins_beyond", "Speech"),
}
"""The module and the class of each spec's twin."""


@dataclass(frozen=True)
class Row:
    """A layer that has learned values, as torchinfo shows it."""

    output: tuple[int, ...]
    """Without the batch axis."""
    parameters: int
    mult_adds: int


@cache
def nets(name: str) -> tuple[Net, Net]:
    """The spec in phases TEST and TRAIN."""
    both = elaborate(read(name))
    return both.test.net, both.train.net


def count(name: str) -> Cost:
    """What `check` counts, phase TEST."""
    return cost(nets(name)[0])


@cache
def summary(name: str) -> Any:
    """torchinfo's statistics of the twin; on meta tensors, so nothing is computed."""
    import torch
    import torchinfo

    module, called = TWINS[name]
    with torch.device("meta"):
        twin = getattr(import_module(module), called)().eval()
    shape = nets(name)[0].inputs["data"].sample
    return torchinfo.summary(twin, input_size=(1, *shape), device="meta", verbose=0)


def rows(statistics: Any) -> Iterator[Row]:
    """torchinfo's rows of the layers with learned values."""
    for info in statistics.summary_list:
        if info.is_leaf_layer and info.num_params:
            yield Row(tuple(info.output_size[1:]), info.num_params, info.macs)


def predicted_rows(counted: Cost) -> Iterator[Row]:
    """The same from our counts, by torchinfo's rule."""
    for layer in counted.layers:
        if layer.parameters:
            ((_, output),) = layer.tops
            surplus = sum(surpluses(layer).values())
            yield Row(output, layer.parameters, layer.macs + surplus)


def surpluses(layer: LayerCost) -> dict[str, int]:
    """What torchinfo's rule counts of a layer beyond its multiply-accumulates."""
    ((_, output),) = layer.tops
    positions = prod(output[1:])
    if not layer.macs:
        return {"batch norm": layer.parameters}
    surplus = {"biases": layer.biases * positions}
    if layer.type == "deconv":
        surplus["deconvolution"] = layer.weights * positions - layer.macs
    return surplus


def total_surplus(counted: Cost) -> dict[str, int]:
    """`surpluses` of a whole net, without those that are 0."""
    total: dict[str, int] = {}
    for layer in counted.layers:
        for what, n in surpluses(layer).items() if layer.parameters else ():
            total[what] = total.get(what, 0) + n
    return {what: n for what, n in total.items() if n}
