"""Caffe's binary messages as google.protobuf makes and reads them: someone else's code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

SCHEMA: dict[str, str] = {
    "BlobShape": "repeated packed int64 dim 1",
    "BlobProto": """
        optional BlobShape shape 7
        repeated packed float data 5
        repeated packed float diff 6
        repeated packed double double_data 8
        repeated packed double double_diff 9
        optional int32 num 1
        optional int32 channels 2
        optional int32 height 3
        optional int32 width 4
    """,
    "UnpackedBlob": """
        optional BlobShape shape 7
        repeated float data 5
        repeated double double_data 8
    """,
    "LayerParameter": """
        optional string name 1
        optional string type 2
        repeated string bottom 3
        repeated string top 4
        repeated BlobProto blobs 7
    """,
    "V0LayerParameter": """
        optional string name 1
        optional string type 2
        optional uint32 num_output 3
        repeated BlobProto blobs 50
    """,
    "V1LayerParameter": """
        optional V0LayerParameter layer 1
        repeated string bottom 2
        repeated string top 3
        optional string name 4
        optional int32 type 5
        repeated BlobProto blobs 6
        repeated float blobs_lr 7
    """,
    "NetParameter": """
        optional string name 1
        repeated V1LayerParameter layers 2
        repeated string input 3
        repeated int32 input_dim 4
        repeated LayerParameter layer 100
    """,
    "SolverState": """
        optional int32 iter 1
        optional string learned_net 2
        repeated BlobProto history 3
        optional int32 current_step 4
    """,
    "Numbers": """
        repeated packed int64 packed 1
        repeated int64 unpacked 2
        optional int64 one 3
        repeated fixed32 words 4
        repeated packed double doubles 1000
        repeated double many 1001
    """,
}
"""What is tested of Caffe's `caffe.proto`: label, [packed], type, name, number."""


@pytest.fixture(scope="session")
def proto() -> SimpleNamespace:
    """The message classes of SCHEMA, made by google.protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message_name, fields in SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for line in filter(None, map(str.strip, fields.splitlines())):
            _add(message, line.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {n: pool.FindMessageTypeByName(f"caffe.{n}") for n in SCHEMA}
    return SimpleNamespace(**{n: message_factory.GetMessageClass(d) for n, d in found.items()})


def _add(message: Any, words: list[str]) -> None:
    label, *packed, kind, name, number = words
    field = message.field.add(name=name, number=int(number))
    field.label = getattr(field, f"LABEL_{label.upper()}")
    if kind in SCHEMA:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".caffe.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if packed:
        field.options.packed = True
