"""How much memory a device has left."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netspec.runtime.device import Device

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: Device) -> int | None:
    """Bytes that this process could still take; None where the system does not tell."""
    if device.cuda:
        return _cuda(device.index)
    known = [bytes for bytes in (_available(), _in_group(), _below_limit()) if bytes is not None]
    return max(0, min(known)) if known else None


def _available() -> int | None:
    """What Linux could hand out without swapping."""
    for line in _lines(Path("/proc/meminfo")):
        word, _, text = line.partition(":")
        if word == "MemAvailable":
            return 1024 * int(text.split()[0])
    return None


def _in_group() -> int | None:
    """What is left of the limit of a container; pages of files that may go count as left."""
    limit, used = (_lines(_CGROUP / f"memory.{what}") for what in ("max", "current"))
    if not limit or not used or not limit[0].isdecimal():
        return None
    statistics = dict(line.split() for line in _lines(_CGROUP / "memory.stat"))
    return int(limit[0]) - int(used[0]) + int(statistics.get("inactive_file", 0))


def _below_limit() -> int | None:
    """What is left of this process's address space, where that is limited."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines(Path("/proc/self/statm"))
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0].split()[0]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []


def _cuda(index: int) -> int | None:
    """As the driver tells it."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with suppress(OSError, AttributeError):
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        with _context(driver, index) as reached:
            arguments = ctypes.byref(free), ctypes.byref(total)
            if reached and driver.cuMemGetInfo_v2(*arguments) == 0:
                return free.value
    return None


@contextmanager
def _context(driver: ctypes.CDLL, index: int) -> Iterator[bool]:
    """The device's primary context, which is onnxruntime's too, as this thread's; or not."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    reached = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), index) == 0
        and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    )
    if not reached:
        yield False
        return
    try:
        if driver.cuCtxPushCurrent_v2(context) != 0:
            yield False
            return
        try:
            yield True
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
