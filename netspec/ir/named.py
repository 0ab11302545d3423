"""What a user's word names in a net: a layer, or a block or group with every layer within it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from netspec.diagnostics import UsageError, suggest
from netspec.ir.layer import Role
from netspec.ir.net import Net


def within(net: Net) -> dict[str, list[str]]:
    """The layers of each layer, block and group, in order; inputs are none."""
    found: dict[str, list[str]] = {}
    for node in net.nodes:
        if node.layer.role is Role.INPUT:
            continue
        parts = node.name.split("/")
        for depth in range(1, len(parts) + 1):
            found.setdefault("/".join(parts[:depth]), []).append(node.name)
    return found


def meant(word: str, names: Collection[str]) -> Sequence[str]:
    """The names that a word or a pattern such as `stage*/*` stands for; UsageError if none is.

    A pattern matches part by part: `*` is one part of a name, or a part of it.
    """
    if any(sign in word for sign in "*?["):
        found = [name for name in names if _matches(name, word)]
    else:
        found = [word] if word in names else []
    if not found:
        raise UsageError(f"there is no layer or block `{word[:200]}`{suggest(word, names)}")
    return found


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
