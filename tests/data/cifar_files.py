"""CIFAR's four forms, small, written by hand: as the published files are, byte for byte."""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

TEN = b"airplane automobile bird cat deer dog frog horse ship truck".split()
COARSE = [b"kind_%d" % i for i in range(20)]
FINE = [b"thing_%d" % i for i in range(100)]


def images(count: int, seed: int = 0) -> Bytes:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)


def records(pixels: Bytes, *labels: list[int]) -> bytes:
    """A batch of the binary version: the labels of an image, then its planes."""
    columns = [np.array(each, np.uint8)[:, np.newaxis] for each in labels]
    return np.concatenate([*columns, pixels.reshape(len(pixels), -1)], 1).tobytes()


class Python2:
    """Writes what Python 2's cPickle writes, protocol 2: every object is put into the memo."""

    def __init__(self) -> None:
        self.made = b"\x80\x02"
        self.puts = 0

    def put(self) -> bytes:
        self.puts += 1
        number = self.puts
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def integer(self, value: int) -> bytes:
        if 0 <= value < 256:
            return b"K" + bytes([value])
        if 0 <= value < 65536:
            return b"M" + struct.pack("<H", value)
        return b"J" + struct.pack("<i", value)

    def text(self, value: bytes) -> bytes:
        short = len(value) < 256
        head = b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))
        return head + value + self.put()

    def value(self, value: Any) -> bytes:
        match value:
            case int():
                return self.integer(value)
            case bytes():
                return self.text(value)
            case list():
                made = b"]" + self.put()
                for start in range(0, len(value), 1000):
                    made += b"(" + b"".join(map(self.value, value[start : start + 1000])) + b"e"
                return made
            case dict():
                made = b"}" + self.put() + b"("
                return (
                    made + b"".join(self.text(k) + self.value(v) for k, v in value.items()) + b"u"
                )
            case np.ndarray():
                return self.array(value)
        raise TypeError(value)

    def array(self, array: Bytes) -> bytes:
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + self.put()
        made += b"cnumpy\nndarray\n" + self.put() + b"K\x00\x85" + b"U\x01b\x87R" + self.put()
        shape = b"".join(map(self.integer, array.shape)) + b"\x86" + self.put()
        kind = b"cnumpy\ndtype\n" + self.put() + b"U\x02u1K\x00K\x01\x87R" + self.put()
        kind += b"(K\x03U\x01|" + self.put() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        return made + b"(K\x01" + shape + kind + b"\x89" + self.text(array.tobytes()) + b"tb"


def pickled(value: Any) -> bytes:
    writer = Python2()
    return writer.made + writer.value(value) + b"."


def ten(pickles: bool = False, count: int = 3) -> dict[str, bytes]:
    """The files of CIFAR-10, so many images in each."""
    files = {}
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels, labels = images(count, i), [(i + j) % 10 for j in range(count)]
        if pickles:
            names = [b"image_%d.png" % j for j in range(count)]
            batch = {b"batch_label": b"training batch", b"labels": labels,
                     b"data": pixels.reshape(count, -1), b"filenames": names}  # fmt: skip
            files[name] = pickled(batch)
        else:
            files[f"{name}.bin"] = records(pixels, labels)
    if pickles:
        meta = {b"num_cases_per_batch": 10000, b"label_names": TEN, b"num_vis": 3072}
        return {**files, "batches.meta": pickled(meta)}
    return {**files, "batches.meta.txt": b"\n".join(TEN) + b"\n\n", "readme.html": b"<a>"}


def hundred(pickles: bool = False, count: int = 3) -> dict[str, bytes]:
    """The files of CIFAR-100, so many images in each."""
    files = {}
    for i, name in enumerate(("train", "test")):
        pixels = images(count, i)
        fine, coarse = [99 - j for j in range(count)], [19 - j for j in range(count)]
        if pickles:
            batch = {b"filenames": [b"a.png"] * count, b"batch_label": b"training",
                     b"fine_labels": fine, b"coarse_labels": coarse,
                     b"data": pixels.reshape(count, -1)}  # fmt: skip
            files[name] = pickled(batch)
        else:
            files[f"{name}.bin"] = records(pixels, coarse, fine)
    if pickles:
        meta = {b"fine_label_names": FINE, b"coarse_label_names": COARSE}
        return {**files, "meta": pickled(meta)}
    names = {"fine_label_names.txt": FINE, "coarse_label_names.txt": COARSE}
    return {**files, **{name: b"\n".join(lines) + b"\n" for name, lines in names.items()}}


def tarred(files: dict[str, bytes], folder: str = "cifar", mode: str = "w:gz") -> bytes:
    """An archive of the files in a folder, by Python's own writer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
