"""Squares against its author's C, keys against SplitMix64's, and the training tape."""

from __future__ import annotations

import numpy as np
import pytest

from netspec.data.order import Batches, key, permutation, philox, squares

C_COUNTERS = (0, 1, 2, 3, 4, 1000, 2**32 - 1, 2**32, 2**64 - 1)
C_WORDS = {
    0xC58EFD154CE32F6D: (
        0x8352D815, 0x4D645C71, 0x5F664B34, 0x5502129E, 0xFDADFDCF, 0x4614D940, 0x830ED5B9,
        0x60151352, 0x89D8C127,
    ),
    0x548C9DECBCE65297: (
        0x36D88366, 0x944716E0, 0xC8A8F4E0, 0x35CC666A, 0x7094EAB1, 0xD560D776, 0x5F169B06,
        0x122E80B3, 0x434506A4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("k", C_WORDS)
def test_squares_gives_the_words_of_the_papers_c(k: int) -> None:
    """Computed once with a C program after arXiv:2004.06278 (gcc, uint64_t, four rounds).

    The keys are the first of the author's list and that of the paper's programs. For the second,
    counters 0 to 2, a Rust implementation's documentation gives 0x36d88366cee633a5,
    0x944716e00e60dfaa and 0xc8a8f4e0678654bf as the 64-bit variant, whose upper half is ours.
    """
    words = squares(k, np.array(C_COUNTERS, np.uint64))
    assert words.dtype == np.uint32
    assert words.tolist() == list(C_WORDS[k])


def test_a_million_words_agree_with_c() -> None:
    """The same C program folded a million words as acc = 31·acc + word modulo 2^32."""
    words = squares(0xC58EFD154CE32F6D, np.arange(1_000_000, dtype=np.uint64))
    accumulated = 0
    for word in words.tolist():
        accumulated = (accumulated * 31 + word) & 0xFFFFFFFF
    assert accumulated == 0x0397572E


def test_key_is_splitmix64() -> None:
    """The first output of SplitMix64 from state 0 is e220a8397b1dcdaf, by its authors' C."""
    assert key(0) == 0xE220A8397B1DCDAF | 1


def test_keys_of_streams_differ() -> None:
    parts: list[tuple[int | str, ...]] = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",)]
    streams = parts + [(i,) for i in range(2000)] + [("shuffle", i) for i in range(2000)]
    keys = {key(seed, *stream) for seed in (-1, 0, 1) for stream in streams}
    assert len(keys) == 3 * len(streams)
    assert all(k % 2 and 0 < k < 2**64 for k in keys)
    assert key(1, "shuffle", 3) == 0x49326182ADD6EA5B, "a published run must stay repeatable"


def test_words_look_uniform() -> None:
    """Bits, bytes and neighbouring keys: no deviation beyond five standard errors."""
    for k in (key(1), key(2), key(1, "dropout", "relu1", 0)):
        words = squares(k, np.arange(1, 100_001, dtype=np.uint64))
        bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1).mean(0)
        assert np.abs(bits - 0.5).max() < 5 * 0.5 / np.sqrt(1e5)
        counts = np.bincount(words >> np.uint32(24), minlength=256)
        assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 255) < 5 * np.sqrt(510)
    first = np.array([squares(key(1, i), np.array([1], np.uint64))[0] for i in range(20_000)])
    assert abs(first.mean() / 2**32 - 0.5) < 5 / np.sqrt(12 * 20_000)


def test_permutation_is_one_and_stays_the_same() -> None:
    order = permutation(1000, key(1))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(1000))
    assert permutation(8, key(1, "shuffle", 0)).tolist() == [4, 3, 0, 1, 2, 5, 6, 7]
    assert permutation(1, 3).tolist() == [0]
    assert permutation(0, 3).tolist() == []


def test_permutations_of_four_are_equally_frequent() -> None:
    """24 orders of 4 over 24,000 keys: chi-square with 23 degrees of freedom, p = 1e-6 at 73."""
    seen: dict[tuple[int, ...], int] = {}
    for i in range(24_000):
        order = tuple(permutation(4, key(7, "shuffle", i)).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert sum((n - 1000) ** 2 / 1000 for n in seen.values()) < 73


@pytest.mark.parametrize(
    ("samples", "batch"), [(10, 3), (10, 10), (3, 10), (7, 23), (1, 4), (64, 1)]
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_epoch_sees_every_sample_once(samples: int, batch: int, shuffle: bool) -> None:
    batches = Batches(samples, batch, seed=1, shuffle=shuffle)
    tape = np.concatenate([batches.indices(i) for i in range(5 * samples)])
    epochs = tape[: len(tape) // samples * samples].reshape(-1, samples)
    assert (np.sort(epochs, axis=1) == np.arange(samples)).all()
    if not shuffle:
        assert (epochs == np.arange(samples)).all()
    if shuffle and samples > 6:
        assert not (epochs[0] == epochs[1]).all()


def test_any_iteration_can_be_asked_for() -> None:
    one = Batches(10, 4, seed=3, shuffle=True)
    run = [one.indices(i).tolist() for i in range(50)]
    for i in np.random.default_rng(0).permutation(50).tolist():
        assert one.indices(i).tolist() == run[i]
        assert Batches(10, 4, seed=3, shuffle=True).indices(i).tolist() == run[i]
    assert Batches(10, 4, seed=4, shuffle=True).indices(0).tolist() != run[0]


def test_the_caller_may_write_into_a_batch() -> None:
    batches = Batches(4, 4, seed=1, shuffle=True)
    before = batches.indices(0).tolist()
    batches.indices(0)[:] = 0
    assert batches.indices(0).tolist() == before


def test_epochs_and_iterations() -> None:
    batches = Batches(10, 4, seed=1, shuffle=True)
    assert [batches.epoch(i) for i in range(6)] == [0, 0, 0, 1, 1, 2]
    assert [batches.iterations(e) for e in range(3)] == [0, 3, 5]
    assert Batches(10_000, 64, seed=1, shuffle=True).iterations(5) == 782


def test_at_most_two_permutations_are_kept() -> None:
    batches = Batches(5, 4, seed=1, shuffle=True)
    for i in range(100):
        batches.indices(i)
        assert len(batches._orders) <= 2


def test_philox_gives_the_words_of_its_authors() -> None:
    """The known answer of Random123 for Philox4x64, ten rounds, of a counter and a key of zeros.

    Numpy counts up before each block: ours is the stream of that generator from its second block.
    """
    generator = np.random.Philox(counter=2**256 - 1, key=0)
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert generator.random_raw(4).tolist() == known
    pairs = [int(pair) for pair in generator.random_raw(4)]
    halves = [half for pair in pairs for half in (pair & 0xFFFFFFFF, pair >> 32)]
    assert philox(0, 0, 8).tolist() == halves


@pytest.mark.parametrize("begin", [0, 1, 7, 8, 9, 1000, 2**40 + 3])
def test_any_part_of_philox_can_be_had(begin: int) -> None:
    k = key(1, "some")
    first = begin - begin % 8
    whole = philox(k, first, 100)
    for count in (0, 1, 2, 8, 17, 60):
        part = philox(k, begin, count)
        assert part.dtype == np.uint32
        assert part.tolist() == whole[begin - first :][:count].tolist()
    assert len(set(whole.tolist())) == 100
