"""What `check` counts, against papers and lectures, to the unit."""

from __future__ import annotations

import pytest

from netspec.compiler import Elaborated, elaborate, read
from netspec.ir.analysis import Cost, cost
from netspec.ir.layer import Phase

VGG_TABLE = [
    ("data", "3x224x224", 150_528, 0),
    ("stage1/conv1", "64x224x224", 3_211_264, 1_728),
    ("stage1/conv2", "64x224x224", 3_211_264, 36_864),
    ("stage1/pool1", "64x112x112", 802_816, 0),
    ("stage2/conv1", "128x112x112", 1_605_632, 73_728),
    ("stage2/conv2", "128x112x112", 1_605_632, 147_456),
    ("stage2/pool1", "128x56x56", 401_408, 0),
    ("stage3/conv1", "256x56x56", 802_816, 294_912),
    ("stage3/conv2", "256x56x56", 802_816, 589_824),
    ("stage3/conv3", "256x56x56", 802_816, 589_824),
    ("stage3/pool1", "256x28x28", 200_704, 0),
    ("stage4/conv1", "512x28x28", 401_408, 1_179_648),
    ("stage4/conv2", "512x28x28", 401_408, 2_359_296),
    ("stage4/conv3", "512x28x28", 401_408, 2_359_296),
    ("stage4/pool1", "512x14x14", 100_352, 0),
    ("stage5/conv1", "512x14x14", 100_352, 2_359_296),
    ("stage5/conv2", "512x14x14", 100_352, 2_359_296),
    ("stage5/conv3", "512x14x14", 100_352, 2_359_296),
    ("stage5/pool1", "512x7x7", 25_088, 0),
    ("fc6/fc1", "4096", 4_096, 102_760_448),
    ("fc7/fc1", "4096", 4_096, 16_777_216),
    ("fc8", "1000", 1_000, 4_096_000),
]
"""Stanford CS231n, notes on convolutional networks, "VGGNet in detail": memory and weights of each
layer. The lecture rounds the memory (3.2M) and leaves the biases out."""


def counted(name: str, phase: Phase = Phase.TEST) -> Cost:
    """What a bundled spec costs."""
    return cost(elaborate(read(name))[phase].net)


@pytest.fixture(scope="module")
def vgg16() -> Elaborated:
    return elaborate(read("vgg16"))


@pytest.mark.parametrize(("name", "shape", "values", "weights"), VGG_TABLE)
def test_the_vgg_table(vgg16: Elaborated, name: str, shape: str, values: int, weights: int) -> None:
    (node,) = (n for n in vgg16.test.net.nodes if n.name == name)
    assert "x".join(map(str, node.top_types[0].sample)) == shape
    assert sum(p.numel for p in node.parameters if p.name.endswith(".weight")) == weights
    (layer,) = (layer for layer in cost(vgg16.test.net).layers if layer.name == name)
    assert layer.activations == values


def test_vgg16() -> None:
    """138M parameters: Simonyan, Zisserman, ICLR 2015, table 2; the lecture's sum and the biases.

    Multiply-accumulates: 15.47 GMACs, torchvision's `vgg16` (`GFLOPS` of its weights' metadata).
    """
    found = counted("vgg16")
    weights = sum(row[3] for row in VGG_TABLE)
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096 + 1000
    assert (weights, weights + biases) == (138_344_128, 138_357_544)
    assert found.parameters == 138_357_544
    assert found.macs == 15_470_264_320


def test_googlenet() -> None:
    """Szegedy et al., CVPR 2015, table 1: 6.8M weights and 1.5G operations, both rounded.

    With biases, netscope's analyzer says 6,998,556 for Caffe's `bvlc_googlenet`, and gives 4 of
    them to the two LRN layers, which have no weights; 1582.67M multiply-accumulates at 224x224 are
    in the tables of Gschwend's thesis (zynqnet, networks.xlsx). A head is conv 1x1x512 (528) x128,
    fc 2048x1024 and fc 1024x1000.
    """
    found = counted("googlenet")
    assert found.parameters == 6_998_552
    assert found.macs == 1_582_671_872
    heads = sum(
        (channels * 128 + 128) + (2048 * 1024 + 1024) + (1024 * 1000 + 1000)
        for channels in (512, 528)
    )
    assert counted("googlenet", Phase.TRAIN).parameters == 6_998_552 + heads == 13_378_280


def test_resnet18() -> None:
    """He et al., CVPR 2016, table 1 (1.8G); torchvision's `resnet18` has 11,689,512 parameters."""
    found = counted("resnet18")
    assert found.parameters == 11_689_512
    assert found.macs == 1_814_073_344


