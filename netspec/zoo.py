"""The zoo: specs that come with netspec, found by name."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder() -> Path:
    """Where the specs are: inside the wheel, or beside the package in a checkout."""
    bundled = _PACKAGE / "specs"
    return bundled if bundled.is_dir() else _PACKAGE.parent / "specs"


def names() -> tuple[str, ...]:
    """The names of every bundled spec, sorted."""
    return tuple(sorted(path.stem for path in folder().glob("*.net")))


def find(name: str) -> Path | None:
    """The file of a bundled spec, or None; a name is a bare word, never a path."""
    return folder() / f"{name}.net" if name in names() else None
