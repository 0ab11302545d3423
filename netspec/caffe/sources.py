"""What Caffe's data layers feed: blobs and their shapes, and where from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field

from netspec.caffe.message import key
from netspec.caffe.parts import CaffeLayer, first, literal, values
from netspec.diagnostics import Diagnostics, NetspecError, Span, SpecError, suggest
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, Message, String
from netspec.grammar.making import NOWHERE
from netspec.ir.layer import Phase
from netspec.ir.types import Shape, size

Probe = Callable[[str], Mapping[str, Shape] | None]
"""The shapes of the first sample at a source, by blob; None if it is not there."""

ASSUMED = (3, 224, 224)
"""What a lenient reading takes an image for whose shape nothing tells."""

BLOCKS = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "HDF5Data": "hdf5_data_param",
    "MemoryData": "memory_data_param",
    "WindowData": "window_data_param",
}
"""The data layers of BVLC's Caffe, and the blocks that hold their fields."""

RUN = frozenset({"Data", "ImageData", "HDF5Data", "MemoryData"})
"""Those whose data a training reads."""

_SECTION = (
    "source",
    "backend",
    "batch_size",
    "rand_skip",
    "root_folder",
    "is_color",
    "new_height",
    "new_width",
)
"""Their fields that a data section has, too."""


@dataclass(frozen=True)
class Feed:
    """A blob that a data layer makes."""

    name: str
    shape: Shape
    """Of a sample."""
    span: Span
    layer: CaffeLayer


@dataclass
class Asked:
    """What the command line says of a file, and how to look at its data."""

    shapes: Mapping[str, Shape]
    lenient: bool
    probe: Probe
    diagnostics: Diagnostics
    used: set[str] = field(default_factory=set)
    """The blobs whose shape was taken from the command line."""

    def shape(self, blob: str) -> Shape | None:
        """The shape given for a blob."""
        if blob in self.shapes:
            self.used.add(blob)
        return self.shapes.get(blob)

    def warn_unused(self, blobs: Collection[str], span: Span) -> None:
        """Tell of shapes that nobody asked for; `blobs` are all that the layers make."""
        for blob in (b for b in self.shapes if b not in self.used):
            if blob in blobs:
                why = "the file tells its shape"
            else:
                why = f"there is no such blob{suggest(blob, blobs)}"
            self.warn(f"--shape {blob}=… is not used: {why}", span)

    def warn(self, message: str, span: Span) -> None:
        self.diagnostics.warn(SpecError(message, span, code="caffe"))


def is_source(layer: CaffeLayer, known: Container[str]) -> bool:
    """Whether a layer brings data in: one of Caffe's, or one not `known` that reads nothing."""
    if layer.word in BLOCKS or layer.word == "Input":
        return True
    return not layer.bottoms and (layer.word == "Python" or layer.word not in known)


def batch_of(layer: CaffeLayer) -> int | None:
    """Samples per iteration, if the layer says."""
    for item in layer.items:
        if isinstance(item, Element) and item.word == "input_param":
            return next((dims[0] for dims in _dims(layer) if dims), None)
        if isinstance(item, Element) and item.word.endswith("_param"):
            found = first(layer.block(item.word), "batch_size")
            if isinstance(found, int) and found > 0:
                return found
    return None


def feeds(layer: CaffeLayer, asked: Asked) -> tuple[Feed, ...]:
    """The blobs of a data layer; SpecError if nothing tells their shape."""
    tops = [f.value for f in layer.fields if f.key == "top" and isinstance(f.value, String)]
    if layer.word == "Input":
        found = _dims(layer)
        dims = found * len(tops) if len(found) == 1 else found
        known = {top.value: shape[1:] for top, shape in zip(tops, dims, strict=False)}
    else:
        known = dict(_known(layer, [t.value for t in tops], asked))
    crop = first(layer.block("transform_param"), "crop_size") if layer.word in RUN else None
    made = []
    for i, top in enumerate(tops):
        shape = asked.shape(top.value)
        if shape is None:
            shape = known.get(top.value)
        if shape is None:
            shape = _guessed(layer, i, top, asked)
        made.append(Feed(top.value, _cut(shape, crop), top.span, layer))
    return tuple(made)


def _cut(shape: Shape, crop: object) -> Shape:
    """What the crop of a layer that is run leaves of the images that the command line tells of."""
    if not isinstance(crop, int) or len(shape) != 3:
        return shape
    return (shape[0], crop, crop) if 0 < crop <= min(shape[1:]) else shape


def _dims(layer: CaffeLayer) -> list[Shape]:
    """The shapes of an Input layer, batch included."""
    shapes = [i for i in layer.block("input_param") if isinstance(i, Element) and i.word == "shape"]
    return [
        tuple(
            n
            for item in (shape.body.items if shape.body else ())
            if isinstance(item, Field) and item.key == "dim"
            for n in _whole(item)
        )
        for shape in shapes
    ]


def _whole(item: Field) -> list[int]:
    return [n for n in values(item) if isinstance(n, int)]


def _known(layer: CaffeLayer, tops: Sequence[str], asked: Asked) -> Mapping[str, Shape]:
    """The shapes that the layer itself or its data tell."""
    block = layer.block(BLOCKS.get(layer.word, ""))
    transform = layer.block("transform_param")
    if layer.word == "HDF5Data":
        return _probed(block, asked)
    crop = first(transform, "crop_size") or first(block, "crop_size")
    image = next((dims[1:] for dims in _dims(layer) if dims), None) or _image(layer, block)
    if image is None:
        image = next(iter(_probed(block, asked).values()), None)
    if image is not None and isinstance(crop, int) and crop > 0:
        image = (image[0], crop, crop)
    found = dict.fromkeys(tops[1:], ())
    return {**found, tops[0]: image} if image is not None and tops else found


