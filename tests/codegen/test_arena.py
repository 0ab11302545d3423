"""The arena, by hand on small graphs; beside onnxruntime's own in tests/report."""

from __future__ import annotations

from collections.abc import Callable

from netspec.codegen.arena import arena_bytes
from netspec.codegen.builder import Builder
from netspec.ir.graph import Graph, Value
from netspec.ir.types import TensorType

KIB = 1024


def made(write: Callable[[Builder, Value], Value], cells: int = 256) -> Graph:
    """The graph of one function of a vector."""
    op = Builder()
    return op.graph([write(op, op.input("x", TensorType((cells,))))], name="test")


def test_in_a_chain_two_buffers_take_turns() -> None:
    def chain(op: Builder, x: Value) -> Value:
        for _ in range(9):
            x = op.Exp(x)
        return x

    assert arena_bytes(made(chain)) == 2 * KIB  # the last one is an output, and the caller's


def test_what_is_freed_serves_a_smaller_value_and_splits() -> None:
    def shrinking(op: Builder, x: Value) -> Value:
        x = op.Exp(op.Exp(x))  # 1 KiB each; the first is free after the second
        half = op.Slice(x, op.ints(0), op.ints(128))  # half of it
        other = op.Slice(x, op.ints(128), op.ints(256))  # the other half
        return op.Add(half, other)

    assert arena_bytes(made(shrinking)) == 2 * KIB


def test_halves_that_are_free_become_one_again() -> None:
    def growing(op: Builder, x: Value) -> Value:
        x = op.Exp(op.Exp(x))
        half = op.Slice(x, op.ints(0), op.ints(128))
        other = op.Slice(x, op.ints(128), op.ints(256))
        return op.Exp(op.Exp(op.Concat(half, other, axis=0)))

    # Slice, Slice and Concat: the halves lie in one chunk, and x's own takes what they make.
    assert arena_bytes(made(growing)) == 2 * KIB


def test_what_no_free_piece_holds_is_taken_anew() -> None:
    def wider(op: Builder, x: Value) -> Value:
        twice = op.Concat(op.Exp(x), op.Exp(x), axis=0)
        return op.Exp(op.Concat(twice, twice, axis=0))

    assert arena_bytes(made(wider)) == (1 + 1 + 2 + 4) * KIB


def test_requests_are_rounded_up_to_256_bytes() -> None:
    assert arena_bytes(made(lambda op, x: op.Exp(op.Exp(x)), cells=3)) == 256
