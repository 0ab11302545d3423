"""Whether samples of a batch are mixed in training, and whether the net can take it."""

from __future__ import annotations

from netspec.diagnostics import DataError
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.transform import Transform

MIXES = ("mixup", "cutmix")
"""The fields of a transform that mix samples."""


def mixes(net: Net) -> bool:
    """Whether its transform mixes the samples of a batch: in phase TRAIN alone."""
    return net.phase is Phase.TRAIN and bool(_asked(net))


def targets(net: Net) -> frozenset[str]:
    """The inputs that are not mixed: of these a mixed sample has two."""
    return frozenset(net.inputs) - frozenset(net.transformed)


def check_mixed(net: Net) -> None:
    """Raise DataError if a net in phase TRAIN cannot train on mixed samples.

    All that is computed from a target is computed for both; a layer that learns cannot be.
    """
    if not mixes(net):
        return
    said = _asked(net)
    if not net.transformed:
        raise DataError(f"transform: {said} finds no input to mix")
    assert net.data is not None
    for name in net.transformed:
        if net.data.transform.cutmix and len(net.inputs[name].shape) != 4:
            raise DataError(f"transform: cutmix is for images, and `{name}` is not")
    twice = set(targets(net))
    lost = False
    for node in net.nodes:
        if node.layer.role is Role.INPUT:
            continue
        read = [blob for blob in node.bottoms if blob in twice]
        if read:
            _check_learns_nothing(node, read[0], said)
            lost = lost or bool(node.weighed)
        twice = twice | {*node.tops} if read else twice - {*node.tops}
    if not lost:
        raise DataError(f"transform: {said} needs a loss that reads a label of the data")


def _asked(net: Net) -> str:
    """The fields that ask for it, as a message names them."""
    transform = net.data.transform if net.data else Transform()
    return " and ".join(field for field in MIXES if getattr(transform, field))


def _check_learns_nothing(node: Node, read: str, said: str) -> None:
    if node.parameters or node.statistics:
        raise DataError(
            f"transform: {said} gives a sample two `{read}`, and layer `{node.name}`, which "
            "learns, takes one"
        )
