"""Images: right pixels, every damaged PNG refused, nothing decoded that was not asked for."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.data import open_dataset, read_image
from netspec.data.files.image import decode_bytes, strict
from netspec.data.files.png import SIGNATURE, check_png
from netspec.diagnostics import DataError

Build = Callable[..., Path]
Pixels = np.ndarray[Any, Any]

GREY = np.random.default_rng(1).integers(0, 256, (6, 5)).astype(np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (6, 5, 3)).astype(np.uint8)


def load(path: Path, shape: tuple[int, ...]) -> Pixels:
    with strict():
        return decode_bytes(path, path.read_bytes(), shape, "RGB")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG written by hand from its unpacked rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(parts)


def save(path: Path, array: Pixels, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


class TestFolder:
    def test_classes_are_sorted_and_labels_follow(self, image_folder: Build) -> None:
        root = image_folder(
            dog__a_png=GREY, cat__b_png=GREY + 1, cat__a_png=GREY + 2, cat__c__d_png=GREY
        )
        (root / ".hidden").mkdir()
        (root / "cat/.x.png").write_bytes(b"")
        (root / "cat/notes.txt").write_text("not an image")
        dataset = open_dataset(".", split="train", base=root, shape=(1, 6, 5))
        assert dataset.classes == ("cat", "dog")
        assert dataset.arrays["label"].tolist() == [0, 0, 0, 1]
        expected = np.stack([GREY + 2, GREY + 1, GREY, GREY])[:, np.newaxis]
        assert (dataset.arrays["data"] == expected).all()
        assert dataset.arrays["data"].dtype == np.uint8
        assert dataset.arrays["label"].dtype == np.int64

    def test_the_first_image_decides_without_a_shape(self, image_folder: Build) -> None:
        root = image_folder(a__x_png=RGB, b__x_png=GREY)
        dataset = open_dataset(".", split="train", base=root)
        assert dataset.arrays["data"].shape == (2, 3, 6, 5)
        assert (dataset.arrays["data"][0] == RGB.transpose(2, 0, 1)).all()
        assert (dataset.arrays["data"][1] == GREY).all()

    @pytest.mark.parametrize("test", ["test", "val"])
    def test_splits(self, image_folder: Build, test: str) -> None:
        root = image_folder(
            train__a__1_png=GREY, train__b__1_png=GREY, train__c__1_png=GREY,
            **{f"{test}__c__1_png": GREY, f"{test}__a__2_png": GREY, "extra__z__1_png": GREY},
        )  # fmt: skip
        train = open_dataset(".", split="train", base=root)
        held_out = open_dataset(".", split="test", base=root)
        assert train.classes == held_out.classes == ("a", "b", "c")
        assert train.arrays["label"].tolist() == [0, 1, 2]
        assert held_out.arrays["label"].tolist() == [0, 2], "labels are those of training"

    def test_a_missing_split(self, image_folder: Build) -> None:
        root = image_folder(train__a__1_png=GREY)
        with pytest.raises(
            DataError, match="no folder test or val beside that of the train images"
        ):
            open_dataset(".", split="test", base=root)

    def test_a_class_that_training_lacks(self, image_folder: Build) -> None:
        root = image_folder(train__a__1_png=GREY, test__b__1_png=GREY)
        with pytest.raises(DataError, match="test/b: a class that the training images do not have"):
            open_dataset(".", split="test", base=root)

    def test_a_class_whose_name_is_no_text(self, image_folder: Build) -> None:
        root = image_folder(a__1_png=GREY)
        os.mkdir(os.fsencode(root) + b"/\xff")
        with pytest.raises(DataError, match=r"/\\udcff: the name of a class is no UTF-8"):
            open_dataset(".", split="train", base=root)

    def test_a_class_without_images(self, image_folder: Build) -> None:
        root = image_folder(a__1_png=GREY)
        (root / "b").mkdir()
        with pytest.raises(DataError, match=r"/b: no images of this class \(.png, .jpg, .jpeg\)"):
            open_dataset(".", split="train", base=root)

    def test_mixed_sizes_name_file_and_both(self, image_folder: Build) -> None:
        root = image_folder(a__1_png=GREY, b__2_png=GREY[:4])
        with pytest.raises(DataError, match=r"b/2.png: image of 4x5, the input takes 6x5"):
            open_dataset(".", split="train", base=root)
        with pytest.raises(DataError, match=r"a/1.png: image of 6x5, the input takes 32x32"):
            open_dataset(".", split="train", base=root, shape=(3, 32, 32))

    @pytest.mark.parametrize("shape", [(784,), (2, 6, 5), (1, 1, 6, 5)])
    def test_inputs_that_no_image_feeds(self, image_folder: Build, shape: tuple[int, ...]) -> None:
        root = image_folder(a__1_png=GREY)
        with pytest.raises(DataError, match="images feed inputs of 1 or 3 channels"):
            open_dataset(".", split="train", base=root, shape=shape)

    def test_formats_that_are_not_read_are_not_passed_over(self, image_folder: Build) -> None:
        root = image_folder(a__1_png=GREY)
        (root / "a/2.WEBP").write_bytes(b"")
        with pytest.raises(
            DataError, match=r"a/2.WEBP: images are read from .png, .jpg, .jpeg only"
        ):
            open_dataset(".", split="train", base=root)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no folders in it"):
            open_dataset(".", split="train", base=tmp_path)

    def test_large_images_are_decoded_by_threads(self, tmp_path: Path) -> None:
        for i in range(150):
            (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
            save(tmp_path / f"{i % 2}/{i // 2:03}.png", np.full((128, 130), i, np.uint8))
        dataset = open_dataset(".", split="train", base=tmp_path)
        assert dataset.arrays["data"][:, 0, 0, 0].tolist() == [*range(0, 150, 2), *range(1, 150, 2)]
        bad = tmp_path / "1/070.png"
        bad.write_bytes(bad.read_bytes()[:-30])
        with pytest.raises(DataError, match=r"1/070.png: byte .* truncated"):
            open_dataset(".", split="train", base=tmp_path)

    def test_more_than_fits_in_memory(self, image_folder: Build, monkeypatch: Any) -> None:
        root = image_folder(a__1_png=GREY)
        monkeypatch.setattr(os, "sysconf", lambda _: 5)
        with pytest.raises(DataError, match="1 samples of 1x6x5 take 30 bytes, more than this"):
            open_dataset(".", split="train", base=root)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_a_folder_that_may_not_be_read(self, image_folder: Build) -> None:
        root = image_folder(a__1_png=GREY)
        (root / "a").chmod(0)
        with pytest.raises(DataError, match="cannot be read"):
            open_dataset(".", split="train", base=root)
        (root / "a").chmod(0o700)


class TestPixels:
    def test_channels(self, tmp_path: Path) -> None:
        """Grey is ITU-R 601-2 luma, L = R 299/1000 + G 587/1000 + B 114/1000."""
        path = save(tmp_path / "x.png", RGB)
        assert (load(path, (3, 6, 5)) == RGB.transpose(2, 0, 1)).all()
        luma = RGB @ np.array([0.299, 0.587, 0.114])
        assert np.abs(load(path, (1, 6, 5))[0] - luma).max() <= 1
        grey = save(tmp_path / "y.png", GREY)
        assert (load(grey, (3, 6, 5)) == GREY).all()

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    def test_modes_of_png(self, tmp_path: Path, mode: str) -> None:
        path = save(tmp_path / "x.png", (RGB > 127).astype(np.uint8) * 255, mode)
        assert load(path, (3, 6, 5)).shape == (3, 6, 5)
        assert load(path, (1, 6, 5)).shape == (1, 6, 5)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_modes_of_jpeg(self, tmp_path: Path, mode: str) -> None:
        path = save(tmp_path / "x.jpg", np.full((6, 5, 3), 100, np.uint8), mode, quality=100)
        assert np.abs(load(path, (3, 6, 5)).astype(int) - 100).max() <= 2

    def test_transparency_lies_on_black(self, tmp_path: Path) -> None:
        rgba = np.full((6, 5, 4), 200, np.uint8)
        rgba[:, :, 3] = np.arange(5) * 50
        pixels = load(save(tmp_path / "x.png", rgba), (1, 6, 5))
        assert np.abs(pixels[0, 0] - np.arange(5) * 50 * 200 / 255).max() <= 1
        image = Image.fromarray(GREY // 255 + 3).convert("P")
        image.save(tmp_path / "p.png", transparency=3)
        assert (load(tmp_path / "p.png", (3, 6, 5))[:, GREY < 255] == 0).all()

    def test_16_bits_are_refused_where_pillow_would_clip(self, tmp_path: Path) -> None:
        path = save(tmp_path / "x.png", (GREY.astype(np.uint16) << 8))
        with pytest.raises(DataError, match=r"mode I;16; at most 8 bits"):
            load(path, (1, 6, 5))

    def test_the_name_does_not_decide_the_format(self, tmp_path: Path) -> None:
        path = save(tmp_path / "x.jpg", GREY, format="PNG")
        assert (load(path, (1, 6, 5)) == GREY).all()
        for form in ("GIF", "BMP", "TIFF", "PPM"):
            save(path, GREY, format=form)
            with pytest.raises(DataError, match="neither PNG nor JPEG"):
                load(path, (1, 6, 5))


class TestPredictionInput:
    def test_as_it_is(self, tmp_path: Path) -> None:
        picture = read_image(save(tmp_path / "x.png", RGB), (3, 6, 5))
        assert (picture.pixels == RGB.transpose(2, 0, 1)).all()
        assert picture.pixels.dtype == np.uint8
        assert picture.size == (6, 5)
        assert not picture.resized

    @pytest.mark.parametrize("channels", [1, 3])
    def test_resized_and_said_so(self, tmp_path: Path, channels: int) -> None:
        picture = read_image(save(tmp_path / "x.png", RGB), (channels, 28, 14))
        assert picture.pixels.shape == (channels, 28, 14)
        assert picture.size == (6, 5)
        assert picture.resized
        flat = read_image(save(tmp_path / "y.png", np.full((90, 70), 77, np.uint8)), (1, 28, 28))
        assert (flat.pixels == 77).all()

    def test_faults(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read: No such file"):
            read_image(tmp_path / "none.png", (1, 28, 28))
        with pytest.raises(DataError, match="is a folder, not a file"):
            read_image(tmp_path, (1, 28, 28))
        with pytest.raises(DataError, match="is not a name"):
            read_image(tmp_path / "a\0b", (1, 28, 28))
        with pytest.raises(DataError, match="images feed inputs of 1 or 3"):
            read_image(save(tmp_path / "x.png", RGB), (784,))


class TestDamage:
    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    @pytest.mark.parametrize("extent", [(1, 1), (3, 5), (8, 8), (17, 9)])
    def test_whole_pngs_pass(
        self, tmp_path: Path, mode: str, extent: Any, interlaced: bool
    ) -> None:
        """The count of rows is right for every kind; interlaced ones are written by hand."""
        height, width = extent
        array = np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)
        path = save(tmp_path / "x.png", array, mode)
        data = adam7(array[:, :, 0]) if interlaced else path.read_bytes()
        check_png(path, data)
        if interlaced:
            path.write_bytes(data)
            assert (load(path, (1, height, width))[0] == array[:, :, 0]).all()

    def test_every_truncation_of_png(self, tmp_path: Path) -> None:
        path = save(tmp_path / "x.png", RGB)
        whole = path.read_bytes()
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=r"x\.png: "):
                load(path, (3, 6, 5))

    def test_every_bit_of_png(self, tmp_path: Path) -> None:
        path = save(tmp_path / "x.png", GREY)
        whole = path.read_bytes()
        for place in range(len(whole)):
            for bit in range(8):
                changed = whole[:place] + bytes((whole[place] ^ 1 << bit,)) + whole[place + 1 :]
                path.write_bytes(changed)
                with pytest.raises(DataError, match=r"x\.png: "):
                    load(path, (1, 6, 5))

    def test_every_truncation_of_jpeg(self, tmp_path: Path) -> None:
        path = save(tmp_path / "x.jpg", RGB, quality=90)
        whole = path.read_bytes()
        for cut in range(len(whole) - 2):  # without its end mark alone, a JPEG has all its pixels
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=r"x\.jpg: "):
                load(path, (3, 6, 5))

    @pytest.mark.parametrize("rows", [0, 1, 10, 63])
    def test_missing_rows_that_pillow_leaves_black(self, tmp_path: Path, rows: int) -> None:
        path = tmp_path / "x.png"
        path.write_bytes(png(64, 64, (b"\0" + b"\xff" * 64) * rows))
        if rows:
            assert np.asarray(Image.open(path))[rows:].max() == 0, "Pillow says nothing"
        with pytest.raises(
            DataError, match=f"rows are missing: .* 4,160 bytes of .* {rows * 65:,}$"
        ):
            load(path, (1, 64, 64))

    def test_more_rows_than_declared(self, tmp_path: Path) -> None:
        path = tmp_path / "x.png"
        path.write_bytes(png(64, 64, bytes(65 * 65)))
        with pytest.raises(DataError, match="4,160 bytes of pixels, found more"):
            load(path, (1, 64, 64))

    @pytest.mark.parametrize("side", [9000, 13_000, 20_000, 2**31 - 1])
    def test_bombs_are_refused_before_they_unpack(self, tmp_path: Path, side: int) -> None:
        """10 kB that declare up to 2^62 pixels."""
        path = tmp_path / "x.png"
        path.write_bytes(png(side, side, bytes(10_000_000)))
        with pytest.raises(DataError, match=r"x\.png: .*(pixels|input takes)"):
            load(path, (1, 28, 28))
        with pytest.raises(DataError, match=r"x\.png: .*pixels"):
            read_image(path, (1, 28, 28))

    def test_a_zlib_bomb_behind_a_small_header(self, tmp_path: Path) -> None:
        path = tmp_path / "x.png"
        path.write_bytes(png(28, 28, bytes(1 << 28)))
        with pytest.raises(DataError, match="812 bytes of pixels, found more"):
            load(path, (1, 28, 28))


def adam7(array: Pixels) -> bytes:
    """An interlaced PNG of a grey image; Pillow does not write any."""
    height, width = array.shape
    rows = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                         (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip
        part = array[y::dy, x::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(parts)
