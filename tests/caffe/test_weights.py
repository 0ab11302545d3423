"""A net and its weight files: what is matched, missing, of another shape, and ignored."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from netspec.caffe.caffemodel import LayerBlobs, caffemodel, read_caffemodel
from netspec.caffe.match import COLUMNS, Match
from netspec.caffe.weights import load_caffemodel, load_caffemodels, save_caffemodel
from netspec.compiler import compile_spec, elaborate, read
from netspec.diagnostics import DataError, UsageError
from netspec.ir.initial import initial_statistics, initial_weights
from netspec.ir.net import Net
from netspec.weights import check_weights

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "weights"

NET = """
input "data" { shape: 3x8x8 }
conv "conv1" { num_output: 4  kernel_size: 3 }
prelu "slope" { channel_shared: true }
prelu "slopes"
scale "scale" { bias_term: true }
bias "bias"
conv "conv2" { num_output: 6  kernel_size: 3  group: 2  bias_term: false }
fc "ip" { num_output: 5 }
"""


@pytest.fixture
def net(tmp_path: Path) -> Callable[[str], Net]:
    """`net(text)` is its net for TEST."""

    def build(text: str) -> Net:
        path = tmp_path / "net.net"
        path.write_text(text, encoding="utf-8")
        return elaborate(read(str(path))).test.net

    return build


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """`file(conv1=[(4, 3, 3, 3), (4,)])` is a caffemodel of layers of these shapes, of random data.

    A layer is shapes or arrays; `name` is what to call the file.
    """

    def write(layers: Any, name: str = "net.caffemodel") -> Path:
        held = [
            layer
            if isinstance(layer, LayerBlobs)
            else LayerBlobs(layer[0], "", tuple(map(drawn, layer[1])))
            for layer in (layers.items() if isinstance(layers, dict) else layers)
        ]
        path = tmp_path / name
        path.write_bytes(b"".join(caffemodel(held)))
        return path

    return write


def drawn(blob: Any) -> np.ndarray[Any, Any]:
    if isinstance(blob, tuple):
        return np.random.default_rng(len(blob)).standard_normal(blob).astype(np.float32)
    return np.asarray(blob, np.float32)


def tensors(net: Net, seed: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """Random values, positive ones for what batch norm keeps."""
    rng = np.random.default_rng(seed)
    shapes = {p.name: p.shape for p in net.parameters}
    shapes |= {name: s.shape for name, s in net.statistics.items()}
    return {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}


def verdicts(match: Match) -> dict[str, str]:
    layer, tensor, _, _, verdict = (COLUMNS.index(column) for column in COLUMNS)
    return {row[tensor] or row[layer]: row[verdict] for row in match.rows()}


def equal(found: Any, expected: Any) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
        assert found[name].shape == array.shape
        assert found[name].dtype == np.float32


@pytest.mark.parametrize("hdf5", [False, True])
def test_every_tensor_goes_out_and_comes_back(net: Any, tmp_path: Path, hdf5: bool) -> None:
    if hdf5:
        pytest.importorskip("h5py")
    built = net(NET)
    arrays = tensors(built)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"".join(save_caffemodel(built, arrays, hdf5=hdf5)))
    match = load_caffemodel(path, built)
    equal(match.arrays, arrays)
    assert set(verdicts(match).values()) == {"matched"}
    assert match.missing == ()
    check_weights(built, match.arrays)


def test_blobs_are_in_caffes_order(net: Any, proto: SimpleNamespace) -> None:
    built = net(NET)
    content = b"".join(save_caffemodel(built, tensors(built)))
    assert content == b"".join(save_caffemodel(built, tensors(built)))
    theirs = proto.NetParameter.FromString(content)
    assert {
        layer.name: (layer.type, [tuple(blob.shape.dim) for blob in layer.blobs])
        for layer in theirs.layer
    } == {
        "conv1": ("Convolution", [(4, 3, 3, 3), (4,)]),
        "slope": ("PReLU", [()]),
        "slopes": ("PReLU", [(4,)]),
        "scale": ("Scale", [(4,), (4,)]),
        "bias": ("Bias", [(4,)]),
        "conv2": ("Convolution", [(6, 2, 3, 3)]),
        "ip": ("InnerProduct", [(5, 96), (5,)]),
    }
    assert [(list(layer.bottom), list(layer.top)) for layer in theirs.layer][:2] == [
        (["data"], ["conv1"]),
        (["conv1"], ["slope"]),
    ]


def test_arrays_do_not_hang_on_the_file(net: Any, file: Any) -> None:
    built = net('input "data" { shape: 3 }  fc "ip" { num_output: 2 }')
    match = load_caffemodel(file({"ip": [(2, 3), (2,)]}), built)
    for array in match.arrays.values():
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.aligned


def test_four_axes_of_old(net: Any, tmp_path: Path, proto: SimpleNamespace) -> None:
    built = net(NET)
    theirs = proto.NetParameter()
    for name, *shapes in (
        ("conv1", (4, 3, 3, 3), (1, 1, 1, 4)),
        ("slope", (1, 1, 1, 1)),
        ("ip", (1, 1, 5, 96), (1, 1, 1, 5)),
    ):
        layer = theirs.layers.add(name=name)
        for num, channels, height, width in shapes:
            blob = layer.blobs.add(num=num, channels=channels, height=height, width=width)
            blob.data.extend(range(num * channels * height * width))
    path = tmp_path / "old.caffemodel"
    path.write_bytes(theirs.SerializeToString())
    match = load_caffemodel(path, built)
    assert {name: array.shape for name, array in match.arrays.items()} == {
        "conv1.weight": (4, 3, 3, 3),
        "conv1.bias": (4,),
        "slope.weight": (),
        "ip.weight": (5, 96),
        "ip.bias": (5,),
    }
    np.testing.assert_array_equal(match.arrays["ip.weight"].reshape(-1), np.arange(480))


def test_missing_and_ignored_layers(net: Any, file: Any) -> None:
    built = net(NET)
    match = load_caffemodel(
        file({"conv1": [(4, 3, 3, 3), (4,)], "fc8": [(10, 2), (10,)], "relu9": []}), built
    )
    assert match.rows()[:3] == [
        ("conv1", "conv1.weight", "4x3x3x3", "4x3x3x3", "matched"),
        ("conv1", "conv1.bias", "4", "4", "matched"),
        ("slope", "slope.weight", "", "1", "missing"),
    ]
    assert match.rows()[-1] == ("fc8", "", "10x2, 10", "", "ignored")
    assert set(match.arrays) == {"conv1.weight", "conv1.bias"}
    assert match.missing[0] == "slope.weight"
    assert len(match.missing) == 8


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            {"ip": [(7, 96), (7,)]},
            "net.caffemodel: does not fit the net: layer `ip`: blob 0 is 7x96, `ip.weight` 5x96; "
            "layer `ip`: blob 1 is 7, `ip.bias` 5; rename a layer to train it from scratch",
        ),
        ({"ip": [(96, 5), (5,)]}, "layer `ip`: blob 0 is 96x5, `ip.weight` 5x96"),
        ({"ip": [(480,), (5,)]}, "layer `ip`: blob 0 is 480, `ip.weight` 5x96"),
        ({"ip": [(5, 96)]}, "layer `ip` has 1 blob, none for `ip.bias`"),
        ({"ip": []}, "layer `ip` has 0 blobs, none for `ip.weight`"),
        ({"conv2": [(6, 2, 3, 3), (6,)]}, "layer `conv2` has 2 blobs, and in the net 1"),
        ({"data": [(6,)]}, "layer `data` has 1 blob, and in the net 0"),
        ({"slope": [(4,)]}, "layer `slope`: blob 0 is 4, `slope.weight` 1"),
    ],
)
def test_layers_that_do_not_fit(
    net: Any, file: Any, layers: dict[str, list[tuple[int, ...]]], words: str
) -> None:
    built = net(NET)
    with pytest.raises(DataError, match=re.escape(words)):
        load_caffemodel(file(layers), built)


def test_what_does_not_fit_can_be_passed_over(net: Any, file: Any) -> None:
    built = net(NET)
    path = file(
        {
            "conv1": [(8, 3, 3, 3), (4,)],
            "conv2": [(6, 2, 3, 3), (6,)],
            "ip": [(5, 96)],
        }
    )
    match = load_caffemodel(path, built, ignore_mismatch=True)
    assert set(match.arrays) == {"conv1.bias", "conv2.weight", "ip.weight"}
    found = verdicts(match)
    assert found["conv1.weight"] == "other shape"
    assert found["ip.bias"] == "missing"
    assert ("conv1", "conv1.weight", "8x3x3x3", "4x3x3x3", "other shape") in match.rows()
    assert match.rows()[-1] == ("conv2", "", "6", "", "ignored")
    assert "conv1.weight" in match.missing


def test_many_faults_are_counted(net: Any, file: Any) -> None:
    text = "\n".join(f'fc "ip{i}" {{ num_output: 2 }}' for i in range(15))
    built = net(f'input "data" {{ shape: 2 }}\n{text}')
    path = file({f"ip{i}": [(3, 2), (3,)] for i in range(15)})
    with pytest.raises(DataError, match="… and 10 more; rename"):
        load_caffemodel(path, built)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"a": [(1,)], "b": [(1,)]}, "net.caffemodel: no layer of the net is in it, but `a`, `b`"),
        ({"conv9": [(1,)] * 2, "ip9": []}, "no layer of the net is in it, but `conv9`"),
        ({"relu": [], "pool": []}, "net.caffemodel: its 2 layers hold no weights"),
        ({f"l{i}": [(1,)] for i in range(9)}, "but `l0`, `l1`, `l2`, `l3`, `l4`, …"),
    ],
)
def test_a_file_of_another_net(net: Any, file: Any, layers: Any, words: str) -> None:
    built = net(NET)
    with pytest.raises(DataError, match=re.escape(words)):
        load_caffemodel(file(layers), built)


def test_later_files_go_over_earlier_ones(net: Any, file: Any) -> None:
    built = net(NET)
    first = file({"conv1": [np.ones((4, 3, 3, 3)), np.ones(4)], "x": [(1,)]}, "a.caffemodel")
    second = file({"conv1": [np.zeros((4, 3, 3, 3)), np.zeros(4)]}, "b.caffemodel")
    third = file({"conv2": [(6, 2, 3, 3)], "y": [(2,)]}, "c.caffemodel")
    match = load_caffemodels([first, second, third], built)
    assert not match.arrays["conv1.weight"].any()
    found = verdicts(match)
    assert found["conv1.weight"] == found["conv2.weight"] == "matched"
    assert found["ip.weight"] == "missing"
    assert [row[0] for row in match.rows()[-2:]] == ["x", "y"]
    assert load_caffemodels([second, first], built).arrays["conv1.bias"].all()


def test_the_last_layer_of_a_name_counts_as_in_caffe(net: Any, file: Any) -> None:
    built = net('input "data" { shape: 3 }  fc "ip" { num_output: 2 }')
    ones = [np.ones((2, 3)), np.ones(2)]
    path = file([("ip", ones), ("ip", [a * 2 for a in ones])])
    assert load_caffemodel(path, built).arrays["ip.weight"].min() == 2


SHARED = """
input "data" { shape: 4 }
fc "a" { num_output: 4  param { name: "w" } }
fc "b" { num_output: 4  param { name: "w" } }
"""


def test_shared_tensors_stand_in_each_layer(net: Any, file: Any, tmp_path: Path) -> None:
    built = net(SHARED)
    arrays = tensors(built)
    path = tmp_path / "out"
    path.write_bytes(b"".join(save_caffemodel(built, arrays)))
    weight = {layer.name: layer.blobs[0] for layer in read_caffemodel(path)}
    np.testing.assert_array_equal(weight["a"], arrays["w"])
    np.testing.assert_array_equal(weight["b"], arrays["w"])
    match = load_caffemodel(path, built)
    equal(match.arrays, arrays)
    assert [row[:2] for row in match.rows()] == [("a", "w"), ("a", "a.bias"), ("b", "b.bias")]


def test_hdf5_leaves_shared_tensors_to_the_first_layer(net: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as held:
        held["data/a/0"] = np.ones((4, 4), np.float32)
        held["data/a/1"] = np.zeros(4, np.float32)
        held["data/b/1"] = np.ones(4, np.float32)
    assert load_caffemodel(path, net(SHARED)).arrays["w"].all()
    with h5py.File(path, "a") as held:
        del held["data/a/0"]
    with pytest.raises(DataError, match="layer `a` has 1 blob, none for `w`"):
        load_caffemodel(path, net(SHARED))


def test_names_that_netspec_writes_otherwise(net: Any, file: Any, proto: SimpleNamespace) -> None:
    built = net('input "data" { shape: 3 }  fc "ip_1" { num_output: 2 }')
    names = {"ip_1": "ip #1"}
    match = load_caffemodel(file({"ip #1": [(2, 3), (2,)]}), built, names=names)
    assert set(match.arrays) == {"ip_1.weight", "ip_1.bias"}
    assert match.rows()[0][:2] == ("ip #1", "ip_1.weight")
    content = b"".join(save_caffemodel(built, match.arrays, names=names))
    assert [layer.name for layer in proto.NetParameter.FromString(content).layer] == ["ip #1"]


def test_what_a_file_holds_of_unknown_code_is_ignored(
    net: Any, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netspec.caffe.holders.OPAQUE", "prelu")
    match = load_caffemodel(file({"slopes": [(9,)], "ip": [(5, 96), (5,)]}), net(NET))
    assert verdicts(match)["slopes"] == "ignored"
    assert "slopes.weight" not in verdicts(match)


def test_names_of_a_hostile_file_are_escaped(net: Any, file: Any) -> None:
    with pytest.raises(DataError) as e:
        load_caffemodel(file({"a\x1b[31m\n": [(1,)]}), net(NET))
    assert str(e.value).isprintable()


class TestBatchNorm:
    """Caffe's BatchNorm keeps sums and a factor, and learns nothing."""

    BARE = 'input "data" { shape: 2x4x4 }  batch_norm "bn" { affine: false }'
    AFFINE = 'input "data" { shape: 2x4x4 }  batch_norm "bn"'

    def test_sums_are_divided_by_their_factor(self, net: Any, file: Any) -> None:
        path = file({"bn": [[3, 6], [1.5, 12], [3]]})
        match = load_caffemodel(path, net(self.BARE))
        third = np.float32(1) / np.float32(3)
        equal(
            match.arrays,
            {
                "bn.running_mean": np.array([3, 6], np.float32) * third,
                "bn.running_var": np.array([1.5, 12], np.float32) * third,
            },
        )
        assert [row[1] for row in match.rows()] == ["bn.running_mean", "bn.running_var"]

    def test_a_factor_of_0_means_that_nothing_was_seen(self, net: Any, file: Any) -> None:
        match = load_caffemodel(file({"bn": [[3, 6], [1, 2], [0]]}), net(self.BARE))
        assert not any(array.any() for array in match.arrays.values())

    def test_a_factor_too_small_is_no_warning(self, net: Any, file: Any) -> None:
        match = load_caffemodel(file({"bn": [[3, 0], [1, 2], [1e-45]]}), net(self.BARE))
        assert np.isinf(match.arrays["bn.running_mean"][0])

    def test_means_are_written_with_the_factor_1(self, net: Any, tmp_path: Path) -> None:
        built = net(self.BARE)
        path = tmp_path / "out"
        path.write_bytes(b"".join(save_caffemodel(built, tensors(built))))
        (layer,) = read_caffemodel(path)
        assert layer.type == "BatchNorm"
        assert [np.asarray(blob).shape for blob in layer.blobs] == [(2,), (2,), (1,)]
        assert np.asarray(layer.blobs[2]).tolist() == [1]
        equal(load_caffemodel(path, built).arrays, tensors(built))

    def test_two_blobs_are_not_enough(self, net: Any, file: Any) -> None:
        with pytest.raises(DataError, match="layer `bn` has 2 blobs, none for `bn"):
            load_caffemodel(file({"bn": [(2,), (2,)]}), net(self.BARE))

    def test_what_it_learns_is_a_scale_of_its_own_name(self, net: Any, tmp_path: Path) -> None:
        built = net(self.AFFINE)
        path = tmp_path / "out"
        path.write_bytes(b"".join(save_caffemodel(built, tensors(built))))
        bn, scale = read_caffemodel(path)
        assert (bn.name, bn.type, bn.bottoms) == ("bn", "BatchNorm", ("data",))
        assert (scale.name, scale.type) == ("bn_scale", "Scale")
        assert scale.bottoms == scale.tops == bn.tops
        match = load_caffemodel(path, built)
        equal(match.arrays, tensors(built))
        assert match.rows()[2][:2] == ("bn_scale", "bn.weight")

    def test_the_scale_that_reads_its_top_in_the_file(self, net: Any, file: Any) -> None:
        sums = [np.ones(2, np.float32)] * 2 + [np.ones(1, np.float32)]
        learned = (np.array([5, 6], np.float32), np.array([7, 8], np.float32))
        layers = [
            LayerBlobs("bn", "BatchNorm", tuple(sums), ("conv1",), ("conv1",)),
            LayerBlobs("scale_conv1", "Scale", learned, ("conv1",), ("conv1",)),
            LayerBlobs("scale2", "Scale", learned[::-1], ("conv1",), ("conv1",)),
        ]
        match = load_caffemodel(file(layers), net(self.AFFINE))
        assert match.arrays["bn.weight"].tolist() == [5, 6]
        assert match.arrays["bn.bias"].tolist() == [7, 8]
        assert match.rows()[-1][:1] == ("scale2",)

    @pytest.mark.parametrize("between", ["ReLU", "Scale"])
    def test_no_scale_behind_another_reader(self, net: Any, file: Any, between: str) -> None:
        sums = [np.ones(2, np.float32)] * 2 + [np.ones(1, np.float32)]
        learned = (np.ones(2, np.float32),) * 2
        bottoms = ("x", "y") if between == "Scale" else ("x",)
        layers = [
            LayerBlobs("bn", "BatchNorm", tuple(sums), ("x",), ("x",)),
            LayerBlobs("other", between, (), bottoms, ("x",)),
            LayerBlobs("scale", "Scale", learned, ("x",), ("x",)),
        ]
        match = load_caffemodel(file(layers), net(self.AFFINE))
        assert verdicts(match)["bn.weight"] == "missing"
        assert verdicts(match)["scale"] == "ignored"

    @pytest.mark.parametrize(
        "blobs",
        [
            [[2, 4], [6, 8], [2], [5, 6], [7, 8]],
            [[5, 6], [7, 8], [1, 2], [3, 4], [1]],
            [np.reshape(pair, (1, 2, 1, 1)) for pair in ([5, 6], [7, 8], [1, 2], [3, 4])],
        ],
        ids=["NVIDIA", "DIGITS", "SegNet"],
    )
    def test_forks_keep_all_in_one_layer(self, net: Any, file: Any, blobs: Any) -> None:
        match = load_caffemodel(file({"bn": blobs}), net(self.AFFINE))
        assert {name: array.tolist() for name, array in match.arrays.items()} == {
            "bn.running_mean": [1, 2],
            "bn.running_var": [3, 4],
            "bn.weight": [5, 6],
            "bn.bias": [7, 8],
        }

    def test_five_blobs_of_other_shapes(self, net: Any, file: Any) -> None:
        with pytest.raises(DataError, match="layer `bn` has 5 blobs, and in the net 3"):
            load_caffemodel(file({"bn": [(2,)] * 5}), net(self.AFFINE))

    def test_a_layer_in_the_place_of_its_scale(self, net: Any) -> None:
        built = net(self.AFFINE + '  fc "bn_scale" { num_output: 2 }')
        with pytest.raises(UsageError, match="has two layers `bn_scale`: rename one"):
            save_caffemodel(built, tensors(built))


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
def test_lenet_of_the_zoo_takes_the_published_weights() -> None:
    spec = read("lenet")
    built = elaborate(spec).test.net
    match = load_caffemodel(CORPUS / "lenet.caffemodel", built)
    assert match.missing == ()
    assert sum(array.size for array in match.arrays.values()) == 431_080
    compile_spec(spec, weights=match.arrays)


