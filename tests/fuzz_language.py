"""Fuzzes the road from text to net: `python tests/fuzz_language.py --count 1000000`.

Mutates the bundled specs, the faulty ones of `tests/errors` and, where they are, the Caffe files of
`../shared/corpus`, and writes texts of its own from the grammar. Each goes through parse, build for
both phases, expand and build again. Anything but a NetspecError, an expansion that builds another
net, or a text that takes more than ten seconds is a failure, and ends the run with exit 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

from netspec.diagnostics import Diagnostics, NetspecError, Source, Span, SpecError
from netspec.grammar.ast import Message
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.build import build
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.printer import flatten
from netspec.layers import LAYERS

MAX_SECONDS = 10
MAX_MEGABYTES = 512

_ROOT = Path(__file__).resolve().parent.parent
_INCLUDES = {
    "blocks.net": "let wide = 8\nblock cr(n) { conv { num_output: n  kernel_size: 3 } relu }",
    "self.net": 'include "self.net"',
    "broken.net": "block {",
}
_TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_][A-Za-z0-9_]*|[0-9][0-9A-Za-z.]*|\s+|.', re.S)
_WORDS = [
    "{", "}", "{}", "(", ")", "[", "]", "<", ">", ":", ",", ";", "=", "==", "+", "-", "*", "/",
    "//", "%", ".", "0", "1", "2", "3", "-1", "0.5", "1e9", "999999999999999999", "3x3",
    "3x224x224", "x", "0x1F", '"a"', '"data"', '"label"', "'", '"', "\\", "#", "\n", " ", "\t",
    "\0", "\x1b", "é", "let", "block", "repeat", "when", "else", "as", "if", "and", "or", "not",
    "min(", "max(", "true", "in.channels", "in.height", "in", "include", "exclude", "phase",
    "TRAIN", "TEST", "name", "top", "bottom", "param", "share:", "lr_mult", "shape", "num_output",
    "kernel_size", "stride", "pad", "axis", "dim", "pool", "MAX", "AVE", "weight_filler", "type",
    "xavier", "residual", "inception", "branch", "shortcut", "head", "data", "solver", "transform",
    "input", "repeat 1000000000 {", "repeat 3 {", "repeat 0 {", "when 1 < 2 {", "let a = a",
    'include "blocks.net"', "cr(wide)", 'include "self.net"', 'include "broken.net"',
    "block b() { b() }", "b()", "loss_weight: 2", "global_pooling: true", "round_mode: FLOOR",
    "layer", "layers", "convolution_param",
]  # fmt: skip


@dataclass
class Tally:
    """What became of the texts."""

    texts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_text: str = ""
    megabytes: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(text, what happened)"""

    def add(self, other: Tally) -> None:
        self.texts += other.texts
        self.outcomes += other.outcomes
        if other.slowest > self.slowest:
            self.slowest, self.slowest_text = other.slowest, other.slowest_text
        self.megabytes = max(self.megabytes, other.megabytes)
        self.failures += other.failures


def load(name: str, span: Span) -> Source:
    """The includes a fuzzed text may name: none of them is a file."""
    if name not in _INCLUDES:
        raise SpecError(f"there is no file `{name}`", span, code="include")
    return Source(name, _INCLUDES[name])


def build_both(tree: Message) -> tuple[Net, Net]:
    """The nets of both phases."""
    diagnostics = Diagnostics()
    built = [
        build(tree, layers=LAYERS, load=load, phase=phase, batch=None, diagnostics=diagnostics)
        for phase in (Phase.TEST, Phase.TRAIN)
    ]
    diagnostics.check()
    test, train = built
    assert test is not None, "no fault, no net"
    assert train is not None, "no fault, no net"
    return test.net, train.net


def road(text: str) -> str:
    """Send a text down the road; the outcome, `net` or the code of its first fault."""
    try:
        tree = parse(Source("fuzz.net", text))
        assert parse(Source("fuzz.net", to_text(tree))) == tree, "fmt changes the tree"
        nets = build_both(tree)
    except NetspecError as error:
        str(error)
        faults = getattr(error, "faults", None)
        return str(faults[0].code) if faults else type(error).__name__
    flat = to_text(flatten(*nets))
    again = build_both(parse(Source("flat.net", flat)))
    for before, after in zip(nets, again, strict=True):
        assert before.model_dump() == after.model_dump(), f"expand builds another net:\n{flat}"
    return "net"


