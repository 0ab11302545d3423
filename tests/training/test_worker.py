"""A thread that is asked: in turn, with what went wrong, and gone with who had it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial

import pytest

from netspec.training.execution.worker import Worker


@pytest.fixture
def worker() -> Worker:
    return Worker("some worker")


def test_in_turn_and_elsewhere(worker: Worker) -> None:
    seen: list[tuple[int, int]] = []
    tasks = [partial(lambda i: seen.append((i, threading.get_ident())), i) for i in range(5)]
    for task in tasks:
        worker.ask(task)
    worker.wait_for(tasks[-1])
    assert [i for i, _ in seen] == list(range(5))
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()


def test_a_fault_is_raised_where_it_is_waited_for(worker: Worker) -> None:
    def faulty() -> None:
        raise ValueError("no")

    worker.ask(faulty)
    with pytest.raises(ValueError, match=r"^no$"):
        worker.wait_for(faulty)
    worker.ask(faulty)  # nobody waits for it
    worker.ask(fine := partial(int))
    worker.wait_for(fine)


def test_settled_is_idle(worker: Worker) -> None:
    ended: list[int] = []
    for i in range(3):
        worker.ask(partial(lambda i: (time.sleep(0.02), ended.append(i)), i))
    worker.settle()
    assert ended == [0, 1, 2]


def test_the_thread_ends_when_it_is_told_to_or_nobody_has_it() -> None:
    told, dropped = Worker("told"), Worker("dropped")
    threads = {thread.name: thread for thread in threading.enumerate()}
    ends = [threads["told"], threads["dropped"]]
    assert all(thread.is_alive() for thread in ends)
    told.end()
    kept = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert kept() is None
    for thread in ends:
        thread.join(10)
        assert not thread.is_alive()


def test_what_a_task_holds_goes_with_it(worker: Worker) -> None:
    class Held:
        def __call__(self) -> None: ...

    task = Held()
    kept = weakref.ref(task)
    worker.ask(task)
    worker.wait_for(task)
    worker.settle()
    del task
    gc.collect()
    assert kept() is None
