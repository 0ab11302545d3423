"""The corpus of real Caffe files, where it lies beside the checkout."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from netspec.caffe.schema import layer_types
from netspec.caffe.upgrade import Wishes
from netspec.ir.types import Shape

ROOT = Path(__file__).parents[3] / "shared/corpus"

needs_corpus = pytest.mark.skipif(not ROOT.is_dir(), reason="the corpus is not here")

_SHAPES: dict[str, dict[str, Shape]] = {
    "BVLC__caffe/examples/cifar10/": {"data": (3, 32, 32)},
    "BVLC__caffe/examples/mnist/": {"data": (1, 28, 28)},
    "BVLC__caffe/examples/siamese/": {"pair_data": (2, 28, 28)},
    "BVLC__caffe/examples/hdf5_classification/": {"data": (4,)},
    "LisaAnne__lisa-caffe-public/examples/hdf5_classification/": {"data": (4,)},
    "yihui-he__resnet-cifar10-caffe/": {"data": (3, 32, 32)},
    "lukeyeager__DIGITS/digits/standard-networks/lenet": {"data": (1, 28, 28)},
    "intel__caffe/models/intel_optimized_models/dcgan/": {"data": (3, 64, 64)},
    "s9xie__hed/": {"data": (3, 400, 400), "label": (1, 400, 400)},
    "shelhamer__fcn.berkeleyvision.org/nyud-fcn32s-color-d/": {
        "color": (3, 425, 560), "depth": (1, 425, 560), "label": (1, 425, 560),
    },
    "shelhamer__fcn.berkeleyvision.org/siftflow": {
        "data": (3, 256, 256), "sem": (1, 256, 256), "geo": (1, 256, 256),
    },
    "shelhamer__fcn.berkeleyvision.org/": {"data": (3, 500, 500), "label": (1, 500, 500)},
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/": {
        "data": (3, 227, 227), "clip_markers": (),
    },
    "dgschwend__netscope/presets/fasterRCNN": {
        "rpn_proposals": (300, 5), "roi_proposals": (300, 5),
    },
    "NVIDIA__caffe/classification/": {"scaled": (1, 28, 28)},
}  # fmt: skip
"""What the data of files are, by the beginning of their path: their databases are not there."""


@dataclass(frozen=True)
class Entry:
    """A file of the corpus."""

    file: str
    kind: str
    """net or solver."""
    accepted: str
    """What protobuf says with BVLC's schema: `ok`, `ok-if-unknown…` or `fails…`."""
    types: frozenset[str]

    @property
    def path(self) -> Path:
        return ROOT / "nets" / self.file

    @property
    def bvlc(self) -> bool:
        """Whether BVLC's schema accepts it, and it has no layer but BVLC's."""
        known = {name for name, type in layer_types().items() if type.fork is None}
        words = {type.v1 for type in layer_types().values() if type.fork is None}
        return self.accepted == "ok" and self.types <= known | words

    @property
    def wishes(self) -> Wishes:
        shapes = next((s for begin, s in _SHAPES.items() if self.file.startswith(begin)), {})
        return Wishes(shapes=shapes)


def entries() -> list[Entry]:
    """Every file of the corpus; none where it is not there."""
    if not ROOT.is_dir():
        return []
    with (ROOT / "INDEX.tsv").open(encoding="utf-8") as file:
        return [
            Entry(
                row["file_under_corpus"],
                row["kind"],
                row["parse_with_BVLC_proto"],
                frozenset(filter(None, row["layer_types"].split(","))),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]