def mutate(text: str, pool: list[str], chance: random.Random) -> str:
    """A few tokens or characters of `text` removed, repeated, exchanged, or taken from another."""
    tokens = _TOKEN.findall(text)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not tokens:
            break
        at = chance.randrange(len(tokens))
        end = min(len(tokens), at + chance.choice((1, 1, 1, 2, 5, 20)))
        match chance.randrange(8):
            case 0:
                del tokens[at:end]
            case 1:
                tokens[at:at] = tokens[at:end] * chance.choice((1, 1, 2, 30))
            case 2 | 3:
                tokens[at] = chance.choice(_WORDS)
            case 4:
                tokens.insert(at, f" {chance.choice(_WORDS)} ")
            case 5:
                other = chance.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 6:
                foreign = _TOKEN.findall(chance.choice(pool))
                start = chance.randrange(len(foreign) or 1)
                tokens[at:at] = foreign[start : start + chance.randrange(40)]
            case _:
                word = tokens[at]
                spot = chance.randrange(len(word) + 1)
                tokens[at] = word[:spot] + chr(chance.randrange(32, 127)) + word[spot + 1 :]
    return "".join(tokens)


class Writer:
    """Writes texts from the grammar, most of them nearly right."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names = ["data"]

    def text(self) -> str:
        lines = [f'input "data" {{ shape: {self.pick("3x16x16", "1x8x9", "12", "2x1x1")} }}']
        lines += [f"let {n} = {self.number()}" for n in ("a", "b") if self.likely(0.5)]
        lines.append(f"block k(n, m = {self.number()}) {{ {self.items(2)} }}")
        lines.append(self.items(5))
        lines += [
            w for w in ("fc { num_output: 4 }", "softmax_loss", "accuracy") if self.likely(0.5)
        ]
        return "\n".join(lines)

    def likely(self, p: float) -> bool:
        return self.chance.random() < p

    def pick(self, *options: str) -> str:
        return self.chance.choice(options)

    def number(self, depth: int = 0) -> str:
        if depth > 3 or self.likely(0.7):
            return self.pick(
                "1", "2", "3", "8", "0", "in.channels", "in.height", "a", "n", "i", "1.5"
            )
        left, right = self.number(depth + 1), self.number(depth + 1)
        sign = self.pick("+", "-", "*", "//", "/", "%", "min", "if", "()")
        if sign == "min":
            return f"max({left}, {right})"
        if sign == "if":
            return f"({left} if {self.test(depth + 1)} else {right})"
        return f"({left})" if sign == "()" else f"{left} {sign} {right}"

    def test(self, depth: int = 0) -> str:
        sign = self.pick("<", "<=", "==", "!=", ">", ">=")
        test = f"{self.number(depth + 2)} {sign} {self.number(depth + 2)}"
        return self.pick(test, f"not {test}", f"{test} and true", f"true or {test}")

    def items(self, depth: int) -> str:
        return "  ".join(self.item(depth) for _ in range(self.chance.randrange(1, 4)))

    def item(self, depth: int) -> str:
        if depth <= 0 or self.likely(0.5):
            return self.layer()
        inner = self.items(depth - 1)
        label = f' "{self.name()}"' if self.likely(0.3) else ""
        phase = self.pick("", "", "", "include { phase: TRAIN } ", "exclude { phase: TRAIN } ")
        return self.pick(
            f"residual{label} {{ {phase}{inner} }}",
            f"residual{label} {{ {inner} shortcut {{ {self.items(depth - 1)} }} }}",
            f"inception{label} {{ {phase}branch {{ {inner} }} branch {{}} }}",
            f"head{label} {{ {phase}{inner} softmax_loss }}",
            f"repeat {self.pick('0', '1', '2', '3')} as i {{ {inner} }}",
            f"when {self.test()} {{ {inner} }} else {{ {self.items(depth - 1)} }}",
            f"k({self.number()}){label}",
            f"k({self.number()}, m: {self.number()})",
            f"let {self.pick('c', 'd', 'e')} = {self.number()}",
        )

    def name(self) -> str:
        self.names.append(f"{self.pick('x', 'y', 'conv', 'relu')}{self.chance.randrange(9)}")
        return self.names[-1]

    def layer(self) -> str:
        word = self.pick(*LAYERS, "relu", "conv", "pool", "fc", "batch_norm")
        fields = {
            "conv": f"num_output: {self.number()}  kernel_size: {self.pick('1', '3')}  pad: 1",
            "pool": f"pool: {self.pick('MAX', 'AVE')}  kernel_size: 2  stride: 2",
            "fc": f"num_output: {self.number()}",
            "reshape": "shape { dim: 0  dim: -1 }",
            "input": "shape: 3x16x16",
        }.get(word, "")
        if self.likely(0.2):
            fields += f'  bottom: "{self.chance.choice(self.names)}"'
        if self.likely(0.1):
            fields += f'  top: "{self.chance.choice(self.names)}"'
        if self.likely(0.1):
            fields += f'  param {{ name: "{self.pick("w", "v")}"  lr_mult: {self.pick("0", "2")} }}'
        if self.likely(0.1):
            fields += "  include { phase: TRAIN }"
        label = f' "{self.name()}"' if self.likely(0.4) else ""
        return f"{word}{label} {{ {fields} }}"


@cache
def seeds() -> tuple[str, ...]:
    """The texts that are mutated, small ones more often."""
    files = [*_ROOT.glob("specs/*.net"), *_ROOT.glob("tests/errors/*.net")]
    texts = [path.read_text("utf-8") for path in sorted(files)] * 3
    corpus = _ROOT.parent / "shared" / "corpus" / "nets"
    for path in sorted(corpus.rglob("*.prototxt")) if corpus.is_dir() else []:
        text = path.read_text("utf-8", errors="replace")
        if len(text) < 4_000:
            texts.append(text)
    return tuple(texts)


def texts(seed: int) -> Iterator[str]:
    """Endless texts, the same for the same seed."""
    chance = random.Random(seed)
    pool = list(seeds())
    while True:
        match chance.randrange(10):
            case 0 | 1 | 2:
                yield Writer(chance).text()
            case 3:
                yield mutate(Writer(chance).text(), pool, chance)
            case 4:
                yield " ".join(chance.choices(_WORDS, k=chance.randrange(1, 60)))
            case _:
                yield mutate(chance.choice(pool), pool, chance)


def run(seed: int, count: int, seconds: float) -> Tally:
    """Fuzz with one seed until a count or a time is reached."""
    return fuzz(texts(seed), road, count, seconds)


def fuzz(given: Iterator[str], road: Callable[[str], str], count: int, seconds: float) -> Tally:
    """Send texts down a road until a count or a time is reached."""
    tally = Tally()
    before = _resident()  # of what else this process has done: other tests, for one
    signal.signal(signal.SIGALRM, _too_long)
    end = time.monotonic() + seconds
    for text, _ in zip(given, range(count), strict=False):
        if time.monotonic() > end or len(tally.failures) >= 5:
            break
        begin = time.process_time()
        signal.alarm(6 * MAX_SECONDS)
        try:
            outcome = road(text)
        except Exception:
            outcome = "FAILURE"
            tally.failures.append((text, traceback.format_exc()))
        signal.alarm(0)
        taken = time.process_time() - begin
        if taken > MAX_SECONDS:
            tally.failures.append((text, f"{taken:.1f} s"))
        if taken > tally.slowest:
            tally.slowest, tally.slowest_text = taken, text
        tally.texts += 1
        tally.outcomes[outcome] += 1
    tally.megabytes = _resident()
    if tally.megabytes > max(MAX_MEGABYTES, before):
        tally.failures.append(("", f"{tally.megabytes:.0f} MB"))
    return tally


def _resident() -> float:
    """The most that this process has held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {6 * MAX_SECONDS} s")


def main(
    run: Callable[[int, int, float], Tally], about: str, arguments: list[str] | None = None
) -> int:
    """Run the command line; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=1_000_000, help="texts (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=86_400, help="stop after so long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    share = -(-given.count // given.jobs)
    tally = Tally()
    with get_context("spawn").Pool(given.jobs) as pool:
        work = [(given.seed * 1000 + job, share, given.seconds) for job in range(given.jobs)]
        for part in pool.starmap(run, work):
            tally.add(part)
    report(tally, time.monotonic() - begin, print)
    return 1 if tally.failures else 0


def report(tally: Tally, seconds: float, write: Callable[[str], None]) -> None:
    """The table of what happened."""
    for text, failure in tally.failures[:5]:
        write(f"--- text\n{text}\n--- {failure}")
    write(f"texts      {tally.texts:>12,}  in {seconds:.0f} s")
    for outcome, number in tally.outcomes.most_common():
        write(f"  {outcome:<10}{number:>11,}")
    write(
        f"slowest    {tally.slowest:>12.2f}  s of processor time, "
        f"{len(tally.slowest_text):,} characters"
    )
    write(f"peak       {tally.megabytes:>12.0f}  MB resident")
    write(f"failures   {len(tally.failures):>12,}")


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
