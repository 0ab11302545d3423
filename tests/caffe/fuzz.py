"""Mutates Caffe's binary files and reads them: `python tests/caffe/fuzz.py --count 100000`.

A reader may raise DataError and nothing else, within seconds and within memory that the file's
size bounds. A mutant that breaks this is kept in `--keep`.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from netspec.blob import mean_file, read_mean
from netspec.caffe.caffemodel import LayerBlobs, caffemodel
from netspec.caffe.caffemodel_hdf5 import hdf5_file
from netspec.caffe.solverstate import SolverState, read_solverstate, solverstate
from netspec.caffe.weights import load_caffemodel
from netspec.compiler import elaborate, read
from netspec.diagnostics import DataError
from netspec.hdf5 import FREE
from netspec.ir.net import Net
from netspec.wire import WireError, Writer
from netspec.wire.frame import Budget, Wire, frame

SECONDS = 5.0
MEMORY = 8 << 20
"""Bytes that a mutant of a few hundred may take."""

SPEC = """
input "data" { shape: 2x6x6 }
conv "conv1" { num_output: 3  kernel_size: 3 }
batch_norm "bn"
prelu "slope" { channel_shared: true }
fc "ip" { num_output: 4 }
"""

EXTREMES = tuple(
    value % (1 << 64)
    for value in (0, 1, 2, 31, 32, 33, 127, 128, -1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)
)

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(np.float32)


LAYERS = (
    LayerBlobs("conv1", "Convolution", (drawn(3, 2, 3, 3), drawn(3)), ("data",), ("conv1",)),
    LayerBlobs("bn", "BatchNorm", (drawn(3), drawn(3), drawn(1)), ("conv1",), ("conv1",)),
    LayerBlobs("scale1", "Scale", (drawn(3), drawn(3)), ("conv1",), ("conv1",)),
    LayerBlobs("slope", "PReLU", (drawn(),)),
    LayerBlobs("ip", "InnerProduct", (drawn(4, 48), drawn(4))),
    LayerBlobs("other", "Bias", (drawn(2),)),
)


def varint(value: int) -> bytes:
    writer = Writer()
    writer.integer(1, value)
    return b"".join(writer.chunks)[1:]


def old_blob(array: np.ndarray[Any, Any], *, packed: bool, double: bool) -> Writer:
    """A blob with num, channels, height and width, its data as asked."""
    blob = Writer()
    for number, extent in zip(range(1, 5), (*[1] * (4 - array.ndim), *array.shape), strict=True):
        blob.integer(number, extent)
    values, letter, number = array.reshape(-1), "d" if double else "f", 8 if double else 5
    if packed:
        blob.content(number, struct.pack(f"<{values.size}{letter}", *values))
    else:
        tag = bytes([number << 3 | (1 if double else 5)])
        blob.chunks.append(b"".join(tag + struct.pack(f"<{letter}", v) for v in values))
        blob.size += len(blob.chunks[-1])
    return blob


def old_file(*, v0: bool, packed: bool, double: bool) -> bytes:
    """The layers in V1's form, or V0's."""
    net = Writer()
    for layer in LAYERS:
        outer, inner = Writer(), Writer()
        held = inner if v0 else outer
        held.text(1 if v0 else 4, layer.name)
        for blob in layer.blobs:
            assert blob is not None
            held.message(50 if v0 else 6, old_blob(blob, packed=packed, double=double))
        if v0:
            outer.message(1, inner)
        net.message(2, outer)
    return b"".join(net.chunks)


@dataclass(frozen=True)
class Case:
    """A file to mutate, and who reads it."""

    name: str
    content: bytes
    read: Callable[[Path], object]
    memory: int = MEMORY


def cases(net: Net) -> list[Case]:
    def weights(path: Path) -> None:
        for ignore in (False, True):
            load_caffemodel(path, net, ignore_mismatch=ignore)

    state = SolverState(7, "net.caffemodel", 1, (drawn(2, 3), drawn(3)))
    found = [
        Case("caffemodel", b"".join(caffemodel(LAYERS, "net")), weights),
        Case("v1", old_file(v0=False, packed=True, double=False), weights),
        Case("v1 unpacked", old_file(v0=False, packed=False, double=False), weights),
        Case("v0 of doubles", old_file(v0=True, packed=False, double=True), weights),
        Case("solverstate", b"".join(solverstate(state)), read_solverstate),
        Case("mean", b"".join(mean_file(drawn(3, 4, 5))), read_mean),
    ]
    if find_spec("h5py"):
        content = hdf5_file({layer.name: layer.blobs for layer in LAYERS})
        found.append(Case("hdf5", content, weights, MEMORY + FREE))
    return found


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content damaged, or half of the time a part of it, with the lengths around made right."""
    data = damaged_within(content, rng) if rng.integers(2) else damaged(content, rng)
    return (data or b"\0")[:20_000]


