"""Batches come as they were asked for, whatever the threads ahead of them do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from netspec.data.lazy import Lazy
from netspec.data.prefetch import AHEAD, Prefetch
from netspec.data.tolerance import Bad, Tolerance
from netspec.diagnostics import DataError

COUNT, BATCH = 40, 4
SMALL, LARGE = (3, 2, 2), (1, 128, 128)
"""Shapes of which one thread and several decode."""


def pixels(row: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.full(shape, row, np.uint8)


def lazy(
    shape: tuple[int, ...] = SMALL,
    decode: Callable[[int], Any] | None = None,
    tolerance: Tolerance | None = None,
) -> Lazy:
    decode = decode or (lambda row: pixels(row, shape))
    return Lazy((COUNT, *shape), decode, decode, lambda row: f"{row}.png",
                tolerance=tolerance or Tolerance())  # fmt: skip


def made(source: Lazy, ahead: Callable[[int], Any] = lambda n: batch(n)) -> Prefetch:
    return Prefetch({"data": source, "label": np.arange(COUNT) * 10}, BATCH, ahead)


def batch(number: int) -> np.ndarray[Any, Any]:
    return (np.arange(number * BATCH, (number + 1) * BATCH) * 7 % COUNT).astype(np.int64)


def broken(*rows: int, shape: tuple[int, ...] = SMALL) -> Callable[[int], Any]:
    def decode(row: int) -> Any:
        if row in rows:
            raise DataError(f"{row}.png: damaged image")
        return pixels(row, shape)

    return decode


def decoding() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert not decoding()
    yield
    assert not decoding()


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_every_batch_is_its_own(shape: tuple[int, ...]) -> None:
    prefetch = made(lazy(shape))
    for number in [*range(25), 3, 4, 5, 30, 29, 28]:  # a jump is no fault, nor is a step back
        arrays = prefetch.take(number, batch(number))
        assert arrays["data"].shape == (BATCH, *shape)
        assert (arrays["data"] == batch(number).reshape(-1, 1, 1, 1)).all()
        assert (arrays["label"] == batch(number) * 10).all()
    prefetch.close()


def test_a_wrong_foresight_changes_nothing() -> None:
    prefetch = made(lazy(), lambda number: batch(number + 1))
    for number in range(6):
        assert (prefetch.take(number, batch(number))["label"] == batch(number) * 10).all()
    prefetch.close()


def test_no_more_is_decoded_than_it_is_ahead() -> None:
    decoded: list[int] = []
    prefetch = made(lazy(decode=lambda row: (decoded.append(row), pixels(row, SMALL))[1]))
    for number in range(5):
        prefetch.take(number, batch(number))
        assert len(decoded) <= (number + 1 + AHEAD) * BATCH
    prefetch.close()
    assert len(set(decoded)) == len(decoded), "none twice"


def test_what_is_foretold_is_ready() -> None:
    prefetch = made(lazy())
    prefetch.take(0, batch(0))
    deadline = time.monotonic() + 10
    while not all(t.done() for p in prefetch._pending.values() for t in p.tasks):
        assert time.monotonic() < deadline
    assert sorted(prefetch._pending) == [1, 2]
    prefetch.close()


def test_the_rest_of_a_short_batch_is_zero() -> None:
    prefetch = made(lazy(), lambda _: None)
    arrays = prefetch.take(0, np.array([5, 6], np.int64))
    assert arrays["data"][:, 0, 0, 0].tolist() == [5, 6, 0, 0]
    assert arrays["label"].tolist() == [50, 60, 0, 0]
    prefetch.close()


class TestBad:
    def test_the_fault_comes_with_the_batch_that_needs_the_sample(self) -> None:
        """Which is not the one during which it is met."""
        prefetch = made(lazy(decode=broken(int(batch(2)[1]))))
        for number in (0, 1):
            prefetch.take(number, batch(number))
        for _ in range(2):
            with pytest.raises(DataError, match=rf"^{batch(2)[1]}\.png: damaged image$"):
                prefetch.take(2, batch(2))
        prefetch.close()

    def test_the_next_sample_stands_in_with_its_label(self) -> None:
        told: list[str] = []
        tolerance = Tolerance(3, told.append)
        prefetch = made(lazy(decode=broken(7, 8, 39), tolerance=tolerance), lambda _: None)
        for _ in range(2):
            arrays = prefetch.take(0, np.array([6, 7, 8, 39], np.int64))
            assert arrays["data"][:, 0, 0, 0].tolist() == [6, 9, 9, 0]
            assert arrays["label"].tolist() == [60, 90, 90, 0]
        assert told == [
            f"{row}.png: damaged image; the sample after it stands in for it ({n} of at most 3)"
            for n, row in enumerate((7, 8, 39), 1)
        ]
        prefetch.close()

    @pytest.mark.parametrize("limit", [1, 2])
    def test_one_too_many(self, limit: int) -> None:
        tolerance = Tolerance(limit)
        source = lazy(decode=broken(*range(1, limit + 2)), tolerance=tolerance)
        prefetch = made(source, lambda _: None)
        with pytest.raises(DataError, match=r"\.png: damaged image"):
            prefetch.take(0, np.array([0, 1, 2, 3], np.int64))
        prefetch.close()

    def test_the_message_says_how_many_were_passed_over(self) -> None:
        tolerance = Tolerance(1)
        prefetch = made(lazy(decode=broken(3, 20), tolerance=tolerance), lambda _: None)
        prefetch.take(0, np.array([3], np.int64))
        with pytest.raises(DataError, match=r"^20\.png: .*; 1 were passed over before it$"):
            prefetch.take(1, np.array([20], np.int64))
        prefetch.close()

    def test_nothing_that_could_be_read(self) -> None:
        source = lazy(decode=broken(*range(COUNT)), tolerance=Tolerance(1000))
        prefetch = made(source, lambda _: None)
        with pytest.raises(DataError, match="damaged image"):
            prefetch.take(0, batch(0))
        prefetch.close()

    def test_known_ones_count(self) -> None:
        tolerance = Tolerance(1, known=["3.png"])
        prefetch = made(lazy(decode=broken(3, 20), tolerance=tolerance), lambda _: None)
        assert prefetch.take(0, np.array([3], np.int64))["label"][0] == 40
        with pytest.raises(DataError, match=r"^20\.png"):
            prefetch.take(1, np.array([20], np.int64))
        prefetch.close()

    @pytest.mark.parametrize("name", ["cat/3.png", "pictures/cat/3.png", "/else/where/cat/3.png"])
    def test_known_ones_are_known_where_they_were_moved_to(self, name: str) -> None:
        tolerance = Tolerance(1, known=["/data/pictures/cat/3.png"])
        tolerance.pass_over([Bad(name, DataError("bad"))] * 2)
        assert [*tolerance.names] == ["/data/pictures/cat/3.png"]
        for other in ("dog/3.png", "cat/4.png", "/third/cat/3.png"):
            with pytest.raises(DataError, match=r"^bad; 1 were passed over before it$"):
                tolerance.pass_over([Bad(other, DataError("bad"))])

    def test_each_known_one_stands_for_one(self) -> None:
        known = ["/a/train/cat/3.png", "/a/test/cat/3.png"]
        tolerance = Tolerance(2, known=known)
        moved = ["/b/test/cat/3.png", "/b/train/cat/3.png"]
        tolerance.pass_over(Bad(name, DataError("bad")) for name in moved * 2)
        assert [*tolerance.names] == known
        with pytest.raises(DataError, match="2 were passed over"):
            tolerance.pass_over([Bad("/b/val/cat/3.png", DataError("bad"))])


class TestEnds:
    def test_threads_end_with_the_sample_that_they_are_at(self) -> None:
        started, go = threading.Event(), threading.Event()

        def slow(row: int) -> Any:
            if row != batch(0)[0]:
                started.set()
                go.wait(10)
            return pixels(row, LARGE)

        prefetch = made(lazy(LARGE, slow), batch)
        waiting = threading.Thread(target=lambda: prefetch.take(0, batch(0)))
        waiting.start()
        started.wait(10)
        go.set()
        waiting.join()
        prefetch.close()
        assert not decoding()

    def test_an_interrupt_while_it_waits_loses_nothing(self) -> None:
        raised = []

        def interrupted(row: int) -> Any:
            if not raised:
                raised.append(row)
                raise KeyboardInterrupt
            return pixels(row, SMALL)

        prefetch = made(lazy(decode=interrupted))
        with pytest.raises(KeyboardInterrupt):
            prefetch.take(0, batch(0))
        assert (prefetch.take(0, batch(0))["label"] == batch(0) * 10).all()
        prefetch.close()

    def test_closed_twice_and_used_again(self) -> None:
        prefetch = made(lazy())
        prefetch.take(0, batch(0))
        prefetch.close()
        prefetch.close()
        assert (prefetch.take(1, batch(1))["label"] == batch(1) * 10).all()
        prefetch.close()


class TestLikeAnArray:
    def test_a_sample_and_several(self) -> None:
        source = lazy()
        assert source[7].shape == SMALL
        assert (source[7] == 7).all()
        assert source[batch(3)][:, 0, 0, 0].tolist() == batch(3).tolist()
        assert source[-1][0, 0, 0] == COUNT - 1
        with pytest.raises(DataError, match=r"^3\.png: damaged image$"):
            lazy(decode=broken(3))[3]

    def test_some_of_it(self) -> None:
        source = lazy().chosen(np.array([9, 3, 5]))
        assert len(source) == 3
        assert [source.name(i) for i in range(3)] == ["9.png", "3.png", "5.png"]
        assert source[1][0, 0, 0] == source.natural(1)[0, 0, 0] == 3
