"""What `fault_loop.py` makes of a trace, and what it says where there is no strace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

from tampering import Call, Fault, failed, reached, spread

TRACE = """\
7 openat(AT_FDCWD</runs/n>, "/lib/x.so", O_RDONLY) = 3</lib/x.so>
8 openat(AT_FDCWD</tmp>, "/runs/n/log.csv", O_WRONLY|O_CREAT, 0666 <unfinished ...>
7 openat(AT_FDCWD</tmp>, "/runs/n/a", O_RDONLY) = 3</runs/n/a>
8 <... openat resumed>) = 4</runs/n/log.csv>
7 write(3</runs/n/.a.0123abcd.tmp>, "/runs/not", 9) = -1 ENOSPC (No space left on device) (INJECTED)
7 write(2</runs-of-others>, "x", 1) = 1
7 rename("/runs/n/.a.0123abcd.tmp", "/runs/n/a") = 0
7 fsync(3</runs>) = 0
"""
CALLS = [
    Call("openat", 1, "n"),
    Call("openat", 1, "n/log.csv"),
    Call("openat", 2, "n/a"),
    Call("write", 1, "n/.a.0123abcd.tmp"),
    Call("rename", 1, "n/.a.0123abcd.tmp"),
    Call("fsync", 1, ""),
]


def test_calls_are_counted_by_thread_and_name(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text(TRACE)
    assert reached(trace, Path("/runs")) == CALLS
    assert failed(trace, Path("/runs")) == [CALLS[3]]
    assert failed(trace, Path("/lib")) == []
    under = Fault(CALLS[2], "EIO", lasting=True).under(trace)
    assert under[-1] == "inject=openat:error=EIO:when=2+"


def test_draws_go_to_many_places() -> None:
    calls = [Call("write", n, f".a.{n:08x}.tmp") for n in range(50)]
    calls += [Call("write", 50 + n, f"b{n}") for n in range(3)]
    drawn = spread(calls, 4, Random(1))
    assert {call.place for call in calls[50:]} < {call.place for call in drawn}
    assert len(spread(calls, 99, Random(1))) == 53


def test_without_strace(tmp_path: Path) -> None:
    script = Path(__file__).with_name("fault_loop.py")
    path = os.pathsep.join(filter(None, (str(script.parents[2]), os.environ.get("PYTHONPATH"))))
    env = {"PATH": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (2, "strace is not installed\n")
