"""netspec: networks as text, compiled to ONNX, trained on stock onnxruntime.

    spec = netspec.read("lenet")  # a path, or the name of a bundled spec
    netspec.cost(netspec.elaborate(spec).test.net).parameters
    onnx.save(netspec.compile_spec(spec).model, "lenet.onnx")
    netspec.train(spec).test["loss"]

Every fault of the user's is a NetspecError. A part is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from netspec.version import __version__

if TYPE_CHECKING:
    from netspec.compiler import compile_spec, elaborate, read
    from netspec.diagnostics import DataError, NetspecError, SpecError, SpecErrors, UsageError
    from netspec.ir.analysis import cost
    from netspec.training.launch import train

__all__ = [
    "DataError",
    "NetspecError",
    "SpecError",
    "SpecErrors",
    "UsageError",
    "__version__",
    "compile_spec",
    "cost",
    "elaborate",
    "read",
    "train",
]

_HOMES = {"cost": "ir.analysis", "train": "training.launch"} | dict.fromkeys(
    ("compile_spec", "elaborate", "read"), "compiler"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    home = import_module(f"{__name__}.{_HOMES.get(name, 'diagnostics')}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return list(__all__)
