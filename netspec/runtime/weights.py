"""Weight files whose tensors have names: safetensors, and the initialisers of ONNX models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from netspec.diagnostics import DataError, printable
from netspec.mapped import map_file


def read_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a safetensors file; DataError if it is not one."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a safetensors file: {error}") from None


def read_initialisers(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every initialiser of an ONNX model; DataError if it is none, or keeps them in other files.

    Other files are never opened: where they lie is the model's word alone.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(map_file(path)))
    except DecodeError:
        raise DataError(printable(f"{path}: not an ONNX model")) from None
    tensors = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            what = f"keeps `{tensor.name}` in another file: save the model as one file"
            raise DataError(printable(f"{path}: {what}"))
        try:
            tensors[tensor.name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise DataError(printable(f"{path}: `{tensor.name}`: {error}")) from None
    if not tensors:
        raise DataError(printable(f"{path}: is no ONNX model with weights"))
    return tensors
