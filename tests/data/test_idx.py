"""IDX files: right ones are read exactly, wrong ones refused with file and offset."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.data import open_dataset
from netspec.data.formats.idx import read_idx
from netspec.diagnostics import DataError

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"

Pixels = np.ndarray[Any, Any]


def read(folder: Path, split: str = "train", source: str = ".") -> Any:
    return open_dataset(source, split=split, base=folder)


@pytest.mark.parametrize("folder", ["idx_folder", "packed_folder"])
def test_reads_plain_and_gzip(folder: str, pixels: Pixels, request: pytest.FixtureRequest) -> None:
    dataset = read(request.getfixturevalue(folder))
    assert len(dataset) == 3
    assert dataset.arrays["data"].dtype == np.uint8
    assert dataset.arrays["data"].shape == (3, 1, 4, 5)
    assert (dataset.arrays["data"][:, 0] == pixels).all()
    assert dataset.arrays["label"].dtype == np.int64
    assert dataset.arrays["label"].tolist() == [2, 0, 1]
    assert dataset.classes == ()


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "test-images-idx3-ubyte"])
def test_names_of_the_test_files(idx_folder: Path, name: str) -> None:
    for part in ("images-idx3", "labels-idx1"):
        new = name.replace("images-idx3", part)
        (idx_folder / f"train-{part}-ubyte").rename(idx_folder / new)
    assert len(read(idx_folder, "test")) == 3
    assert len(read(idx_folder, "test", source=name)) == 3
    with pytest.raises(DataError, match=r"no train-images-idx3-ubyte\[.gz\], the train images"):
        read(idx_folder, "train")


def test_names_with_a_dot_and_an_images_file_as_the_source(idx_folder: Path) -> None:
    (idx_folder / IMAGES).rename(idx_folder / "train-images.idx3-ubyte")
    (idx_folder / LABELS).rename(idx_folder / "train-labels.idx1-ubyte")
    assert len(read(idx_folder)) == 3
    assert len(read(idx_folder, source="train-images.idx3-ubyte")) == 3


def test_images_and_labels_need_not_both_be_packed(idx_folder: Path) -> None:
    labels = idx_folder / LABELS
    (idx_folder / (LABELS + ".gz")).write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    assert read(idx_folder).arrays["label"].tolist() == [2, 0, 1]


def test_gzip_is_known_by_its_content(packed_folder: Path) -> None:
    for path in list(packed_folder.iterdir()):
        path.rename(path.with_suffix(""))
    assert len(read(packed_folder)) == 3


def test_missing_labels_are_named(idx_folder: Path) -> None:
    (idx_folder / LABELS).unlink()
    with pytest.raises(DataError, match=rf"{IMAGES}: no {LABELS}\[.gz\] beside it"):
        read(idx_folder)
    (idx_folder / "digits.idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="with `images` in its name"):
        read(idx_folder, source="digits.idx3-ubyte")


def test_counts_must_agree(idx_folder: Path) -> None:
    (idx_folder / LABELS).write_bytes(b"\0\0\x08\x01\0\0\0\x02\1\2")
    with pytest.raises(DataError, match=rf"2 labels for the 3 images of {IMAGES}"):
        read(idx_folder)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_every_truncation_is_refused_with_its_offset(idx_folder: Path, name: str) -> None:
    whole = (idx_folder / name).read_bytes()
    for cut in range(len(whole)):
        (idx_folder / name).write_bytes(whole[:cut])
        with pytest.raises(DataError, match=f"{name}: byte {cut}: truncated"):
            read(idx_folder)


def test_every_truncation_of_gzip_is_refused(packed_folder: Path) -> None:
    path = packed_folder / (IMAGES + ".gz")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=f"{path.name}: byte "):
            read(packed_folder)


def test_every_header_byte_of_every_value_is_refused(idx_folder: Path) -> None:
    for name, length in ((IMAGES, 16), (LABELS, 8)):
        whole = (idx_folder / name).read_bytes()
        for place in range(length):
            for value in range(256):
                if value != whole[place]:
                    changed = whole[:place] + bytes((value,)) + whole[place + 1 :]
                    (idx_folder / name).write_bytes(changed)
                    with pytest.raises(DataError, match=f"{name}: byte "):
                        read(idx_folder)
        (idx_folder / name).write_bytes(whole)
    assert len(read(idx_folder)) == 3


def test_trailing_bytes_are_refused(idx_folder: Path, pixels: Pixels) -> None:
    path = idx_folder / IMAGES
    whole = path.read_bytes()
    for extra in (b"\0", b"x" * 5000):
        path.write_bytes(whole + extra)
        with pytest.raises(DataError, match=r"byte 76: the file goes on after 3 images of 4x5"):
            read(idx_folder)
        path.write_bytes(gzip.compress(whole + extra))
        with pytest.raises(DataError, match=r"byte 76 of the unpacked data: the file goes on"):
            read(idx_folder)
    path.write_bytes(gzip.compress(whole) + gzip.compress(b""))
    assert (read(idx_folder).arrays["data"][:, 0] == pixels).all()
    path.write_bytes(gzip.compress(whole) + b"junk")
    with pytest.raises(DataError, match=r"byte 76 of the unpacked data: damaged"):
        read(idx_folder)


def test_a_header_of_2_to_the_96_bytes(tmp_path: Path) -> None:
    lie = b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100)
    path = tmp_path / IMAGES
    path.write_bytes(lie)
    with pytest.raises(DataError, match=r"byte 116: truncated: 4,294,967,295 images .* 100 are"):
        read_idx(path, axes=3, what="images")
    path.write_bytes(gzip.compress(lie))
    with pytest.raises(DataError, match=r"byte 16 of the unpacked data: .* over 200 times the"):
        read_idx(path, axes=3, what="images")


def test_what_is_no_unsigned_byte_image(tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    path.write_bytes(struct.pack(">4B3I", 0, 0, 0x0D, 3, 1, 1, 1) + bytes(4))
    with pytest.raises(DataError, match=r"byte 0: magic number 00 00 0d 03 is not .* 00 00 08 03"):
        read_idx(path, axes=3, what="images")
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28))
    with pytest.raises(DataError, match=r"byte 4: the header declares 0x28x28 images"):
        read_idx(path, axes=3, what="images")


def test_a_folder_a_pipe_or_a_device_in_place_of_a_file(idx_folder: Path) -> None:
    import os

    path = idx_folder / LABELS
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        read(idx_folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a file"):
        read(idx_folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is not a file"):
        read(idx_folder)


def bomb(path: Path, header: bytes) -> None:
    """One GiB of zeros behind a header, in one MiB of gzip."""
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header)
        for _ in range(1024):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">4B3I", 0, 0, 8, 3, 1 << 10, 1 << 10, 1 << 10),
        struct.pack(">4B3I", 0, 0, 8, 3, 3, 4, 5),
        struct.pack(">4B3I", 0, 0, 8, 3, 60, 1000, 1000),
        b"",
    ],
    ids=["honest", "trailing", "60 MB", "no header"],
)
def test_a_gzip_bomb_costs_nothing(tmp_path: Path, header: bytes) -> None:
    """1 MiB that unpacks to 1 GiB: refused in half a second, in less than 100 MiB more."""
    path = tmp_path / IMAGES
    bomb(path, header)
    assert path.stat().st_size < 1.1e6
    script = textwrap.dedent(f"""
        import resource, time
        from pathlib import Path
        from netspec.data.formats.idx import read_idx
        from netspec.diagnostics import DataError
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        try:
            read_idx(Path({str(path)!r}), axes=3, what="images")
        except DataError as e:
            print(time.process_time() - start)
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """)
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    seconds, mebibytes = map(float, out.split())
    assert seconds < 0.5
    assert mebibytes < 100
