"""A loss that layers write out: one number for the batch, with a share in what is minimised."""

from __future__ import annotations

from typing import Any

from netspec.grammar.printer import to_text
from netspec.ir.deploy import deploy
from netspec.ir.printer import flatten

SPEC = """
input "data" { shape: 8 }
input "wanted" { shape: 4 }
fc "made" { bottom: "data"  num_output: 4 }
eltwise "difference" { bottom: "made"  bottom: "wanted"  coeff: [1, -1] }
reduction "penalty" { bottom: "made"  operation: ASUM  loss_weight: 0.01 }
reduction "error" { bottom: "difference"  operation: SUMSQ  loss_weight: 0.5 }
"""


def test_it_is_a_loss_of_that_weight(nets: Any) -> None:
    net = nets(SPEC).train.net
    weights = {node.name: node.loss_weight for node in net.nodes if node.loss_weight}
    assert weights == {"penalty": 0.01, "error": 0.5}
    assert net.nodes[-1].top_types[0].shape == ()


def test_it_is_not_deployed(nets: Any) -> None:
    net, outputs = deploy(nets(SPEC).test.net)
    assert outputs == ("made", "difference")
    assert "penalty" not in {node.name for node in net.nodes}


def test_what_it_says_is_printed(nets: Any) -> None:
    built = nets(SPEC)
    printed = to_text(flatten(built.test.net, built.train.net))
    assert "loss_weight: 0.01" in printed
    again = nets(printed)
    assert again.train.net == built.train.net
