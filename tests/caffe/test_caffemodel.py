"""Caffemodels: what google.protobuf and h5py write is read, and what is written they read."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netspec.caffe.caffemodel import LayerBlobs, caffemodel, read_caffemodel
from netspec.caffe.caffemodel_hdf5 import hdf5_file
from netspec.caffe.schema import v1_types
from netspec.diagnostics import DataError, NetspecError, UsageError
from netspec.wire import Writer

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "weights"
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, max_side=3))
LAYERS = st.lists(
    st.builds(
        LayerBlobs,
        st.text(max_size=5),
        st.text(max_size=5),
        st.lists(ARRAYS, max_size=3).map(tuple),
        st.lists(st.text(max_size=3), max_size=2).map(tuple),
        st.lists(st.text(max_size=3), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


def fill(blob: Any, shape: tuple[int, ...], key: str = "data", start: int = 0) -> None:
    blob.shape.dim.extend(shape)
    getattr(blob, key).extend(range(start, start + int(np.prod(shape))))


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """`read(message)` reads its bytes as a file."""

    def reading(content: Any, name: str = "net.caffemodel") -> tuple[LayerBlobs, ...]:
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.SerializeToString()
        path.write_bytes(data)
        return read_caffemodel(path)

    return reading


def test_a_current_file(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter(name="n", input=["data"], input_dim=[1, 2])
    conv = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    fill(conv.blobs.add(), (2, 1, 3, 3))
    fill(conv.blobs.add(), (2,), "double_data", 7)
    net.layer.add(name="relu1", type="ReLU", bottom=["conv1"], top=["conv1"])
    first, second = read(net)
    assert (first.name, first.type) == ("conv1", "Convolution")
    assert (first.bottoms, first.tops) == (("data",), ("conv1",))
    weight, bias = first.blobs
    assert weight is not None
    assert bias is not None
    np.testing.assert_array_equal(weight, np.arange(18.0).reshape(2, 1, 3, 3))
    assert (bias.tolist(), bias.dtype) == ([7, 8], np.float32)
    assert (second.name, second.blobs) == ("relu1", ())


def test_a_v1_file(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter(name="n")
    ip = net.layers.add(name="ip1", type=14, bottom=["data"], top=["ip1"], blobs_lr=[1, 2])
    ip.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    ip.blobs.add(num=1, channels=1, height=1, width=2, data=range(2))
    net.layers.add(name="fork", type=77)
    first, second = read(net)
    assert (first.name, first.type) == ("ip1", "InnerProduct")
    assert (first.bottoms, first.tops) == (("data",), ("ip1",))
    assert [blob.shape for blob in first.blobs if blob is not None] == [(1, 1, 2, 3), (1, 1, 1, 2)]
    assert (second.name, second.type) == ("fork", "77")


def test_a_v0_file(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter(name="n")
    held = net.layers.add(bottom=["data"], top=["conv1"])
    held.layer.name, held.layer.type, held.layer.num_output = "conv1", "conv", 2
    held.layer.blobs.add(num=2, channels=1, height=1, width=1, data=[1, 2])
    (layer,) = read(net)
    assert (layer.name, layer.type, layer.bottoms, layer.tops) == (
        "conv1", "conv", ("data",), ("conv1",),
    )  # fmt: skip
    assert layer.blobs[0] is not None
    assert layer.blobs[0].shape == (2, 1, 1, 1)


def test_every_type_of_v1_has_its_name() -> None:
    types = ["", *v1_types().values()]
    known = {4: "Convolution", 14: "InnerProduct", 21: "SoftmaxWithLoss", 39: "Deconvolution"}
    known |= {35: "AbsVal", 30: "ArgMax", 25: "Eltwise", 18: "ReLU", 34: "MVN", 33: "Slice"}
    assert {number: types[number] for number in known} == known
    assert len(types) == len(set(types)) == 40


def test_both_forms_in_one_file_are_refused(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter()
    net.layer.add(name="a")
    net.layers.add(name="b")
    with pytest.raises(DataError, match="byte 0: has both `layer` and `layers`"):
        read(net)


def test_a_fault_names_the_file_the_byte_and_the_blob(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter()
    net.layer.add(name="a")
    blob = net.layer.add(name="b").blobs.add(data=[1, 2, 3])
    blob.shape.dim.extend([4])
    words = r"net\.caffemodel: byte 14: layer\[1\]\.blobs\[0\]: a blob of 4 takes 4 values, 3 are"
    with pytest.raises(DataError, match=words):
        read(net)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b'name: "LeNet"\nlayer {', "byte 0: field 13 has the unknown type 6"),
        (b"\x0a\x01a", "holds no layers: is it a caffemodel?"),
        (b"\xa2\x06\x05", "byte 0: field 100 has 5 bytes by its length, 0 are there"),
    ],
)
def test_what_is_no_caffemodel(read: Any, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=LAYERS, name=st.text(max_size=5))
def test_protobuf_reads_what_is_written(
    proto: SimpleNamespace, read: Any, layers: list[LayerBlobs], name: str
) -> None:
    content = b"".join(caffemodel(layers, name))
    assert content == b"".join(caffemodel(layers, name))
    theirs = proto.NetParameter.FromString(content)
    assert theirs.name == name
    for held, layer, ours in zip(theirs.layer, layers, read(content), strict=True):
        assert (held.name, held.type) == (layer.name, layer.type) == (ours.name, ours.type)
        assert tuple(held.bottom) == layer.bottoms == ours.bottoms
        assert tuple(held.top) == layer.tops == ours.tops
        for blob, array, again in zip(held.blobs, layer.blobs, ours.blobs, strict=True):
            assert array is not None
            np.testing.assert_array_equal(again, array)
            assert tuple(blob.shape.dim) == array.shape
            values = np.array(blob.data, np.float32).reshape(array.shape)
            np.testing.assert_array_equal(values, array)


def test_messages_within_messages_are_not_followed(read: Any) -> None:
    held = Writer()
    for number in [10] * 2_000 + [2]:
        outer = Writer()
        outer.message(number, held)
        held = outer
    (layer,) = read(b"".join(held.chunks))
    assert (layer.name, layer.blobs) == ("", ())


def test_arrays_of_a_file_are_views_of_it(proto: SimpleNamespace, read: Any) -> None:
    net = proto.NetParameter()
    fill(net.layer.add(name="a").blobs.add(), (3,))
    ((blob,),) = [layer.blobs for layer in read(net)]
    assert not blob.flags.writeable
    assert not blob.flags.owndata


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
def test_lenet_has_the_blobs_that_its_publisher_says() -> None:
    held = {
        layer.name: tuple(blob.shape for blob in layer.blobs if blob is not None)
        for layer in read_caffemodel(CORPUS / "lenet.caffemodel")
        if layer.blobs
    }
    assert held == {
        "conv1": ((20, 1, 5, 5), (20,)),
        "conv2": ((50, 20, 5, 5), (50,)),
        "ip1": ((500, 800), (500,)),
        "ip2": ((10, 500), (10,)),
    }


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
@pytest.mark.parametrize("name", ["lenet", "det1"])
def test_real_files_read_as_protobuf_reads_them(proto: SimpleNamespace, name: str) -> None:
    path = CORPUS / f"{name}.caffemodel"
    theirs = proto.NetParameter.FromString(path.read_bytes())
    for held, ours in zip(theirs.layer or theirs.layers, read_caffemodel(path), strict=True):
        assert held.name == ours.name
        for blob, array in zip(held.blobs, ours.blobs, strict=True):
            assert array is not None
            np.testing.assert_array_equal(np.array(blob.data, np.float32), array.reshape(-1))


class TestHdf5:
    """`.caffemodel.h5`, against h5py's own reading and writing."""

    def test_what_caffe_writes(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "net.caffemodel.h5"
        with h5py.File(path, "w") as file:
            file["data/conv1/0"] = np.arange(4, dtype=np.float32).reshape(2, 1, 1, 2)
            file["data/conv1/1"] = np.array([1.5, 2.5])
            file["data/inception/3x3/0"] = np.float32(3)
            file.create_group("data/relu")
            file["data/shared/1"] = np.zeros(2, np.float32)
        layers = {layer.name: layer.blobs for layer in read_caffemodel(path)}
        assert list(layers) == ["conv1", "inception/3x3", "relu", "shared"]
        weight, bias = layers["conv1"]
        assert weight is not None
        assert bias is not None
        assert weight.shape == (2, 1, 1, 2)
        assert (bias.tolist(), bias.dtype) == ([1.5, 2.5], np.float32)
        assert layers["relu"] == ()
        assert layers["shared"][0] is None
        assert layers["inception/3x3"][0] is not None
        assert layers["inception/3x3"][0].shape == ()

    def test_what_is_written(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        one = np.arange(6, dtype=np.float32).reshape(2, 3)
        held = {"a/b": (one, None, one[0]), "a": (one.T,)}
        content = hdf5_file(held)
        assert content == hdf5_file(held)
        path = tmp_path / "net.h5"
        path.write_bytes(content)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["data/a/b/0"], one)
            np.testing.assert_array_equal(file["data/a/b/2"], one[0])
            np.testing.assert_array_equal(file["data/a/0"], one.T)
            assert "1" not in file["data/a/b"]
        assert {layer.name for layer in read_caffemodel(path)} == {"a", "a/b"}

    @pytest.mark.parametrize("name", ["", "/a", "a//b", "a/.", "x/0/y"])
    def test_names_without_a_group(self, name: str) -> None:
        pytest.importorskip("h5py")
        one = np.zeros(1, np.float32)
        with pytest.raises(UsageError):
            hdf5_file({"x": (one,), name: (one,)})

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda h, f: f.create_group("other"), "data"),
            (lambda h, f: f.create_dataset("data", data=[1.0]), "`/data` is not a group"),
            (lambda h, f: f.create_dataset("data/a/x", data=1.0), "`a` has a blob `x`"),
            (lambda h, f: f.create_dataset("data/a/0", data=b"text"), "not an array of the exp"),
            (lambda h, f: f.create_dataset("data/a/0", data=1e300), "beyond what float32 holds"),
            (lambda h, f: f.create_dataset("data/a/0", data=h.Empty("f")), "holds nothing"),
            (
                lambda h, f: f.create_dataset("data/a/0", (1 << 30, 1 << 10), "f", chunks=(1, 64)),
                "declares 4,398,046,511,104 bytes",
            ),
            (
                lambda h, f: f.create_group("data").__setitem__("a", h.ExternalLink("b.h5", "/")),
                "`a` is a link, which is not followed",
            ),
            (
                lambda h, f: f.create_group("data").__setitem__("a", h.SoftLink("/data")),
                "`a` is a link, which is not followed",
            ),
            (
                lambda h, f: f.create_dataset(
                    "data/a/0", (4,), "f", external=[("/etc/hostname", 0, 16)]
                ),
                "lies in another file",
            ),
            (
                lambda h, f: f.create_group("data").__setitem__("a", f["data"]),
                "groups within groups, more than 32 deep",
            ),
        ],
    )
    def test_hostile_files(self, tmp_path: Path, make: Any, words: str) -> None:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "net.h5"
        with h5py.File(path, "w") as file:
            make(h5py, file)
        with pytest.raises(DataError, match=words):
            read_caffemodel(path)

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        pytest.importorskip("h5py")
        path = tmp_path / "net.h5"
        path.write_bytes(hdf5_file({"a": (np.zeros(99, np.float32),)})[:-50])
        with pytest.raises(DataError, match=r"net\.h5: not an HDF5 file, or a damaged one"):
            read_caffemodel(path)

    def test_without_h5py(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "net.h5"
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(NetspecError, match=r"net\.h5: HDF5 needs h5py: pip install 'netspec"):
            read_caffemodel(path)
