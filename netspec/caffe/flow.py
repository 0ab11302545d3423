"""Whether every blob of a filtered net is made once, before it is read: `check_flow(net)`.

These are the checks of AppendTop and AppendBottom in Caffe's net.cpp, on the net as its author
wrote it. In place means `top[i]` = `bottom[i]`, of a blob that nothing else reads: what two read
goes through a Split, and the one that writes in place then reads another blob than it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from netspec.caffe.wiring import Bottom, Layer, Top, Wiring, split_name, wire
from netspec.diagnostics import Diagnostics, Span, SpecError
from netspec.grammar.ast import Message

_SHOWN: Final = 6
"""Readers of a blob that a fault names."""


def check_flow(net: Message, *, diagnostics: Diagnostics, whole: Message | None = None) -> Wiring:
    """Report bottoms that come from nowhere and blobs that are made twice.

    `net` is in current form and filtered; `whole` is the one before it was filtered.
    """
    wiring = wire(net, diagnostics=diagnostics, whole=whole)
    makers: dict[str, Span] = {}
    for at, layer in enumerate(wiring.layers):
        if diagnostics.full:
            break
        for index, (name, span) in enumerate(layer.tops):
            if name in makers and not _in_place(layer, index, wiring):
                diagnostics.error(_twice(layer, index, wiring, makers[name]))
            makers.setdefault(name, span)
        for split, span in _split_tops(at, layer, wiring):
            if split in makers:
                diagnostics.error(_made_twice(split, span, makers[split]))
            makers.setdefault(split, span)
    return wiring


def _in_place(layer: Layer, index: int, wiring: Wiring) -> bool:
    """Whether a top is the bottom of the same index, and no Split stands between."""
    if index >= len(layer.bottoms):
        return False
    bottom = layer.bottoms[index]
    alone = bottom.source is not None and wiring.uses(bottom.source) == 1
    return alone and bottom.name == layer.tops[index][0]


def _split_tops(at: int, layer: Layer, wiring: Wiring) -> Iterator[tuple[str, Span]]:
    """The blobs that Caffe makes of a layer's tops, and where those stand."""
    for index, (name, span) in enumerate(layer.tops):
        uses = wiring.uses(Top(at, index))
        for use in range(uses if uses > 1 else 0):
            yield f"{split_name(name, layer.name, index)}_{use}", span


def _twice(layer: Layer, index: int, wiring: Wiring, first: Span) -> SpecError:
    """Why a top is not in place."""
    name, span = layer.tops[index]
    same = [at for at, bottom in enumerate(layer.bottoms) if bottom.name == name]
    if not same:
        return _made_twice(name, span, first)
    if index not in same:
        message = f"top {index} is bottom {same[0]}: in place, both have the same index"
        return SpecError(message, span, code="flow")
    return SpecError(
        f"`{name}` is written in place, but this layer is not alone to read it",
        span,
        code="flow",
        hint="give its top a name of its own",
        trail=_others(layer.bottoms[index], wiring),
    )


def _others(bottom: Bottom, wiring: Wiring) -> list[tuple[str, Span]]:
    """Where else a blob is read."""
    source = bottom.source
    if source is None:
        return []
    readers = (wiring.layers[at] for at in dict.fromkeys(wiring.readers[source]))
    others = (
        ("it is read here, too", other.span)
        for reader in readers
        for other in reader.bottoms
        if other.source == source and other is not bottom
    )
    loss = wiring.losses.get(source)
    return [*islice(others, _SHOWN), *([("it is a loss, too", loss.span)] if loss else [])]


def _made_twice(name: str, span: Span, first: Span) -> SpecError:
    trail = [("the first one is here", first)]
    return SpecError(f"blob `{name}` is made twice", span, code="name", trail=trail)
