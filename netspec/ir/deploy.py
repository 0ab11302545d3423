"""The deployed form of a net: what prediction needs, and nothing that only targets feed."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.diagnostics import NetspecError, suggest
from netspec.ir.layer import Layer, Role
from netspec.ir.net import Net, Node

PROBABILITIES = "prob"
"""What the prediction of a loss is called, as in Caffe's deploy files."""


def deploy(net: Net, outputs: Sequence[str] = ()) -> tuple[Net, tuple[str, ...]]:
    """The net without losses and metrics, and the names of its outputs.

    fc ip2, softmax_loss, accuracy          →   fc ip2, softmax prob
    input box, fc fc_box, euclidean_loss    →   fc fc_box

    The outputs are the predictions of its losses, or the blobs that nothing reads where it has no
    loss; `outputs` picks others. Inputs that lead to no output are gone. NetspecError if an output
    is not a blob made from the data.
    """
    nodes, losses = _without_label(net)
    made = {top for node in nodes if node.layer.role is not Role.INPUT for top in node.tops}
    for name in outputs:
        if name not in made:
            if name in net.inputs:
                raise NetspecError(f"`{name}` goes into the net, and cannot be put out as it is")
            known = suggest(name, sorted(made))
            raise NetspecError(f"there is no blob `{name}` to put out{known}")
    wanted = tuple(dict.fromkeys(outputs or losses)) or _unread(nodes)
    if not wanted:
        raise NetspecError("the net puts nothing out: every blob hangs on the label")
    kept = _leading_to(nodes, wanted)
    return net.model_copy(update={"nodes": kept, "label": None}), wanted


def predictions(net: Net) -> dict[str, Node]:
    """The blobs that stand for losses in the deployed form, each with its loss."""
    return _without_label(net)[1]


def _without_label(net: Net) -> tuple[list[Node], dict[str, Node]]:
    """The nodes in their deployed form, and the blobs that stand for losses, with these.

    A loss that has no deployed form compares what is learned with a target: what it reads first of
    the learned is its prediction.
    """
    fed = {"label"}
    learned: set[str] = set()
    read = {bottom for node in net.nodes for bottom in node.bottoms}
    taken = {top for node in net.nodes for top in node.tops}
    nodes: list[Node] = []
    predictions: dict[str, Node] = {}
    for node in net.nodes:
        ends = bool(node.weighed) and not read.intersection(node.tops)
        layer = None if ends and node.layer.role is Role.HIDDEN else node.layer.deploy()
        if layer is None or node.tops == ("label",):
            if ends or node.layer.role is Role.LOSS:
                for blob in [b for b in node.bottoms if b in learned][:1]:
                    predictions.setdefault(blob, node)
            continue
        if node.layer.role is Role.LOSS:
            # A loss may have put its prediction out itself, for layers behind it to read.
            name = node.tops[1] if len(node.tops) > 1 else _free(PROBABILITIES, taken)
            taken.add(name)
            predictions.setdefault(name, node)
            node = _prediction(node, layer, name)
        elif node.layer.role is not Role.SINK and fed.intersection(node.bottoms):
            fed.update(node.tops)
            continue
        if node.parameters or learned.intersection(node.bottoms):
            learned.update(node.tops)
        nodes.append(node)
    return nodes, predictions


def _prediction(node: Node, layer: Layer, name: str) -> Node:
    """`layer` on the scores of a loss."""
    types = node.bottom_types[:1]
    update: dict[str, object] = {
        "name": name,
        "layer": layer,
        "bottoms": node.bottoms[:1],
        "tops": (name,),
        "bottom_types": types,
        "top_types": layer.infer(types),
        "parameters": (),
        "statistics": (),
        "loss_weight": 0.0,
        "further_loss_weights": (),
    }
    return node.model_copy(update=update)


def _free(name: str, taken: set[str]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}{count}"
    return free


def _unread(nodes: Sequence[Node]) -> tuple[str, ...]:
    pending: dict[str, None] = {}
    for node in nodes:
        for bottom in node.bottoms:
            pending.pop(bottom, None)
        if node.layer.role is not Role.INPUT:
            pending.update(dict.fromkeys(node.tops))
    return tuple(pending)


def _leading_to(nodes: Sequence[Node], wanted: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that an output needs, in their order."""
    needed = set(wanted)
    kept: list[Node] = []
    for node in reversed(nodes):
        if needed.intersection(node.tops):
            kept.append(node)
            needed.update(node.bottoms)
    return tuple(reversed(kept))
