"""Learning-rate policies, and what PyTorch has for them."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any, TypeAlias

RATE, LENGTH = 0.3, 60
Maker: TypeAlias = Callable[[Any, Any], Any]
"""Makes a scheduler, out of `torch.optim.lr_scheduler` and an optimizer."""

POLICIES: dict[str, tuple[dict[str, Any], Maker]] = {
    "fixed": ({}, lambda lr, o: lr.ConstantLR(o, 1.0)),
    "step": ({"gamma": 0.5, "stepsize": 7}, lambda lr, o: lr.StepLR(o, 7, 0.5)),
    "multistep": (
        {"gamma": 0.1, "stepvalue": (9, 20, 44)},
        lambda lr, o: lr.MultiStepLR(o, [9, 20, 44]),
    ),
    "exp": ({"gamma": 0.93}, lambda lr, o: lr.ExponentialLR(o, 0.93)),
    "inv": (
        {"gamma": 0.1, "power": 0.75},
        lambda lr, o: lr.LambdaLR(o, lambda i: (1 + 0.1 * i) ** -0.75),
    ),
    "poly": ({"power": 2}, lambda lr, o: lr.PolynomialLR(o, LENGTH, 2)),
    "sigmoid": (
        {"gamma": -0.2, "stepsize": 25},
        lambda lr, o: lr.LambdaLR(o, lambda i: 1 / (1 + exp(0.2 * i - 5))),
    ),
    "inverse_time": ({"gamma": 0.2}, lambda lr, o: lr.LambdaLR(o, lambda i: 1 / (1 + 0.2 * i))),
    "cosine": (
        {"min_lr": 0.1 * RATE},
        lambda lr, o: lr.CosineAnnealingLR(o, LENGTH, 0.1 * o.param_groups[0]["lr"]),
    ),
    "cosine to 0": ({}, lambda lr, o: lr.CosineAnnealingLR(o, LENGTH)),
}
"""By our word: fields, and a scheduler; LambdaLR where PyTorch has none of the name."""


def rates(torch: Any, make: Maker, steps: int = LENGTH) -> list[float]:
    """The rate at each step of a scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = [float(optimizer.param_groups[0]["lr"])]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found
