"""The heads of a net: which blob of its deployed form answers to which target of the data."""

from __future__ import annotations

from dataclasses import dataclass

from netspec.ir.deploy import predictions
from netspec.ir.labelled import Labelled
from netspec.ir.layer import Role, axis_of
from netspec.ir.net import Net, Node


@dataclass(frozen=True)
class ClassHead:
    """Scores of classes, and the labels that they are compared with."""

    output: str
    """The blob of probabilities or scores."""
    label: str
    """The array of the labels."""
    axis: int
    """The axis of the classes, counted from the batch."""
    ignore_label: int | None


@dataclass(frozen=True)
class TargetHead:
    """Numbers, and the targets of the same shape that they are compared with."""

    output: str
    target: str


def class_head(net: Net) -> ClassHead | None:
    """The head whose scores the last accuracy counts, else of the loss over classes that weighs
    most, the last of equal ones.

    fc ip2, softmax_loss, accuracy   →   ClassHead("prob", "label", axis=1)

    None without one, or where its labels do not come from the data as they are.
    """
    found = [
        node
        for node in net.nodes
        if isinstance(node.layer, Labelled) and node.bottoms[1] in net.inputs
    ]
    return _of(net, max(reversed(found), key=_weight)) if found else None


def _weight(node: Node) -> float:
    """Metrics before losses, and these by what they count in the sum."""
    metric = node.layer.role is Role.METRIC
    return float("inf") if metric else abs(sum(weight for _, weight in node.weighed))


def _of(net: Net, node: Node) -> ClassHead:
    """The head of a loss or metric: the prediction of a loss on the same scores, else these."""
    assert isinstance(node.layer, Labelled)
    outputs = [
        blob for blob, loss in predictions(net).items() if loss.bottoms[:1] == node.bottoms[:1]
    ]
    axis = axis_of(node.layer.axis, node.bottom_types[0])
    output = outputs[0] if outputs else node.bottoms[0]
    return ClassHead(output, node.bottoms[1], axis, node.layer.ignore_label)


def target_heads(net: Net) -> tuple[TargetHead, ...]:
    """The heads of losses that compare a blob with a target of its shape, which the data give.

    input box, fc fc_box, euclidean_loss   →   TargetHead("fc_box", "box")

    An image that the transform changes is no target in units of the data.
    """
    given = net.inputs.keys() - set(net.transformed)
    heads = []
    for output, node in predictions(net).items():
        others = [blob for blob in node.bottoms if blob != output]
        types = {type.sample for type in node.bottom_types}
        alike = len(node.bottoms) == 2 and len(types) == 1 and node.layer.deploy() is None
        if alike and others and others[0] in given and not isinstance(node.layer, Labelled):
            heads.append(TargetHead(output, others[0]))
    return tuple(heads)
