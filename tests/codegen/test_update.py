"""The proof that an update may run in place, and that it can fail."""

from __future__ import annotations

from typing import ClassVar

import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.solvers import (
    PYTORCH,
    SOLVERS,
    Moved,
    Scalars,
    Slots,
    UpdateRule,
    update_rule,
)
from netspec.codegen.update import WeightGroup, assert_in_place, update_graph
from netspec.ir.graph import Ops, Value
from netspec.ir.sections import Solver
from netspec.ir.types import TensorType

VECTOR = TensorType((8,))
SOLVER = Solver(type="Nesterov", base_lr=0.1, momentum=0.9, max_iter=1)


class NaiveNesterov(UpdateRule):
    """Reads v after v' is made: w' = w - (1 + μ)·v' + μ·v, term by term."""

    slots: ClassVar = ("momentum",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (v,) = slots
        mu = op.scalar(0.9)
        new = op.Add(op.Mul(v, mu), op.Mul(g, scalars["rate"]))
        ahead = op.Sub(w, op.Mul(new, op.scalar(1.9)))
        return op.Add(ahead, op.Mul(v, mu)), (new,)


def test_naive_nesterov_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"reads momentum:0 after .* has written over it"):
        update_graph([WeightGroup("0", 8)], [], NaiveNesterov(SOLVER), guarded=False)


def test_guards_write_last_and_so_save_it() -> None:
    update_graph([WeightGroup("0", 8)], [], NaiveNesterov(SOLVER), guarded=True)


@pytest.fixture
def op() -> Builder:
    return Builder()


def prove(op: Builder, new: Value, old: Value) -> None:
    assert_in_place(op.graph([new], name="test"), {new: old})


def test_the_writer_may_be_the_last_reader(op: Builder) -> None:
    x = op.input("x", VECTOR)
    prove(op, op.Add(op.Relu(x), x), x)


def test_a_writer_that_moves_cells_may_not_read(op: Builder) -> None:
    x = op.input("x", VECTOR)
    reversed_x = op.Gather(x, op.ints(*range(7, -1, -1)), axis=0)
    with pytest.raises(AssertionError, match="reads x after"):
        prove(op, reversed_x, x)


def test_a_view_is_still_the_old_value(op: Builder) -> None:
    x = op.input("x", VECTOR)
    view = op.Reshape(x, op.ints(2, 4))
    new = op.Add(x, op.scalar(1))
    op.Relu(view)
    with pytest.raises(AssertionError, match="reads x after"):
        prove(op, new, x)


def test_a_copy_writes_nothing_of_its_own(op: Builder) -> None:
    x, y = op.input("x", VECTOR), op.input("y", VECTOR)
    op.Relu(x)
    with pytest.raises(AssertionError, match="may write nothing"):
        prove(op, op.Identity(y), x)


def test_two_values_cannot_share_a_place(op: Builder) -> None:
    x = op.input("x", VECTOR)
    a, b = op.Relu(x), op.Neg(x)
    with pytest.raises(AssertionError, match="two outputs"):
        assert_in_place(op.graph([a, b], name="test"), {a: x, b: x})


@pytest.mark.parametrize("arithmetic", ["CAFFE", "PYTORCH"])
@pytest.mark.parametrize("kind", SOLVERS)
def test_every_solver_declares_what_it_keeps(kind: str, arithmetic: str) -> None:
    momentum = None if kind in ("AdaGrad", "RMSProp") else 0.9
    solver = Solver(
        type=kind, arithmetic=arithmetic, base_lr=0.1, momentum=momentum, max_iter=1
    )  # fmt: skip
    rule = update_rule(solver)
    assert type(rule) is (PYTORCH | SOLVERS if arithmetic == "CAFFE" else SOLVERS | PYTORCH)[kind]
    assert rule.slots
    assert rule.scalars[0] == "rate"
    assert tuple(rule.feeds(0.1, 0)) == rule.scalars
