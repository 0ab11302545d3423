"""A thread that runs what it is asked to, and never outlives what it works on."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias

Task: TypeAlias = Callable[[], object]
_Asked: TypeAlias = "SimpleQueue[Task | None]"
_Done: TypeAlias = "SimpleQueue[tuple[Task, BaseException | None]]"


class Worker:
    """One thread, which does what it is asked in turn; it ends when nobody has it any more.

    An executor of `concurrent.futures` cannot be told to wait for a task whose `submit` was
    interrupted, since nobody has its future; and it takes 30 µs more for each.
    """

    def __init__(self, name: str) -> None:
        self._asked: _Asked = SimpleQueue()
        self._done: _Done = SimpleQueue()
        self._end = weakref.finalize(self, self._asked.put, None)
        Thread(target=_work, args=(self._asked, self._done), name=name, daemon=True).start()

    def ask(self, task: Task) -> None:
        """Have it run when those before it are done; each task is asked for once."""
        self._asked.put(task)

    def wait_for(self, task: Task) -> None:
        """Return when it is done; what it raised is raised. Those before it are forgotten."""
        while True:
            done, fault = self._done.get()
            if done is task:
                if fault is not None:
                    raise fault
                return

    def settle(self) -> None:
        """Return when nothing runs any more, however often the user interrupts meanwhile."""
        while True:
            try:
                self.ask(nothing := _Nothing())
                return self.wait_for(nothing)
            except KeyboardInterrupt:
                continue

    def end(self) -> None:
        """Let the thread go when all is done."""
        self.settle()
        self._end()


class _Nothing:
    """A task that tells by its end that those before it are done."""

    def __call__(self) -> None: ...


def _work(asked: _Asked, done: _Done) -> None:
    while (task := asked.get()) is not None:
        fault: BaseException | None = None
        try:
            task()
        except BaseException as raised:  # whatever it is, who waits shall have it
            fault = raised
        done.put((task, fault))
        del task, fault  # what they hold may go while nothing is asked
