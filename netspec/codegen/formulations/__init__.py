"""The formulations of every target, loaded with the package: plain ones, and those in blocks."""

from importlib import import_module
from pkgutil import iter_modules

from netspec.codegen.formulation import FORMULATIONS
from netspec.codegen.formulations import blocked, plain

for _package in (blocked, plain):
    for _module in iter_modules(_package.__path__, f"{_package.__name__}."):
        import_module(_module.name)

__all__ = ["FORMULATIONS"]
