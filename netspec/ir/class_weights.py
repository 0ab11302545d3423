"""Class weights that a data section gives to the losses over its labels."""

from __future__ import annotations

from collections.abc import Mapping

from netspec.diagnostics import DataError
from netspec.ir.labelled import LabelledLoss
from netspec.ir.layer import Phase
from netspec.ir.net import Net, Node


def _over_labels(net: Net) -> list[Node]:
    """The losses over labels of the data."""
    return [
        node
        for node in net.nodes
        if isinstance(node.layer, LabelledLoss) and node.weighed and node.bottoms[1] in net.inputs
    ]


def unweighed(net: Net) -> tuple[Node, ...]:
    """The losses of TRAIN over labels of the data that have no weights of their own."""
    own = {n.name for n in net.nodes if isinstance(n.layer, LabelledLoss) and n.layer.class_weight}
    found = _over_labels(net) if net.phase is Phase.TRAIN else []
    return tuple(node for node in found if node.name not in own)


def classes_of(node: Node) -> int:
    """How many classes a loss tells apart."""
    assert isinstance(node.layer, LabelledLoss)
    return node.bottom_types[0].shape[node.layer.axis]


def with_class_weights(net: Net, weights: Mapping[str, tuple[float, ...]]) -> Net:
    """The net with these weights of the classes, by loss."""
    nodes = (
        node.model_copy(
            update={"layer": node.layer.model_copy(update={"class_weight": weights[node.name]})}
        )
        if node.name in weights
        else node
        for node in net.nodes
    )
    return net.model_copy(update={"nodes": tuple(nodes)}) if weights else net


def with_given_weights(net: Net) -> Net:
    """The net with the numbers of its data section; DataError where they do not fit.

    For BALANCED ones the samples must be counted first: here it is only seen to it that a loss
    takes them.
    """
    if net.phase is not Phase.TRAIN or net.data is None or not net.data.class_weights:
        return net
    losses = unweighed(net)
    if not _over_labels(net):
        raise DataError("class_weights: there is no loss over labels of the data to take them")
    given = tuple(w for w in net.data.class_weights if not isinstance(w, str))
    for node in losses if given else ():
        if len(given) != classes_of(node):
            raise DataError(
                f"class_weights: {len(given)} values, and `{node.name}` tells "
                f"{classes_of(node)} classes apart"
            )
    return with_class_weights(net, {node.name: given for node in losses if given})
