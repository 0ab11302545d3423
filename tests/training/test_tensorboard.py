"""Event files: by the RFC's checksums, by hand, and by TensorBoard's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from struct import unpack
from unittest.mock import Mock

import pytest

from netspec.training.logs import events
from netspec.training.logs.events import Event
from netspec.training.logs.tensorboard import TensorBoard, crc32c
from netspec.wire.message import Message

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1])
read.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in read.Scalars(tag)]
                  for tag in read.Tags()["scalars"]}))
"""
"""In a process of its own: what TensorBoard imports warns of much that is not ours."""


@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_of_the_rfc(content: bytes, crc: int) -> None:
    """RFC 3720, B.4; the first is the catalogue's check value."""
    assert crc32c(content) == crc


def started(time: float = 1e9) -> Event:
    return events.Started(iteration=0, epoch=0, time=time, net="n", length=9, batch=1, samples=1)


def row(iteration: int, time: float = 1e9, **train: float) -> Event:
    return events.Row(iteration=iteration, epoch=1, time=time, lr=0.1 * iteration, train=train)


def a_test(iteration: int, **test: float) -> Event:
    return events.Tested(iteration=iteration, epoch=1, time=1e9, test=test)


def written(folder: Path, *told: Event) -> None:
    board = TensorBoard(folder, pytest.fail)
    for event in told:
        board.hear(event)


def records(path: Path) -> list[Message]:
    """The messages of a file, their checksums compared."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = unpack("<Q", content[:8])
        for part in (content[:8], content[12 : 12 + length]):
            mark = (unmasked(content[8:12]), unmasked(content[12 + length : 16 + length]))
            assert crc32c(part) in mark
        found.append(Message(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def unmasked(mark: bytes) -> int:
    rotated = (int.from_bytes(mark, "little") - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def test_the_records_of_a_file(tmp_path: Path) -> None:
    written(tmp_path, started(), row(2, 1e9 + 0.5, loss=0.25), a_test(2, loss=0.5))
    (path,) = tmp_path.iterdir()
    assert path.name == "events.out.tfevents.1000000000.netspec"
    head, first, second = records(path)
    assert head.text(3) == "brain.Event:2"
    assert first.doubles(1).tolist() == [1e9 + 0.5]
    assert (first.integer(2), second.integer(2)) == (2, 2)
    summary = first.message(5, "summary")
    assert summary is not None
    values = {v.text(1): v.floats(2).tolist() for v in summary.messages(1, "value")}
    assert values == {"lr": [pytest.approx(0.2)], "loss/train": [0.25]}


def test_nothing_to_show_leaves_no_file(tmp_path: Path) -> None:
    written(tmp_path, started(), events.Resumed(iteration=3, epoch=1, time=1e9, length=9))
    assert not list(tmp_path.iterdir())


def test_a_clock_that_was_put_back_keeps_the_order(tmp_path: Path) -> None:
    written(tmp_path, row(1, loss=1))
    written(tmp_path, row(2, time=5, loss=1))
    written(tmp_path, row(3, loss=1))
    assert sorted(path.name[-18:-8] for path in tmp_path.iterdir()) == [
        "1000000000", "1000000001", "1000000002",
    ]  # fmt: skip


@pytest.mark.parity
def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    nan = float("nan")
    written(
        tmp_path,
        started(),
        *(row(i, loss=1 / i, accuracy=i / 8) for i in (2, 4, 6)),
        a_test(6, loss=0.5, accuracy=0.75),
        events.Tested(iteration=7, epoch=1, time=1e9, test={"loss": None}),
    )
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"\x18\0\0\0torn")
    # Killed, and on from the checkpoint of iteration 4: what came after it is to be forgotten.
    resumed = events.Resumed(iteration=4, epoch=1, time=1e9, length=9)
    back = events.RolledBack(iteration=4, epoch=1, time=1e9, diverged=9, message="")
    written(
        tmp_path,
        resumed,
        row(5, loss=9),
        row(7, loss=9),
        back,
        row(6, loss=0.125),
        row(8, loss=nan),
        a_test(8, loss=0.25),
    )
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy/train"] == [[2, 0.25], [4, 0.5]]
    steps = [step for step, _ in found["lr"]]
    assert steps == [2, 4, 6, 8]
    *losses, last = found["loss/train"]
    assert losses == [[2, 0.5], [4, 0.25], [6, 0.125]]
    assert last[0] == 8
    assert last[1] != last[1]
    assert found["loss/test"] == [[8, 0.25]]
    assert found.get("accuracy/test", []) == []


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", Mock(side_effect=OSError(5, "Input/output error")))
        written(tmp_path, started(), row(2, loss=0.25))
    (path,) = tmp_path.iterdir()
    assert len(records(path)) == 2
