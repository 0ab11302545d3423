"""Whether a device has memory left for data."""

from __future__ import annotations

import os
import subprocess

from netspec.runtime.device import Device

_UNASKED = 256 << 20
"""Bytes that any GPU has: to ask its driver may take a second."""


def has_room(device: Device, needed: int) -> bool:
    """Whether a data set takes no more than half of what is free: activations need the rest.

    On the CPU what is in memory may stay there, and a GPU whose driver does not tell has no limit.
    """
    if not device.cuda or needed <= _UNASKED:
        return True
    free = _free(device.index)
    return free is None or needed <= free // 2


def _free(index: int) -> int | None:
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            [*query, f"--id={_physical(index)}"], capture_output=True, text=True, timeout=10
        )
        return int(said.stdout.strip()) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _physical(index: int) -> str:
    """What the driver calls a device: CUDA counts those alone that it is let see."""
    seen = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return seen[index] if index < len(seen) and seen[index] else str(index)
