"""The scale of a loss in half precision: on the device, as it is found and from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.precision import suited
from netspec.codegen.scaling import LossScaling
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.state import FlatBuffer, Layout
from netspec.training.execution.held import Held
from netspec.training.execution.machine import Machine
from netspec.training.execution.recorded import Warn, loaded, silent


class LossScale:
    """S and its counter, changed in place after each iteration; no step waits for the host."""

    def __init__(self, scaling: LossScaling, device: Device) -> None:
        self._scaling, self._device = scaling, device
        self._held = FlatBuffer(Layout.of({"": dict.fromkeys(scaling.STATE, ())}), device)
        self.restore({})

    @property
    def pointer(self) -> int:
        """The address of S."""
        return self._held.pointer("scale")

    def bind(self, held: Held, finite: int, warn: Warn = silent) -> None:
        """`finite` is the address of what says whether an iteration was."""
        at = {name: self._held.pointer(name) for name in self._scaling.STATE}
        at |= held.updated_addresses()
        addresses = at | {f"next:{name}": pointer for name, pointer in at.items()}
        addresses["finite"] = finite
        (total,) = held.totals  # half precision is computed in no shards
        division = self._scaling.division_graph(held.weight_groups)
        update = self._scaling.update_graph()
        self._divide, self._update = (
            loaded(step, self._device, addresses, [memory], in_place=True, warn=warn)
            for step, memory in ((division, total.memory), (update, self._held.memory))
        )

    def divide(self) -> None:
        """Make the gradients of an iteration what they are without S."""
        self._divide.run()

    def update(self) -> None:
        """What follows an iteration."""
        self._update.run()

    @property
    def sought(self) -> bool:
        """Whether S is above its floor, so that an update left out says nothing of the training."""
        return bool(self.state()["scale"] > self._scaling.FLOOR)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """A copy of S and its counter."""
        return self._held.dump()

    def restore(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over a state; from nothing it begins anew."""
        initial = {"scale": np.float32(self._scaling.initial), "good": np.float32(0)}
        self._held.load(state or {name: np.asarray(value) for name, value in initial.items()})


def suited_machine(machine: Machine, solver: Solver, tell: Callable[[str], None]) -> Machine:
    """The same for a machine, with a line that tells what that means on the CPU."""
    if solver.precision == "FP32" or machine.device.cuda:
        return machine
    tell("precision FP16 is for CUDA: on cpu it is computed step by step, slower than FP32")
    return replace(machine, target=suited(machine.target, solver))