def _image(layer: CaffeLayer, block: Sequence[Field | Element]) -> Shape | None:
    """The image that the fields of a layer describe."""
    fields = tuple(block)
    channels: object = 3 if first(fields, "is_color") is not False else 1
    names = ("new_height", "new_width")
    if layer.word == "MemoryData":
        channels, names = first(fields, "channels"), ("height", "width")
    extent = [first(fields, name) for name in names]
    dims = [n for n in (channels, *extent) if isinstance(n, int) and n > 0]
    return tuple(dims) if len(dims) == 3 else None


def _probed(block: Sequence[Field | Element], asked: Asked) -> Mapping[str, Shape]:
    """What the data themselves tell; a warning if they are there and cannot be read."""
    sources = [i for i in block if isinstance(i, Field) and i.key == "source"]
    for item in sources:
        source = literal(item.value)
        try:
            return (asked.probe(source) if isinstance(source, str) else None) or {}
        except NetspecError as error:
            asked.warn(str(error), item.value.span)
    return {}


def _guessed(layer: CaffeLayer, place: int, top: String, asked: Asked) -> Shape:
    """What is taken for a shape that nothing tells, with a warning; else a SpecError."""
    transform = layer.block("transform_param")
    blocks = [i.word for i in layer.items if isinstance(i, Element) and i.word.endswith("_param")]
    crop = next((c for b in blocks if isinstance(c := first(layer.block(b), "crop_size"), int)), 0)
    if place and (asked.lenient or top.value == "label"):
        asked.warn(f"`{top.value}` is taken for one number per sample", top.span)
        return ()
    if place == 0 and (crop or asked.lenient):
        channels = 1 if first(transform, "force_gray") is True else _channels(transform)
        shape = (channels, crop, crop) if crop else ASSUMED
        asked.warn(
            f"`{top.value}` is taken for {size(shape)}, since its data are not here; "
            f"--shape {top.value}=… says it",
            top.span,
        )
        return shape
    what = f"the shape of `{top.value}` is not known: "
    why = f"netspec does not run {layer.word} layers"
    if layer.word in RUN:
        why = f"the data of a {layer.word} layer are not here"
    hint = f"--shape {top.value}=3x224x224 says it"
    if asked.shapes:
        hint += f"; it is given for {', '.join(f'`{blob}`' for blob in asked.shapes)}"
    raise SpecError(what + why, top.span, code="shape", hint=hint)


def _channels(transform: Sequence[Field | Element]) -> int:
    """As many as there are means, or 3."""
    means = [i for i in transform if isinstance(i, Field) and i.key == "mean_value"]
    return len(means) if len(means) > 1 else 3


def section(layer: CaffeLayer, phase: Phase) -> Element | None:
    """`data "train" { … }`: where the samples of a phase come from, or how many make a batch."""
    items = _section_items(layer, phase) if layer.word in RUN else _batch(layer)
    if not items:
        return None
    label = String(phase.value.lower(), layer.span)
    return Element("data", label, Message(tuple(items), NOWHERE), layer.element.span, layer.span)


def _batch(layer: CaffeLayer) -> list[Item]:
    batch = batch_of(layer)
    if batch is None or (layer.word == "Input" and batch == 1):
        return []
    return [making.field("batch_size", making.number(batch, layer.span), layer.span)]


def _section_items(layer: CaffeLayer, phase: Phase) -> list[Item]:
    block = layer.block(BLOCKS[layer.word])
    items: list[Item] = [i for i in block if isinstance(i, Field) and i.key in _SECTION]
    if not any(key(item) == "batch_size" for item in block):
        batch = making.number(batch_of(layer) or 1, layer.span)
        items.append(making.field("batch_size", batch, layer.span))
    shuffled = first(block, "shuffle") is True
    if shuffled != (phase is Phase.TRAIN) and first(block, "source"):
        items.append(making.field("shuffle", making.scalar(shuffled), layer.span))
    names = layer.tops[:2]
    if layer.word != "HDF5Data" and names != ("data", "label")[: len(names)]:
        items.append(making.field("arrays", making.value(names, layer.span), layer.span))
    transform = _transform(layer, first(block, "force_encoded_color") is True)
    if transform:
        items.append(making.message("transform", transform, layer.span))
    return items


_USUAL = {"scale": 1, "mirror": False, "crop_size": 0, "force_color": False, "force_gray": False}


def _transform(layer: CaffeLayer, coloured: bool) -> list[Item]:
    """What stands in `transform { … }`, without what does nothing."""
    kept: list[Item] = [
        item
        for item in layer.block("transform_param")
        if not (isinstance(item, Field) and literal(item.value) == _USUAL.get(item.key))
    ]
    if coloured:
        kept.append(making.field("force_color", making.scalar(True), layer.span))
    return kept


def declared(feed: Feed, only: Phase | None) -> Element:
    """`input "data" { shape: 3x227x227 }`."""
    items: list[Item] = []
    if only is not None:
        items.append(making.only(only))
    items.append(making.field("shape", making.listed(feed.shape, feed.span), feed.span))
    label = String(feed.name, feed.span)
    return Element(
        "input", label, Message(tuple(items), NOWHERE), feed.layer.element.span, feed.span
    )
