"""The zoo: specs that come with netspec, and the blocks they are made of, found by name."""

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


def files() -> tuple[str, ...]:
    """What `include "netspec:…"` reaches, sorted: bundled specs, and blocks that several share."""
    here = folder()
    return tuple(sorted(path.relative_to(here).as_posix() for path in here.rglob("*.net")))


def find(name: str) -> Path | None:
    """The file of a bundled spec, or None; a name is a bare word, never a path."""
    return folder() / f"{name}.net" if name in names() else None
