"""A small part of what `python tests/fuzz_language.py` does, in every run of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_language import MAX_SECONDS, Tally, mutate, report, road, run, texts


@pytest.mark.parametrize("seed", [1, 2])
def test_fuzz(seed: int) -> None:
    tally = run(seed, 1_500, 60)
    lines: list[str] = []
    report(tally, 0, lines.append)
    assert not tally.failures, "\n".join(lines)
    assert tally.slowest < MAX_SECONDS
    assert tally.outcomes["net"] > 20
    assert {"syntax", "name", "field", "value", "shape", "flow"} <= tally.outcomes.keys()


def test_a_seed_tells_the_texts() -> None:
    first, again = ([text for text, _ in zip(texts(5), range(50), strict=False)] for _ in "12")
    assert first == again
    assert mutate.__doc__


def test_a_failure_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_text: str) -> str:
        raise RecursionError

    monkeypatch.setattr("fuzz_language.road", fail)
    tally = run(0, 10, 60)
    assert len(tally.failures) == 5
    assert Tally().outcomes == {}
    assert road('input "data" { shape: 3 }  relu') == "net"
