"""What sentences make of numbers and lists."""

from __future__ import annotations

import pytest

from netspec.wording import counted, either


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "sample", "1 sample"),
        (0, "sample", "0 samples"),
        (12_000, "sample", "12,000 samples"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (3, "copy", "3 copies"),
    ],
)
def test_counted(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


@pytest.mark.parametrize(
    ("words", "said"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_either(words: list[str], said: str) -> None:
    assert either(words) == said
