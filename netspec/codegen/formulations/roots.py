"""Powers of positive numbers by square roots, where the exponent allows it."""

from __future__ import annotations

from netspec.ir.graph import Ops, Value


def power(op: Ops, x: Value, exponent: float) -> Value:
    """x^exponent, x > 0; quarters below 0 are products of square roots, which are vectorised."""
    y: Value
    match exponent * 4:
        case -4:
            y = x
        case -3:
            half = op.Sqrt(x)
            y = op.Mul(half, op.Sqrt(half))
        case -2:
            y = op.Sqrt(x)
        case -1:
            y = op.Sqrt(op.Sqrt(x))
        case _:
            y = op.Pow(x, op.scalar(exponent, x.type.dtype))
            return y
    inverse: Value = op.Reciprocal(y)
    return inverse
