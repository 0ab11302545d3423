"""Opens what a data section names: the reader of its format, its manifest, its classes."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from netspec.data.classes import named
from netspec.data.dataset import Dataset, Reader, Wanted
from netspec.data.decoding import in_memory
from netspec.data.file import fault
from netspec.data.formats import cifar, database, folder, hdf5, idx, image_list, npz, table, zipped
from netspec.data.formats.mnist import read_bundled
from netspec.data.manifest import Manifest, beside, parse_manifest, read_manifest, write_text
from netspec.data.reading import Reading
from netspec.diagnostics import suggest
from netspec.grammar import SUFFIXES
from netspec.ir.fields import plain
from netspec.ir.sections import DataSection
from netspec.ir.transform import ColourOrder, Transform
from netspec.ir.types import Shape, TensorType

READERS = (
    npz.READER,
    cifar.READER,
    table.READER,
    idx.READER,
    database.READER,
    hdf5.READER,
    image_list.READER,
    folder.READER,
    zipped.READER,
)
"""The first that claims a path reads it: a folder that is nothing else is one of images."""


def open_dataset(
    source: str,
    *,
    split: str,
    base: Path,
    shape: Shape | None = None,
    section: DataSection | None = None,
    folder: Path | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Read the `train`, `test` or `val` split of a source, a path relative to `base`.

    `mnist` is the bundled digits if no such path exists. `shape` is that of the input `data`,
    C x H x W; images are decoded to it (without it, to that of the first). `section` says how;
    its own paths begin at `folder`. What it says of its own source alone is passed over for
    another one. Images are decoded to memory unless `reading` lets them stay on the disk. Raises
    DataError.
    """
    assert split in ("train", "test", "val")
    section = section or DataSection(batch_size=1)
    cropped = bool(section.transform.crop_size)
    wanted = Wanted(split, section, base if folder is None else folder, shape, cropped)
    if reading is not None:
        wanted = replace(wanted, tolerance=reading.tolerance)
    path = base / source
    if not _exists(path):
        if source == "mnist":
            return _completed(read_bundled(split), section, wanted.folder)
        hint = _close_to(path) or f"; a source is {_forms()}"
        raise fault(path, f"no such file or folder{hint}")
    try:
        reader = _reader(path)
        if source == section.source:
            _refuse(path, reader, section)
        wanted = replace(wanted, manifest=checked_manifest(path, reader, wanted))
        found = reader.read(path, wanted)
        if reading is None or reading.holds(found, section):
            found = in_memory(path, found)
        return _completed(_locked(found, wanted.manifest), section, wanted.folder)
    except OSError as e:
        raise fault(Path(e.filename or path), f"cannot be read: {e.strerror}") from None


def probe(
    section: DataSection | str, base: Path, *, split: str = "train"
) -> dict[str, Shape] | None:
    """The shapes of a sample by array, from the first one alone; None if the source is not there.

    `section` may be its source alone. Images are those that are stored, not yet cropped. Raises
    DataError if what is there cannot be read, UsageError if a package for it is missing.
    """
    if isinstance(section, str):
        section = DataSection(source=section, batch_size=1)
    types = sample_types(section, base, split=split)
    return None if types is None else {name: type.shape for name, type in types.items()}


def sample_types(
    section: DataSection, base: Path, *, split: str = "train"
) -> dict[str, TensorType] | None:
    """What `probe` finds, with the types of the elements."""
    if not section.source:
        return None
    path = base / section.source
    if not _exists(path):
        return None
    try:
        found = _reader(path).probe(path, Wanted(split, section, base))
    except OSError as e:
        raise fault(Path(e.filename or path), f"cannot be read: {e.strerror}") from None
    return {_called(name, found, section): type for name, type in found.items()}


def validates(source: str, base: Path) -> bool:
    """Whether a source holds validation samples beside its test samples."""
    path = base / source
    try:
        return bool(source) and _exists(path) and _reader(path).validates(path)
    except OSError:  # which opening it tells
        return False


def channel_order(section: DataSection, base: Path) -> ColourOrder | None:
    """Which of red and blue comes first in the images of a section, as far as that is known."""
    path = base / section.source
    if section.channel_order or not section.source or not _exists(path):
        return section.channel_order
    return next((reader.order for reader in READERS if reader.claims(path)), None)


