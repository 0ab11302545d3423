"""Caffe's databases: pages of LMDB, Datums of every kind, and what is wrong with them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from netspec.data import check_order, open_dataset, probe
from netspec.data.files.lmdb import records
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection
from netspec.ir.transform import Transform

from .conftest import datum, image_bytes

Write = Callable[..., Path]

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 3, 4, 6)).astype(np.uint8)
COLOURS = PIXELS.transpose(0, 2, 3, 1)


def section(**transform: Any) -> DataSection:
    return DataSection(source="set", batch_size=1, transform=Transform(**transform))


class TestPages:
    @pytest.mark.parametrize(
        ("count", "length"),
        [(0, 0), (1, 0), (3, 1), (300, 40), (400, 2030), (50, 9000), (6000, 10)],
    )
    def test_records_are_those_of_the_library(
        self, tmp_path: Path, count: int, length: int
    ) -> None:
        """Pages of their own, deep trees, and what is left when records are deleted."""
        made = RNG.integers(0, 256, (count, length)).astype(np.uint8)
        with lmdb.open(str(tmp_path), map_size=1 << 28) as environment:
            with environment.begin(write=True) as transaction:
                for i in RNG.permutation(count):
                    transaction.put(b"%d" % i, made[i].tobytes())
            with environment.begin(write=True) as transaction:
                for i in range(0, count, 7):
                    transaction.delete(b"%d" % i)
            with environment.begin() as transaction:
                expected = list(transaction.cursor())
        found = [(key, bytes(value)) for key, value in records(tmp_path / "data.mdb")]
        assert found == expected

    def test_every_truncation(self, database: Write) -> None:
        """With the library each of these ends the process."""
        file = database(*(datum(x) for x in PIXELS)) / "data.mdb"
        whole = file.read_bytes()
        for cut in [*range(0, 200, 7), *range(200, len(whole), 509)]:
            file.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=r"data\.mdb: .*(truncated|empty|header)"):
                open_dataset("set", split="train", base=file.parents[1])

    def test_pages_in_circles(self, database: Write) -> None:
        file = database(*(datum(np.tile(x, 9)) for x in PIXELS for _ in range(40))) / "data.mdb"
        whole = bytearray(file.read_bytes())
        size = 4096
        branches = [p for p in range(2, len(whole) // size) if whole[p * size + 10] & 1]
        (root,) = branches
        for node in struct.unpack_from("<9H", whole, root * size + 16):
            struct.pack_into("<HHH", whole, root * size + node, root, 0, 0)
        file.write_bytes(whole)
        with pytest.raises(DataError, match=r"damaged: page \d+: is of kind 1"):
            list(records(file))

    def test_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "data.mdb").write_bytes(bytes(9000))
        with pytest.raises(DataError, match="byte 16: not an LMDB file of a 64-bit machine"):
            open_dataset(".", split="train", base=tmp_path)
        with lmdb.open(str(tmp_path / "many"), map_size=1 << 20, max_dbs=2) as environment:
            environment.open_db(b"inner")
        with pytest.raises(DataError, match="a database within"):
            open_dataset("many", split="train", base=tmp_path)

    def test_leveldb_is_named_with_the_way_out(self, tmp_path: Path) -> None:
        (tmp_path / "CURRENT").write_text("MANIFEST-000002\n")
        (tmp_path / "MANIFEST-000002").write_bytes(b"")
        for call in (lambda: open_dataset(".", split="train", base=tmp_path),
                     lambda: probe(".", tmp_path)):  # fmt: skip
            with pytest.raises(DataError, match=r"LEVELDB, which is not read: .*convert_imageset"):
                call()


class TestDatums:
    def test_bytes(self, database: Write) -> None:
        folder = database(*(datum(x, i) for i, x in enumerate(PIXELS)))
        dataset = open_dataset("set", split="train", base=folder.parent)
        np.testing.assert_array_equal(dataset.arrays["data"], PIXELS)
        assert dataset.arrays["data"].dtype == np.uint8
        assert dataset.arrays["label"].tolist() == [0, 1, 2, 3, 4]
        assert probe("set", folder.parent) == {"data": (3, 4, 6), "label": ()}
        file = open_dataset("set/data.mdb", split="train", base=folder.parent)
        np.testing.assert_array_equal(file.arrays["data"], PIXELS)

    def test_floats(self, database: Write) -> None:
        values = (PIXELS / 7).astype(np.float32)
        folder = database(*(datum(floats=x, label=300) for x in values))
        dataset = open_dataset("set", split="test", base=folder.parent)
        np.testing.assert_array_equal(dataset.arrays["data"], values)
        assert set(dataset.arrays["label"]) == {300}

    def test_encoded_images_are_bgr(self, database: Write) -> None:
        folder = database(*(datum(encoded=image_bytes(x)) for x in COLOURS))
        dataset = open_dataset("set", split="train", base=folder.parent)
        np.testing.assert_array_equal(dataset.arrays["data"], PIXELS[:, ::-1])
        said = section(channel_order="RGB")
        dataset = open_dataset("set", split="train", base=folder.parent, section=said)
        np.testing.assert_array_equal(dataset.arrays["data"], PIXELS)
        assert probe("set", folder.parent) == {"data": (3, 4, 6), "label": ()}

    def test_colours_that_change_take_a_known_order(self, database: Write) -> None:
        folder = database(*(datum(x) for x in PIXELS))
        said = section(hue=0.1).model_copy(update={"source": folder.name})
        with pytest.raises(DataError, match="hue take red for red: say `channel_order: BGR`"):
            check_order(said, folder.parent)
        for known in (section(hue=0.1, channel_order="RGB"), section(brightness=0.1)):
            check_order(known.model_copy(update={"source": folder.name}), folder.parent)

    def test_colours_are_forced(self, database: Write) -> None:
        folder = database(*(datum(encoded=image_bytes(x)) for x in COLOURS))
        grey = section(force_gray=True)
        made = open_dataset("set", split="train", base=folder.parent, section=grey)
        luma = COLOURS @ np.array([0.299, 0.587, 0.114])
        assert np.abs(made.arrays["data"][:, 0] - luma).max() <= 1
        assert probe(grey, folder.parent) == {"data": (1, 4, 6), "label": ()}
        folder = database(*(datum(encoded=image_bytes(x[:, :, 0])) for x in COLOURS), name="grey")
        assert probe("grey", folder.parent) == {"data": (1, 4, 6), "label": ()}
        colour = DataSection(source="grey", batch_size=1, transform=Transform(force_color=True))
        assert probe(colour, folder.parent) == {"data": (3, 4, 6), "label": ()}

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            (datum(PIXELS[0, :1]), "bytes of 1x4x6, where the first holds bytes of 3x4x6"),
            (datum(floats=PIXELS[0]), "values of 3x4x6, where the first holds bytes of"),
            (datum(encoded=b"x"), "an encoded image of 0x0x0, where the first"),
            (datum(PIXELS[0])[:-2] + b"\x28", "byte 81: truncated within an integer"),
            (datum(PIXELS[0]).replace(b"\x10\x04", b"\x10\x05"), "takes 90 bytes, 72 are there"),
            (datum(PIXELS[0]).replace(b"\x10\x04", b"\x10\x00"), "an image of 3x0x6"),
            (b"", "an image of 0x0x0"),
            (datum(floats=np.full((3, 4, 6), np.inf)), "not a finite number"),
        ],
    )
    def test_faults_name_the_key(self, database: Write, second: bytes, message: str) -> None:
        folder = database(datum(PIXELS[0]), second)
        with pytest.raises(DataError, match=rf"set: key 00000001: .*{message}"):
            open_dataset("set", split="train", base=folder.parent)

    def test_faults_of_encoded_ones(self, database: Write) -> None:
        first = datum(encoded=image_bytes(COLOURS[0]))
        for second, message in (
            (datum(PIXELS[0]), "not encoded, as the first is"),
            (datum(encoded=b"\x89PNG\r\n\x1a\n"), "neither PNG nor JPEG"),
            (datum(encoded=image_bytes(COLOURS[0][:2])), "image of 2x6, the input takes 4x6"),
        ):
            folder = database(first, second, name=message[:5])
            with pytest.raises(DataError, match=f"key 00000001: {message}"):
                open_dataset(folder.name, split="train", base=folder.parent)

    def test_more_than_fits_in_memory(
        self, database: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = database(*(datum(x) for x in PIXELS))
        monkeypatch.setattr(os, "sysconf", lambda _: 18)
        with pytest.raises(DataError, match="5 samples of 3x4x6 take 360 bytes, more than this"):
            open_dataset("set", split="train", base=folder.parent)

    def test_none(self, database: Write) -> None:
        folder = database()
        with pytest.raises(DataError, match="set: holds no samples"):
            open_dataset("set", split="train", base=folder.parent)


def test_random_damage_raises_nothing_but_data_errors(database: Write) -> None:
    file = database(*(datum(np.tile(x, 9), i) for i, x in enumerate(PIXELS))) / "data.mdb"
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    used = [place for place in range(len(whole)) if whole[place]]
    for _ in range(1500):
        mutant = bytearray(whole)
        for place in rng.choice(used, 3):
            mutant[place] = int(rng.integers(256))
        file.write_bytes(mutant)
        try:
            open_dataset("set", split="train", base=file.parents[1])
        except DataError:
            continue
