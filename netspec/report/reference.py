"""The reference of the layer types and of the sections, generated from the types themselves."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from netspec.ir.fields import Fields, Says, shown
from netspec.ir.layer import Layer
from netspec.ir.sections import DataSection, Solver
from netspec.ir.transform import Transform


@dataclass(frozen=True, slots=True)
class FieldReference:
    """One field of a layer."""

    name: str
    takes: str
    default: str | None
    """As a spec would write it; None if the field must be given."""
    description: str


@dataclass(frozen=True, slots=True)
class LayerReference:
    """One layer type, or a section."""

    keyword: str
    caffe: str | None
    summary: str
    description: str
    fields: tuple[FieldReference, ...]
    example: str

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def reference(layer: type[Layer]) -> LayerReference:
    """What there is to know of a layer type."""
    caffe = layer.caffe.type if layer.caffe else None
    return _reference(layer, layer.keyword, caffe, layer.example)


SECTIONS: Mapping[str, tuple[type[Fields], str, str]] = {
    "solver": (
        Solver,
        "SolverParameter",
        "solver {\n  type: SGD  base_lr: 0.01  momentum: 0.9\n  max_epoch: 5\n}",
    ),
    "data": (
        DataSection,
        "DataParameter",
        'data "train" {\n  source: "mnist"  batch_size: 64  transform { scale: 1/255 }\n}',
    ),
    "transform": (
        Transform,
        "TransformationParameter",
        'data "train" {\n  source: "pictures"  batch_size: 64\n'
        "  transform { pad: 4  crop_size: 32  mirror: true  rotation: 15  brightness: 0.2 }\n}",
    ),
}
"""What has fields and is no layer, by its word: with Caffe's message and an example."""


def section_reference(word: str) -> LayerReference:
    """What there is to know of a section; `word` is one of SECTIONS."""
    model, caffe, example = SECTIONS[word]
    return _reference(model, word, caffe, example)


def _reference(
    model: type[Fields], keyword: str, caffe: str | None, example: str
) -> LayerReference:
    description = inspect.cleandoc(model.__doc__ or "")
    described = descriptions(model)
    return LayerReference(
        keyword=keyword,
        caffe=caffe,
        summary=" ".join(description.split("\n\n")[0].split()),
        description=description,
        fields=tuple(
            _field(name, info, described.get(name, "")) for name, info in model.model_fields.items()
        ),
        example=textwrap.dedent(example).strip("\n"),
    )


def references(layers: Mapping[str, type[Layer]]) -> tuple[LayerReference, ...]:
    """Every layer type, by keyword."""
    return tuple(reference(layers[keyword]) for keyword in sorted(layers))


def descriptions(model: type[Fields]) -> dict[str, str]:
    """The docstring of each field, its own class's and those it inherits.

    pydantic could collect them, but it would read the source of every class at every start.
    """
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, Fields) or cls is Fields:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in pairwise(tree.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(field.target, ast.Name)
                assert isinstance(text.value, ast.Constant)
                assert isinstance(text.value.value, str)
                found[field.target.id] = inspect.cleandoc(text.value.value)
    return {name: found[name] for name in model.model_fields if name in found}


def _field(name: str, info: FieldInfo, description: str) -> FieldReference:
    default = None if info.is_required() else _default(info.default)
    return FieldReference(name, _takes(info), default, description)


def _default(value: object) -> str:
    if isinstance(value, Fields):
        set_fields = value.model_dump(exclude_defaults=True)
        return "{ " + "  ".join(f"{k}: {shown(v)}" for k, v in set_fields.items()) + " }"
    if value in (None, (), ""):
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return shown(value)


def _takes(info: FieldInfo) -> str:
    said = [m.text for m in info.metadata if isinstance(m, Says)]
    return said[0] if said else _kind(info.annotation)


def _kind(annotation: Any) -> str:
    """What an annotation admits, in words."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, Says):
            return metadata.text
    if get_origin(annotation) is Literal:
        return ", ".join(str(a) for a in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        return "{ " + "  ".join(annotation.model_fields) + " }"
    kinds = [_kind(a) for a in get_args(annotation) if a not in (type(None), Ellipsis)]
    return " or ".join(kinds) if kinds else str(getattr(annotation, "__name__", annotation))
