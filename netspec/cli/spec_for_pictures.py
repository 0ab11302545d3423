"""A first spec for a folder of pictures: its classes, a size, augmentation, a small ResNet."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from netspec.data import open_dataset, validates
from netspec.data.reading import Reading
from netspec.diagnostics import Source, UsageError, printable
from netspec.grammar.parser import parse
from netspec.grammar.phrase import string
from netspec.grammar.printer import to_text
from netspec.ir.types import size

LARGEST = 64
"""Height and width above which pictures are made smaller: a start that a CPU is up to."""

_LOOKED_AT = 100
"""Pictures whose sizes decide, spread over the data."""

_TEXT = """\
# {count:,} pictures in {classes} classes, most often of {found}.
name: "{name}"
include "netspec:blocks/resnet_cifar.net"

data "train" {{
  source: {source}  batch_size: {batch}{sized}{held}
  transform {{
    standardize: true  pad: {pad}  crop_size: {side}  mirror: true
    rotation: 10  zoom: 1.1  brightness: 0.1
  }}
}}
{test}input "data" {{ shape: {shape} }}

conv_bn(16) "conv1"
relu
stage(1, 16, stride: 1)
stage(1, 32, stride: 2)
stage(1, 64, stride: 2)
pool {{ pool: AVE  global_pooling: true }}
fc "scores" {{ num_output: {classes} }}
softmax_loss
accuracy

solver {{
  type: SGD  base_lr: 0.1  momentum: 0.9  weight_decay: 0.0005  decay_norm_and_bias: false
  lr_policy: cosine  lr_unit: EPOCH  warmup: 1
  max_epoch: 30
}}
"""

_TEST = """
data "test" {{ source: {source}  batch_size: 100{sized}  transform {{ standardize: true }} }}
"""


def spec_for_pictures(name: str, data: Path, folder: Path) -> str:
    """The text of a spec called `name`, to lie in `folder`, for the pictures of a path.

    DataError if they cannot be read, UsageError if they are no pictures in classes.
    """
    train, test = (
        open_dataset(str(data), split=split, base=Path(), reading=Reading(room=0))
        for split in ("train", "test")
    )
    if "data" not in train.streamed or len(train.classes) < 2:
        raise UsageError(
            printable(f"{data}: is no folder or zip of pictures, a folder for each of two classes")
        )
    images = train.streamed["data"]
    shapes = [images.natural(row).shape for row in _some(len(train))]
    (height, width), _ = Counter(shape[1:] for shape in shapes).most_common(1)[0]
    channels, side = max(shape[0] for shape in shapes), min(LARGEST, height, width)
    sized = (
        "" if {*shapes} == {(channels, side, side)} else f"  new_height: {side}  new_width: {side}"
    )
    source = string(str(data) if data.is_absolute() else os.path.relpath(data, folder))
    tested = images.name(0) != test.streamed["data"].name(0)
    text = _TEXT.format(
        count=len(train),
        classes=len(train.classes),
        found=size((height, width)),
        name=name,
        source=source,
        batch=min(32, max(2, len(train) // 8)),
        sized=sized,
        held="" if validates(str(data), Path()) else "  val: 0.2",
        pad=max(1, side // 8),
        side=side,
        test=_TEST.format(source=source, sized=sized) if tested else "",
        shape=size((channels, side, side)),
    )
    return to_text(parse(Source(f"{name}.net", text)))


def _some(count: int) -> range:
    return range(0, count, max(1, count // _LOOKED_AT))
