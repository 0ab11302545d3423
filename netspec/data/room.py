"""How much memory there is for data that could as well be decoded as they are needed."""

from __future__ import annotations

import re
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
"""The limits of a container or a batch job (cgroup v2), where it has its own."""


def half_of_what_is_free() -> int:
    """Bytes that decoded images may take: the rest is the training's and everybody else's.

    Without a system that tells how much is free there is no limit.
    """
    return min(_free_of_system(), _free_of_group()) // 2


_UNKNOWN = 1 << 62


def _free_of_system() -> int:
    found = re.search(r"^MemAvailable: *([0-9]+) kB$", _text(_SYSTEM), re.MULTILINE)
    return int(found[1]) << 10 if found else _UNKNOWN


def _free_of_group() -> int:
    most, used = (_text(_GROUP / f"memory.{what}").strip() for what in ("max", "current"))
    return max(0, int(most) - int(used)) if most.isdecimal() and used.isdecimal() else _UNKNOWN


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
