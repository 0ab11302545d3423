"""What a training computes on: device, target and threads, as they were asked for and as found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from netspec.codegen.target import Target
from netspec.diagnostics import UsageError
from netspec.runtime.device import Device, choose_device, cores
from netspec.training.execution.targets import find_target


@dataclass(frozen=True, slots=True)
class Machine:
    """A device, and what graphs are compiled for it."""

    device: Device
    target: Target


def find_machine(
    device: str | Device = "auto",
    *,
    target: str | None = None,
    threads: int | None = None,
    tf32: bool = True,
    graphs: bool | Literal["auto"] = False,
    warn: Callable[[str], None] = lambda _: None,
) -> Machine:
    """The machine for a device and, unless they are left to it, a target and a number of threads.

    `tf32` and `graphs` are CUDA's: products of rounded factors, and steps recorded and replayed,
    with `"auto"` where that proves right.

    More threads than cores would wait for each other: as many as there are cores are taken then,
    with a warning, and so it is with a layout that this onnxruntime does not run. UsageError for a
    target that is none, or one of another device.
    """
    kind = None
    if target is not None:
        kind = find_target(target).target.kind
        if device == "auto":
            device = kind
    chosen = choose_device(device)
    if kind not in (None, chosen.kind):
        raise UsageError(f"target {target} does not run on device {chosen}")
    found = find_target(target or chosen.kind)
    if found.note is not None:
        warn(found.note)
    if chosen.cuda:
        chosen = replace(chosen, tf32=tf32, graphs=bool(graphs), checked=graphs == "auto")
    elif graphs is True:
        warn("CUDA graphs are CUDA's: on cpu they are left out")
    return Machine(_with_threads(chosen, threads, warn), found.target)


def _with_threads(device: Device, threads: int | None, warn: Callable[[str], None]) -> Device:
    if threads is None:
        return device
    if device.cuda:
        warn("threads are the CPU's: on cuda they are left out")
        return device
    usable = cores()
    if threads > usable:
        warn(f"{threads} threads, but this process may use {usable} cores: {usable} threads it is")
    return replace(device, threads=min(threads, usable))