def damaged_within(content: bytes, rng: np.random.Generator) -> bytes:
    """A message with one of its parts damaged, or, where it is none, damaged itself."""
    try:
        numbered = frame(memoryview(content), WireError, Budget())
    except WireError:
        return damaged(content, rng)
    parts = [
        (number, field)
        for number, fields in numbered.items()
        for field in fields
        if field.wire is Wire.LENGTH
    ]
    if not parts or not rng.integers(5):
        return damaged(content, rng)
    number, field = parts[int(rng.integers(len(parts)))]
    part = Writer()
    part.content(number, damaged_within(content[field.start : field.end], rng))
    return content[: field.at] + b"".join(part.chunks) + content[field.end :]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four things done to it, now and then over and over."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data) + 1))
        end = min(len(data), at + int(rng.integers(1, 40)))
        match int(rng.integers(0, 8)):
            case 0:
                del data[at:]
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * int(rng.integers(1, 50))
            case 3:
                data[at : at + 1] = varint(int(rng.choice(np.array(EXTREMES, np.uint64))))
            case 4:
                data[at:end] = rng.bytes(end - at)
            case 5:
                data[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 6:
                data[at:at] = varint(len(data) - at)
            case 7:
                whole = bytes(data)
                data[:0] = b"\xa2\x06" + varint(len(whole)) if rng.integers(2) else whole
        data = data[:20_000]
    return bytes(data)


def broken(case: Case, data: bytes, path: Path) -> Iterator[str]:
    """What is wrong with how a mutant is read."""
    path.write_bytes(data)
    tracemalloc.reset_peak()
    start = time.perf_counter()
    try:
        case.read(path)
    except DataError as fault:
        if not str(fault).startswith(str(path)):
            yield f"does not name the file: {fault}"
    except BaseException as fault:
        yield f"{type(fault).__name__}: {fault}"
    if time.perf_counter() - start > SECONDS:
        yield f"took {time.perf_counter() - start:.1f} s"
    if tracemalloc.get_traced_memory()[1] > case.memory:
        yield f"took {tracemalloc.get_traced_memory()[1]:,} bytes"


def fuzz(count: int, seed: int, folder: Path, keep: Path | None = None) -> list[str]:
    """Reads so many mutants; what was wrong with them."""
    spec = folder / "net.net"
    spec.write_text(SPEC)
    known = cases(elaborate(read(str(spec))).test.net)
    faults = [f"{case.name}: {text}" for case in known for text in broken_as_it_is(case, folder)]
    tracemalloc.start()
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        case = known[i % len(known)]
        data = mutated(case.content, rng)
        for text in broken(case, data, folder / "mutant"):
            faults.append(f"{case.name}, mutant {i} of seed {seed}: {text}")
            if keep is not None:
                keep.mkdir(exist_ok=True)
                (keep / f"{seed}-{i}").write_bytes(data)
    tracemalloc.stop()
    return faults


def broken_as_it_is(case: Case, folder: Path) -> Iterator[str]:
    """A file that is whole is read."""
    path = folder / "whole"
    path.write_bytes(case.content)
    try:
        case.read(path)
    except DataError as fault:
        yield str(fault)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("mutants"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = fuzz(options.count, options.seed, Path(folder), options.keep)
    print("\n".join(faults[:50]))
    print(f"{options.count:,} mutants, {len(faults):,} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
