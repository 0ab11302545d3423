"""HDF5 output: blobs that Caffe writes into a file."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Text
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.types import TensorType


class HDF5Output(Layer):
    """Reads data and labels like `silence`; no file is written (Caffe, `hdf5_output_layer.cpp`).

    A blob that only it reads is no output: `compile --output` puts it out.
    """

    keyword: ClassVar = "hdf5_output"
    caffe: ClassVar = CaffeType("HDF5Output", "hdf5_output_param", v1="HDF5_OUTPUT")
    role: ClassVar = Role.SINK
    bottoms: ClassVar = range(2, 3)
    tops: ClassVar = range(1)
    example: ClassVar = """
        input "data" { shape: 4x8x8 }
        input "target" { shape: 10 }
        hdf5_output { bottom: "data"  bottom: "target"  file_name: "seen.h5" }
        fc { bottom: "data"  num_output: 10 }
    """

    file_name: Text
    """The file that Caffe would write."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return ()

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        return ()
