"""Mutates data files and reads them: `python tests/data/fuzz.py --count 100000 [--format npz png]`.

A reader may raise DataError and nothing else. In the formats with checksums (gzip, npz, PNG) what
it does read must be what was there before; a mutant that breaks this is kept in `--keep`. With
`--locked` each source has a manifest first, as `netspec data lock` writes it, and then every mutant
of every format must be refused.
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
from cifar_files import hundred, tarred, ten
from PIL import Image

from netspec.data import manifest_for, open_dataset
from netspec.data.dataset import Dataset
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 4, 5)).astype(np.uint8)
IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 3, 4, 5) + PIXELS.tobytes()
LABELS = struct.pack(">4BI3B", 0, 0, 8, 1, 3, 2, 0, 1)


def picture(form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    colours = np.random.default_rng(1).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    image = Image.fromarray(colours)
    (image.quantize(16) if options.pop("palette", False) else image).save(buffer, form, **options)
    return buffer.getvalue()


def archive(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    data = np.arange(24, dtype=np.float64).reshape(3, 8)
    save(buffer, data=data, label=np.arange(3), classes=np.array(["a", "b", "c"]))
    return buffer.getvalue()


def database(**fields: bytes) -> bytes:
    """An LMDB of three Datums of 3x9x8."""
    head = bytes((0x08, 3, 0x10, 9, 0x18, 8, 0x28, 1))
    with tempfile.TemporaryDirectory() as folder:
        with (
            lmdb.open(folder, map_size=1 << 20) as environment,
            environment.begin(write=True) as transaction,
        ):
            for i in range(3):
                transaction.put(b"%d" % i, head + b"".join(fields.values()))
        return (Path(folder) / "data.mdb").read_bytes()


def framed(content: bytes) -> bytes:
    """The field `data` of a Datum, of 128 to 16,383 bytes."""
    return bytes((0x22, len(content) & 0x7F | 0x80, len(content) >> 7)) + content


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["data"], file["label"] = PIXELS / 7, np.arange(3.0)
    return buffer.getvalue()


def pictures() -> bytes:
    """A zip of two classes, one image stored and one deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("set/train/a/1.png", picture("PNG"))
        archive.writestr("set/train/b/1.png", picture("PNG"), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def within(files: dict[str, bytes], name: str) -> Case:
    """One of the files of a folder."""
    beside = {f"set/{other}": content for other, content in files.items() if other != name}
    return Case(f"set/{name}", files[name], beside, "set", False)


TABLE = b"""label,"a b",box[0],box[1]
x,1.5,-2e3,0
"y, z",.25,7,8
x,3,1,"2"
"""


@dataclass(frozen=True)
class Case:
    """A file to mutate, the files beside it, and whether its format notices every change."""

    name: str
    content: bytes
    beside: dict[str, bytes]
    source: str
    checked: bool


SOURCE = "t-images-idx3-ubyte"
CASES = {
    "idx": Case(SOURCE, IMAGES, {"t-labels-idx1-ubyte": LABELS}, SOURCE, False),
    "idx-labels": Case("t-labels-idx1-ubyte", LABELS, {SOURCE: IMAGES}, SOURCE, False),
    "idx.gz": Case(SOURCE, gzip.compress(IMAGES), {"t-labels-idx1-ubyte": LABELS}, SOURCE, True),
    "npz": Case("set.npz", archive(np.savez), {}, "set.npz", True),
    "npz-packed": Case("set.npz", archive(np.savez_compressed), {}, "set.npz", True),
    "png": Case("root/a/1.png", picture("PNG"), {}, "root", True),
    "png-palette": Case("root/a/1.png", picture("PNG", palette=True), {}, "root", True),
    "jpeg": Case("root/a/1.jpg", picture("JPEG"), {}, "root", False),
    "lmdb": Case("set/data.mdb", database(data=b"\x22\xd8\x01" + bytes(216)), {}, "set", False),
    "lmdb-floats": Case("set/data.mdb", database(floats=b"\x35abcd" * 216), {}, "set", False),
    "lmdb-encoded": Case(
        "set/data.mdb", database(encoded=b"\x38\x01", data=framed(picture("PNG"))), {}, "set", False
    ),
    "list": Case(
        "a.txt", b"1.png 2\n1.png 3\n\n1.png 0", {"1.png": picture("PNG")}, "a.txt", False
    ),
    "cifar": within(ten(count=1), "data_batch_1.bin"),
    "cifar-names": within(hundred(count=1), "fine_label_names.txt"),
    "cifar-python": within(ten(pickles=True, count=1), "data_batch_1"),
    "cifar-python-names": within(hundred(pickles=True, count=1), "meta"),
    "cifar.tar": Case("a.tar", tarred(ten(count=1), mode="w"), {}, "a.tar", False),
    "cifar.tar.gz": Case("a.tar.gz", tarred(ten(count=1)), {}, "a.tar.gz", True),
    "zip": Case("a.zip", pictures(), {}, "a.zip", True),
    "csv": Case("a.csv", TABLE, {}, "a.csv", False),
    "csv-images": Case(
        "a.csv", b"1.png,2,3.5\n1.png,3,4\n", {"1.png": picture("PNG")}, "a.csv", False
    ),
    "hdf5": Case("a.h5", hdf5(), {}, "a.h5", False),
    "jpeg-progressive": Case("root/a/1.jpg", picture("JPEG", progressive=True), {}, "root", False),
}


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three flips of a bit, bytes set, cut, doubled, moved, or an end cut off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        place, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
        match int(rng.integers(8)):
            case 0 | 1 | 2:
                data[place] ^= 1 << int(rng.integers(8))
            case 3:
                data[place] = int(rng.integers(256))
            case 4:
                data[place : place + length] = rng.choice([0, 255, 127, 128]).tobytes()[:1] * length
            case 5:
                del data[place : place + length]
            case 6:
                data[place:place] = data[place : place + length]
            case 7:
                del data[place:]
    return bytes(data)


def same(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets hold the same values of the same types under the same names."""
    if one.arrays.keys() != other.arrays.keys() or one.classes != other.classes:
        return False
    pairs = [(one.arrays[name], other.arrays[name]) for name in one.arrays]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def lock(case: Case, folder: Path) -> Path:
    """Write the manifest of a case's files, and return where it is."""
    manifest, text = manifest_for(DataSection(source=case.source, batch_size=1), folder)
    manifest.path.write_text(text)
    return manifest.path


@dataclass
class Fuzz:
    """A case in a folder of its own, and what has become of its mutants."""

    case: Case
    folder: Path
    locked: bool
    verdicts: Counter[str] = field(default_factory=Counter)
    """`manifest` and `reader` refused it; it was `read`; the changes of one that is the `same`
    undid each other; a `fault` is none of these."""
    slowest: float = 0.0
    """Seconds."""

    def __post_init__(self) -> None:
        for name, content in {**self.case.beside, self.case.name: self.case.content}.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)
        self.manifest = str(lock(self.case, self.folder)) if self.locked else None
        self.whole = self.read()

    def read(self) -> Dataset:
        return open_dataset(self.case.source, split="train", base=self.folder)

    def look(self, mutant: bytes) -> str:
        """Read a mutant; what is wrong with that, if anything."""
        (self.folder / self.case.name).write_bytes(mutant)
        start = time.perf_counter()
        verdict, trouble = self._verdict(unchanged=mutant == self.case.content)
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.verdicts[verdict] += 1
        return trouble

    def _verdict(self, *, unchanged: bool) -> tuple[str, str]:
        try:
            found = self.read()
        except DataError as fault:
            if unchanged:
                return "fault", f"refused, though nothing has changed: {fault}"
            return "manifest" if self.manifest and self.manifest in str(fault) else "reader", ""
        except BaseException as fault:
            return "fault", repr(fault)
        if unchanged:
            return "same", ""
        if self.locked:
            return "fault", "read against its manifest"
        if self.case.checked and not same(found, self.whole):
            return "fault", "silently different"
        return "read", ""


def fuzz(name: str, count: int, seed: int, keep: Path | None, *, locked: bool) -> int:
    """Look at mutants of a format, and say what became of them; the faults."""
    with tempfile.TemporaryDirectory() as folder:
        tried = Fuzz(CASES[name], Path(folder), locked)
        start = time.perf_counter()
        for i in range(count):
            mutant = mutate(tried.case.content, np.random.default_rng((seed, i)))
            if trouble := tried.look(mutant):
                print(f"{name}: mutant {seed}/{i}: {trouble}")
                if keep:
                    (keep / f"{seed}-{i}-{Path(tried.case.name).name}").write_bytes(mutant)
        rate = count / (time.perf_counter() - start)
    said = tried.verdicts
    by = f"{said['manifest']:,} by the manifest and " if locked else ""
    print(f"{name}: {count:,} mutants, refused {by}{said['reader']:,} by the reader, "
          f"{said['read']:,} read, {said['same']:,} unchanged, {said['fault']} faults, "
          f"slowest {tried.slowest * 1e3:.0f} ms, {rate:,.0f}/s")  # fmt: skip
    return said["fault"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="mutants per format")
    parser.add_argument("--format", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--locked", action="store_true", help="with a manifest of the files")
    parser.add_argument("--keep", type=Path, help="folder for mutants that found a fault")
    given = parser.parse_args()
    warnings.simplefilter("error")
    faults = [
        fuzz(name, given.count, given.seed, given.keep, locked=given.locked)
        for name in given.format
    ]
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
