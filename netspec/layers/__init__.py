"""The vocabulary: every layer type a spec may name, one module each."""

from importlib import import_module
from pkgutil import iter_modules

from netspec.ir.layer import Layer

LAYERS: dict[str, type[Layer]] = {}
"""Layer types by keyword."""

for _info in iter_modules(__path__, f"{__name__}."):
    _module = import_module(_info.name)
    _declared = [
        c
        for c in vars(_module).values()
        if isinstance(c, type) and issubclass(c, Layer) and c.__module__ == _module.__name__
    ]
    assert len(_declared) == 1, f"{_info.name} must declare exactly one layer"
    assert _declared[0].keyword not in LAYERS, f"{_declared[0].keyword} is registered twice"
    LAYERS[_declared[0].keyword] = _declared[0]

__all__ = ["LAYERS"]