def test_what_is_missing_keeps_its_filler(net: Any, file: Any) -> None:
    built = net(NET)
    match = load_caffemodel(file({"conv1": [(4, 3, 3, 3), (4,)]}), built)
    filled = initial_weights(built, 1) | initial_statistics(built) | dict(match.arrays)
    check_weights(built, filled)


LARGE = 230
"""MB of the file whose reading is measured."""

MEASURED = """
import re, sys
from pathlib import Path
from netspec.caffe.weights import load_caffemodel
from netspec.compiler import elaborate, read

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

net = elaborate(read(sys.argv[1])).test.net
before = peak()
match = load_caffemodel(Path(sys.argv[2]), net)
assert not match.missing
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure by")
@pytest.mark.slow
def test_a_large_file_is_not_copied_more_than_twice(
    net: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = LARGE * 250_000 // 1000
    text = f'input "data" {{ shape: {inputs} }}  fc "ip" {{ num_output: 1000 }}'
    built = net(text)
    arrays = {"ip.weight": np.ones((1000, inputs), np.float32), "ip.bias": np.ones(1000, "f4")}
    path = tmp_path / "large.caffemodel"
    with path.open("wb") as held:
        for chunk in save_caffemodel(built, arrays):
            held.write(chunk)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "net.net"), str(path)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = path.stat().st_size / 1e6
    with capsys.disabled():
        print(f"\n{size:.0f} MB read: {peak:.0f} MB at the peak, the file's pages among them")
    assert peak < 2.1 * size
