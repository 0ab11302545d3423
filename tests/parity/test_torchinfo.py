"""What `check` counts is what torchinfo counts of the same net in PyTorch, to the unit."""

from __future__ import annotations

from collections import Counter

import pytest
from counted import TWINS, count, nets, predicted_rows, rows, summary, total_surplus

pytest.importorskip("torch")
pytest.importorskip("torchinfo")
pytestmark = pytest.mark.parity

AUXILIARY = sum(
    channels * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for channels in (512, 528)
)
"""GoogLeNet's two classifiers of phase TRAIN: torchinfo counts what is built, run or not."""


@pytest.mark.parametrize("name", TWINS)
def test_every_layer(name: str) -> None:
    """Output, parameters and mult-adds, as often as each occurs."""
    assert Counter(predicted_rows(count(name))) == Counter(rows(summary(name)))


@pytest.mark.parametrize("name", TWINS)
def test_totals(name: str) -> None:
    ours, theirs = count(name), summary(name)
    assert theirs.total_params == sum(p.numel for p in nets(name)[1].parameters)
    unused = AUXILIARY if name == "googlenet" else 0
    assert theirs.total_params == ours.parameters + unused
    assert theirs.total_mult_adds == ours.macs + sum(total_surplus(ours).values())
