"""Reverse-mode differentiation over ONNX operators; the rules are loaded with the package."""

from importlib import import_module
from pkgutil import iter_modules

from netspec.autodiff import rules
from netspec.autodiff.vjp import NON_DIFFERENTIABLE, RULES, dependent, grad

for _module in iter_modules(rules.__path__, f"{rules.__name__}."):
    import_module(_module.name)

__all__ = ["NON_DIFFERENTIABLE", "RULES", "dependent", "grad"]