def check_order(section: DataSection, base: Path) -> None:
    """Refuse colours to be changed where red and blue are not where the section seems to say.

    DataError: the graph knows the section alone, and an LMDB, as long as nothing else is said,
    holds BGR.
    """
    colours = {*section.transform.coloured} - {"brightness"}
    found = channel_order(section, base)
    if colours and not section.channel_order and found == "BGR":
        raise fault(
            base / section.source,
            f"{', '.join(sorted(colours))} take red for red: say `channel_order: BGR`, as its "
            "images are read, or RGB",
        )


def _reader(path: Path) -> Reader:
    for reader in READERS:
        if reader.claims(path):
            return reader
    raise fault(path, f"of no known format; a source is {_forms()}")


_PARTICULAR = ("label", "root_folder", "new_height", "new_width", "is_color", "cache")
_OF_TRANSFORM = ("force_color", "force_gray")


def _refuse(path: Path, reader: Reader, section: DataSection) -> None:
    """Raise DataError if the section says what its source has no use for."""
    said = {*plain(section)}.intersection(_PARTICULAR)
    said |= {*plain(section.transform)}.intersection(_OF_TRANSFORM)
    for field in sorted(said - reader.takes):
        raise fault(path, f"`{field}` is not for {reader.form}")
    if not reader.transforms and section.transform != Transform():
        raise fault(path, "values from HDF5 take no transform, as in Caffe")


def checked_manifest(path: Path, reader: Reader, wanted: Wanted) -> Manifest | None:
    """The manifest of a source, if it has one, its files known to be those of the manifest."""
    section = wanted.section
    file = wanted.folder / section.manifest if section.manifest else beside(path)
    if not section.manifest and not _exists(file):
        return None
    manifest = read_manifest(file, path)
    whole = reader.files(path, wanted)
    manifest.check_names([*whole, *reader.images(path, wanted)])
    for file in whole:
        manifest.verify_file(file)
    return manifest


def manifest_for(section: DataSection, base: Path) -> tuple[Manifest, str]:
    """A manifest of all that a section's source is now, where it would be looked for; its text.

    Raises DataError.
    """
    path = base / section.source
    if not _exists(path):
        why = "comes with the package" if section.source == "mnist" else "no such file or folder"
        raise fault(path, f"{why}: there is nothing to lock")
    wanted = Wanted("train", section, base)
    try:
        reader = _reader(path)
        files = [*reader.files(path, wanted), *reader.images(path, wanted)]
        text = write_text(files, path)
    except OSError as e:
        raise fault(Path(e.filename or path), f"cannot be read: {e.strerror}") from None
    place = base / section.manifest if section.manifest else beside(path)
    return parse_manifest(place, text.encode(), path), text


def _locked(dataset: Dataset, manifest: Manifest | None) -> Dataset:
    return dataset if manifest is None else replace(dataset, manifest=manifest.digest)


def _completed(dataset: Dataset, section: DataSection, folder: Path) -> Dataset:
    """With the section's names for the arrays and the classes."""
    found = dataset.shapes
    arrays = {_called(name, found, section): array for name, array in dataset.arrays.items()}
    streamed = {_called(name, found, section): lazy for name, lazy in dataset.streamed.items()}
    decoded = frozenset(_called(name, found, section) for name in dataset.decoded)
    whole = named(dataset, section, folder)
    return replace(whole, arrays=arrays, streamed=streamed, decoded=decoded)


def _called(name: str, found: Container[str], section: DataSection) -> str:
    """What the net calls an array, unless the source has one of that name."""
    names = dict(zip(("data", "label"), section.arrays, strict=False))
    return names[name] if name in names and names[name] not in found else name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name too long, a folder not to be entered
        return False


def _close_to(path: Path) -> str:
    """What lies beside it under a name like it, and is no spec."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
        return suggest(path.name, [name for name in names if not name.endswith(SUFFIXES)])
    except (OSError, ValueError):  # no folder, or no name of one
        return ""


def _forms() -> str:
    return ", ".join(reader.form for reader in READERS) + ", or `mnist` for the bundled digits"
