"""The order of samples and every random word of the host, from counters instead of a state."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_HALF = np.uint64(32)


def squares(key: int, counters: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """One random 32-bit word per counter: Squares, four rounds.

    B. Widynski, "Squares: A Fast Counter-Based RNG", arXiv:2004.06278. The word depends on the key
    and its own counter alone, so that any part of a stream can be had at once, in any order and on
    any machine. Take keys from `key`, and counters from 1: at 0 the first round squares nothing.
    """
    weyl = np.uint64(key)
    with np.errstate(over="ignore"):  # arithmetic is modulo 2^64
        y = counters.astype(np.uint64) * weyl
        z = y + weyl
        x = _swap(y * y + y)
        x = _swap(x * x + z)
        x = _swap(x * x + y)
        x = x * x + z
    return (x >> _HALF).astype(np.uint32)


def _swap(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    swapped: NDArray[np.uint64] = (x >> _HALF) | (x << _HALF)
    return swapped


def philox(key: int, begin: int, count: int) -> NDArray[np.uint32]:
    """The words `begin` … `begin + count` of a long stream: numpy's Philox4x64 of ten rounds.

    J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. It has the virtues of
    `squares`, as eight words hang on the key and a counter, and takes a quarter of its time. Numpy
    guarantees that a key's words stay what they are.
    """
    counter, skipped = divmod(begin, 8)
    pairs = np.random.Philox(counter=counter, key=key).random_raw((skipped + count + 1) // 2)
    return pairs.astype("<u8", copy=False).view("<u4")[skipped : skipped + count]


def key(seed: int, *stream: int | str) -> int:
    """The key of a stream such as `key(seed, "shuffle", epoch)`.

    Each part goes through the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) on top of
    the parts before it; a string counts as the first 8 bytes of its BLAKE2b hash. The key is odd,
    which makes Squares' `counter * key` run through all 2^64 words. Widynski draws keys of
    differing hex digits so that `counter * key` varies in all its bits from the first counters on;
    he needs that for keys written by hand or counted up. The finaliser's bits are already as those
    of a random word, one with fewer than 16 of 64 bits set once in some 80,000 keys, so no digit is
    chosen.
    """
    state = _mix(seed & _WORD)
    for part in stream:
        word = _hash(part) if isinstance(part, str) else part & _WORD
        state = _mix(state ^ word)
    return state | 1


def _mix(word: int) -> int:
    word = (word + _GOLDEN) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def permutation(n: int, key: int) -> NDArray[np.int64]:
    """The numbers below n in the order of n random 64-bit words.

    A stable sort has one result whatever the algorithm, so neither numpy's version nor the machine
    changes the order.
    """
    counters = np.arange(1, 2 * n + 1, dtype=np.uint64)
    high, low = squares(key, counters).astype(np.uint64).reshape(n, 2).T
    return np.argsort((high << _HALF) | low, kind="stable").astype(np.int64)


class Batches:
    """Indices of training batches across the epoch's border.

    The training set is an endless tape, epoch after epoch, each in an order of its own (or in the
    order of the source, unless `shuffle`); batch i is its i-th piece of `batch_size` samples. Any
    iteration can be asked for, so a resumed run needs no state. It begins at one of the first
    `rand_skip` samples, drawn by lot.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, shuffle: bool, rand_skip: int = 0
    ) -> None:
        assert samples > 0
        assert batch_size > 0
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self._skipped = 0
        if rand_skip:
            (drawn,) = squares(key(seed, "rand_skip"), np.array([1], np.uint64))
            self._skipped = int(drawn) % rand_skip
        self._orders: dict[int, NDArray[np.int64]] = {}

    def indices(self, iteration: int) -> NDArray[np.int64]:
        """The `batch_size` samples of an iteration, counted from 0."""
        start = iteration * self.batch_size + self._skipped
        positions = np.arange(start, start + self.batch_size, dtype=np.int64)
        epochs, places = np.divmod(positions, self.samples)
        if not self.shuffle:
            return places
        chosen = np.empty_like(places)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            chosen[here] = self._order(epoch)[places[here]]
        return chosen

    def epoch(self, iteration: int) -> int:
        """The epoch, counted from 0, of the iteration's first sample."""
        return iteration * self.batch_size // self.samples

    def iterations(self, epochs: int) -> int:
        """How many iterations it takes until each sample was seen `epochs` times."""
        return -(-epochs * self.samples // self.batch_size)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            while len(self._orders) >= 2:  # a batch touches two epochs as a rule
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch] = permutation(self.samples, key(self.seed, "shuffle", epoch))
        return self._orders[epoch]