def test_resnet50() -> None:
    """torchvision's `resnet50`: 25,557,032 parameters and 4.09 GMACs (its weights' metadata).

    He et al., CVPR 2016, table 1, says 3.8G: the paper's stride is in the 1x1 convolution, so that
    the 3x3 behind it reads a quarter of the cells; Caffe's ResNet-50 has 3,857,973,248.
    """
    found = counted("resnet50")
    assert found.parameters == 25_557_032
    assert found.macs == 4_089_184_256
    strided = [(56, 256, 128), (28, 512, 256), (14, 1024, 512)]
    more = sum((cells**2 - (cells // 2) ** 2) * wide * narrow for cells, wide, narrow in strided)
    assert found.macs - more == 3_857_973_248


def test_alexnet() -> None:
    """Caffe's `bvlc_alexnet`, by netscope's analyzer: 60,965,228 and 724,406,816 MACs at 227x227.

    It counts 4 parameters of two LRN layers, which have none. Without groups, as in the tables of
    Gschwend's thesis (zynqnet, networks.xlsx: 62.4M and 1140M), conv2, conv4 and conv5 double.
    """
    found = counted("alexnet")
    weights = [11**2 * 3 * 96, 5**2 * 48 * 256, 3**2 * 256 * 384, 3**2 * 192 * 384,
               3**2 * 192 * 256, 6**2 * 256 * 4096, 4096 * 4096, 4096 * 1000]  # fmt: skip
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
    assert found.parameters == sum(weights) + biases == 60_965_228 - 4
    cells = [55**2, 27**2, 13**2, 13**2, 13**2, 1, 1, 1]
    assert found.macs == sum(w * n for w, n in zip(weights, cells, strict=True)) == 724_406_816
    joined = cost(elaborate(read("alexnet", sets=["group=1", "lrn=0"])).test.net)
    assert f"{joined.parameters / 1e6:.1f}M" == "62.4M"
    grouped = [1, 3, 4]
    assert joined.macs == found.macs + sum(weights[i] * cells[i] for i in grouped)
    assert joined.macs == pytest.approx(1140e6, rel=0.005)


def test_squeezenet() -> None:
    """torchvision's `squeezenet1_1` has 1,235,496 parameters (its weights' metadata).

    387,747,520 MACs at 227x227 with Caffe's pooling, which rounds up, are netscope's for its preset
    `squeezenet_v11`; Gschwend's thesis (zynqnet, networks.xlsx) rounds to 390M.
    """
    found = counted("squeezenet1_1")
    assert found.parameters == 1_235_496
    assert found.macs == 387_747_520


def test_densenet121() -> None:
    """torchvision's `densenet121`: 7,978,856 parameters and 2.83 GMACs (its weights' metadata).

    Huang et al., CVPR 2017, table 1: L layers, each of a 1x1 and a 3x3 convolution.
    """
    found = counted("densenet121")
    channels, total = 64, 3 * 64 * 49 + 2 * 64
    for layers in (6, 12, 24, 16):
        for _ in range(layers):
            total += 2 * channels + channels * 128 + 2 * 128 + 128 * 32 * 9
            channels += 32
        total += 2 * channels  # of the transition, and of the last normalisation
        if layers != 16:
            total += channels * channels // 2
            channels //= 2
    assert found.parameters == total + channels * 1000 + 1000 == 7_978_856
    assert found.macs == 2_834_161_664


def test_resnet20() -> None:
    """He et al., section 4.2, table 6: 0.27M for n = 3, with shortcuts that hold no weights."""

    def conv_bn(inputs: int, outputs: int, kernel: int = 3) -> int:
        return inputs * outputs * kernel**2 + 2 * outputs

    stages = sum(
        conv_bn(first, wide) + 5 * conv_bn(wide, wide)
        for first, wide in ((16, 16), (16, 32), (32, 64))
    )
    paper = conv_bn(3, 16) + stages + 64 * 10 + 10
    assert paper == 269_722
    projections = conv_bn(16, 32, 1) + conv_bn(32, 64, 1)
    found = counted("resnet20").parameters
    assert found in (paper, paper + projections)
    assert f"{found / 1e6:.2f}M" == "0.27M"


def test_lenet() -> None:
    """Caffe's LeNet: `lenet_train_test.prototxt`; 520 + 25,050 + 400,500 + 5,010 parameters."""
    found = counted("lenet")
    assert found.parameters == 520 + 25_050 + 400_500 + 5_010 == 431_080
    assert found.macs == 24 * 24 * 20 * 25 + 8 * 8 * 50 * 500 + 800 * 500 + 5_000 == 2_293_000


def test_lenet5() -> None:
    """LeCun et al. 1998, figure 2, with every map of C3 connected: the lectures' 61,706."""
    assert counted("lenet5").parameters == 156 + 2_416 + 48_120 + 10_164 + 850 == 61_706


def test_cifar10_quick() -> None:
    """Caffe's `cifar10_quick_train_test.prototxt`: 2,432 + 25,632 + 51,264 + 65,600 + 650."""
    found = counted("cifar10_quick")
    assert found.parameters == 2_432 + 25_632 + 51_264 + 65_600 + 650 == 145_578
    assert found.macs == 12_354_176
