"""What was measured on the training data at work on a batch: standardising, whitening, jitter."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi

from netspec.codegen.builder import Builder
from netspec.ir.graph import Value
from netspec.ir.measured import CHANNEL_MEAN, CHANNEL_STD, COLOUR, WHITENING
from netspec.ir.phrases import reshape, reshape_samples
from netspec.ir.transform import MEAN

Measured = Mapping[str, Value]
"""What was measured, by the names of `ir.measured`."""


def whitened(op: Builder, x: Value, measured: Measured) -> Value:
    """(x - mean)·W, each sample a row."""
    matrix = measured[WHITENING]
    rows = reshape_samples(op, op.Sub(x, measured[MEAN]), matrix.type.shape[0])
    return reshape_samples(op, op.MatMul(rows, matrix), *x.type.sample)


def standardised(op: Builder, x: Value, measured: Measured) -> Value:
    """x less the mean of its channel, and over the deviation if that was measured."""
    behind = [1] * len(x.type.spatial)
    y: Value = op.Sub(x, reshape(op, measured[CHANNEL_MEAN], -1, *behind))
    if CHANNEL_STD in measured:
        y = op.Div(y, reshape(op, measured[CHANNEL_STD], -1, *behind))
    return y


def jittered(op: Builder, x: Value, measured: Measured, lots: Value, strength: float) -> Value:
    """x + Σᵢ aᵢ·σᵢ·pᵢ, pᵢ and σᵢ² the eigenvectors and eigenvalues of the colours' covariance.

    A normal aᵢ of deviation `strength` for each image, by Box and Muller (1958) from `lots`,
    N x 6.
    """
    u, v = op.Split(lots, op.ints(3, 3), outputs=2, axis=1)
    radius = op.Sqrt(op.Mul(op.Log(op.Sub(op.scalar(1), u)), op.scalar(-2 * strength**2)))
    drawn = op.Mul(radius, op.Cos(op.Mul(v, op.scalar(2 * pi))))
    shift = reshape_samples(op, op.MatMul(drawn, measured[COLOUR]), 3, 1, 1)
    y: Value = op.Add(x, shift)
    return y
