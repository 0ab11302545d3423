"""A net at another batch size."""

from __future__ import annotations

from netspec.ir.layer import Role
from netspec.ir.net import Net, Node
from netspec.ir.types import TensorType


def rebatched(net: Net, batch: int) -> Net:
    """The same net for batches of `batch` samples.

    ShapeError if a layer refuses them; `net.hung` must be None, as such a layer would not tell.
    """
    assert net.hung is None, f"`{net.hung.name}` holds the batch size"
    types: dict[str, TensorType] = {}
    label = None
    if net.label is not None:
        label = types["label"] = _at(net.label, batch)
    nodes = []
    for node in net.nodes:
        bottoms = tuple(node.layer.read([types[name] for name in node.bottoms]))
        tops = _tops(node, bottoms, batch)
        types.update(zip(node.tops, tops, strict=True))
        nodes.append(node.model_copy(update={"bottom_types": bottoms, "top_types": tops}))
    return net.model_copy(update={"batch": batch, "nodes": tuple(nodes), "label": label})


def _tops(node: Node, bottoms: tuple[TensorType, ...], batch: int) -> tuple[TensorType, ...]:
    if node.layer.role is Role.INPUT:
        return tuple(_at(type, batch) for type in node.top_types)
    return node.layer.infer(bottoms)


def _at(type: TensorType, batch: int) -> TensorType:
    return TensorType((batch, *type.sample), type.dtype)
