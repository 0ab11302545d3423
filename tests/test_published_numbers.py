"""What `check` counts, against papers, lectures and others' models, to the unit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from netspec import zoo
from netspec.compiler import Elaborated, elaborate, read
from netspec.ir.analysis import cost
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

TORCHVISION = "torchvision, metadata of the weights: num_params; _ops are the MACs in units of 1e9"
CAFFE = "BVLC/caffe"
RESNET = "He, Zhang, Ren, Sun, CVPR 2016"
EARLY = "torchvision's without what the 3x3 convolutions read more (test_where_a_stage_strides)"
CIFAR = f"{RESNET}, section 4.2 and table 6 (0.27M, 0.85M, 1.7M, with option A)"
CS231N = "Stanford CS231n"
NETSCOPE = "netscope's analyzer"
GSCHWEND = "Gschwend, thesis (zynqnet, networks.xlsx)"


FCN = "Long, Shelhamer, Darrell, CVPR 2015, table 1: 134M; by formula, see test_fcn"
UNETS = (
    "Ronneberger et al., MICCAI 2015, figure 1; 31,030,658 in Keras' summary of it, and in "
    "jakeret/tf_unet with five layers of 64 features"
)


@dataclass(frozen=True)
class Row:
    """What a bundled spec is made of by a source that is not netspec."""

    name: str
    parameters: int
    macs: int | None
    """Multiply-accumulates of convolutions and fully connected layers; None: nobody says."""
    source: str
    sets: tuple[str, ...] = ()
    phase: Phase = Phase.TEST

    def __str__(self) -> str:
        phase = [] if self.phase is Phase.TEST else [self.phase.name]
        return " ".join([self.name, *self.sets, *phase])


def conv(cells: int, kernel: int, inputs: int, outputs: int) -> int:
    """MACs of a convolution that gives cells x cells."""
    return cells**2 * kernel**2 * inputs * outputs


def conv_bn(inputs: int, outputs: int, kernel: int = 3) -> int:
    """Parameters of a convolution without bias, normalised."""
    return inputs * outputs * kernel**2 + 2 * outputs


def cifar_net(n: int, projections: int) -> int:
    """Parameters of 6n + 2 layers: one convolution, three stages of 2n, one of ten neurons."""
    stages = ((16, 16), (16, 32), (32, 64))
    convolutions = sum(conv_bn(a, b) + (2 * n - 1) * conv_bn(b, b) for a, b in stages)
    return conv_bn(3, 16) + convolutions + projections + 64 * 10 + 10


def cifar_macs(n: int, projections: int) -> int:
    """MACs of the same: a stage's first convolution reads half the channels, twice as wide."""
    stages = ((32, 16, 16), (16, 16, 32), (8, 32, 64))
    return conv(32, 3, 3, 16) + sum(
        conv(cells, 3, a, b) + (2 * n - 1) * conv(cells, 3, b, b) for cells, a, b in stages
    ) + projections + 64 * 10  # fmt: skip


def spoken(channels: int, cells: int) -> int:
    """Parameters of a word's net, whose windows slide over the cells."""
    left = spoken_cells(cells)[1]
    windows = (channels * 8 + 1) * 128 + (128 * 4 + 1) * 128
    return windows + (128 * left + 1) * 256 + (256 + 1) * 12


def spoken_macs(channels: int, cells: int) -> int:
    """MACs of the same."""
    first, second = spoken_cells(cells)
    windows = first * channels * 8 * 128 + second * 128 * 4 * 128
    return windows + 128 * second * 256 + 256 * 12


def spoken_cells(cells: int) -> tuple[int, int]:
    """What windows of 8 leave, and, of a third of those rounded up, windows of 4."""
    first = cells - 7
    return first, -(-first // 3) - 3


OPTION_B = conv_bn(16, 32, 1) + conv_bn(32, 64, 1)
OPTION_B_MACS = conv(16, 1, 16, 32) + conv(8, 1, 32, 64)

ALEXNET = [11**2 * 3 * 96, 5**2 * 48 * 256, 3**2 * 256 * 384, 3**2 * 192 * 384,
           3**2 * 192 * 256, 6**2 * 256 * 4096, 4096 * 4096, 4096 * 1000]  # fmt: skip
ALEXNET_BIASES = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
ALEXNET_CELLS = [55**2, 27**2, 13**2, 13**2, 13**2, 1, 1, 1]

ZFNET = [(110, 7, 3, 96), (26, 5, 96, 256), (13, 3, 256, 512), (13, 3, 512, 1024),
         (13, 3, 1024, 512), (1, 6, 512, 4096), (1, 1, 4096, 4096), (1, 1, 4096, 1000)]  # fmt: skip
"""Cells, kernel, inputs and outputs of each layer."""

HEADS = sum((n * 128 + 128) + (2048 * 1024 + 1024) + (1024 * 1000 + 1000) for n in (512, 528))
"""GoogLeNet's: conv 1x1 of 128 channels on 4a and 4d, fc 2048x1024 and fc 1024x1000."""

WIDE = ((32, 16, 160), (16, 160, 320), (8, 320, 640))
"""Cells, inputs and outputs of the stages of WRN-28-10."""

FCN_CELLS = [(698, 3, 64), (698, 64, 64), (349, 64, 128), (349, 128, 128), (175, 128, 256),
             (175, 256, 256), (175, 256, 256), (88, 256, 512), (88, 512, 512), (88, 512, 512),
             (44, 512, 512), (44, 512, 512), (44, 512, 512)]  # fmt: skip
"""Cells, inputs and outputs of VGG-16's convolutions on 500x500 pixels, padded by 100."""
FCN_HIDDEN = [(16, 7, 512, 4096), (16, 1, 4096, 4096), (16, 1, 4096, 21)]
"""Of the layers that were fully connected, and the scores: cells, kernel, inputs and outputs."""
FCN_TRUNK = 138_357_544 - (4096 * 1000 + 1000) + (4096 * 21 + 21)
"""VGG-16 with 21 classes."""
FCN_TRUNK_MACS = sum(conv(c, 3, a, b) for c, a, b in FCN_CELLS) + sum(
    conv(*row) for row in FCN_HIDDEN
)
POOL4, POOL3 = 512 * 21 + 21, 256 * 21 + 21
"""Scores of what two poolings give."""
POOL4_MACS, POOL3_MACS = conv(44, 1, 512, 21), conv(88, 1, 256, 21)

UNET = [(64, 512), (128, 256), (256, 128), (512, 64)]
"""Channels and cells at each size of the U-Net; 1024 and 32 at its bottom."""
UNET_BOTTOM = [(512, 1024), (1024, 1024)]
UNET_DOWN = [(c // 2 if c > 64 else 1, c) for c, _ in UNET]
UNET_CONVOLUTIONS = [(a, b, n) for (a, c), (_, n) in zip(UNET_DOWN, UNET, strict=True)
                     for a, b in ((a, c), (c, c))] + [
    (a, b, 32) for a, b in UNET_BOTTOM] + [
    (a, c, n) for c, n in UNET for a in (2 * c, c)]  # fmt: skip
"""Inputs, outputs and cells of the convolutions of 3x3."""

FACENET = [(110, 7, 3, 64), (55, 1, 64, 64), (55, 3, 64, 192), (28, 1, 192, 192),
           (28, 3, 192, 384), (14, 1, 384, 384), (14, 3, 384, 256), (14, 1, 256, 256),
           (14, 3, 256, 256), (14, 1, 256, 256), (14, 3, 256, 256), (1, 7, 256, 2 * 4096),
           (1, 1, 4096, 2 * 4096), (1, 1, 4096, 128)]  # fmt: skip
"""Cells, kernel, inputs and outputs of each layer; before a maxout of two pieces twice as many."""

DEEPPOSE = [(55, 11, 3, 96), (27, 5, 96, 256), (13, 3, 256, 384), (13, 3, 384, 384),
            (13, 3, 384, 256), (1, 6, 256, 4096), (1, 1, 4096, 4096), (1, 1, 4096, 28)]  # fmt: skip

MAXOUT = [(21, 8, 1, 96), (9, 8, 48, 96), (6, 5, 48, 96), (1, 3, 24, 10)]
TURNED = [(24, 5, 1, 20), (8, 5, 20, 40), (2, 3, 40, 80)]
"""Each filter is applied in four turns, and learned once."""


ROWS = [
    Row("linear_cifar", 3072 * 10 + 10, 30_720, f"{CS231N}, lecture 2: W is 10x3072, b 10"),
    Row("two_layer_net", 3072 * 100 + 100 + 100 * 10 + 10, 308_200,
        f"{CS231N}, lecture 4: W1 is 100x3072, W2 10x100"),
    Row("cs231n_toy", 12 * 75 + 12 + 16 * 16 * 12 * 10 + 10, 32 * 32 * 12 * 75 + 30_720,
        f"{CS231N}, notes on convolutional networks; by formula for filters of 5x5x3"),
    Row("lenet5", 156 + 2_416 + 48_120 + 10_164 + 850, 28**2 * 150 + 10**2 * 2_400 + 58_920,
        "LeCun et al. 1998, figure 2, with every map of C3 connected: the lectures' 61,706"),
    Row("lenet5_rgb", 61_706 + 6 * 2 * 25, 28**2 * 450 + 10**2 * 2_400 + 58_920,
        "University of Virginia, vision and language: LeNet-5 on 3x32x32"),
    Row("lenet", 520 + 25_050 + 400_500 + 5_010, 24**2 * 500 + 8**2 * 25_000 + 400_000 + 5_000,
        f"{CAFFE}, lenet_train_test.prototxt"),
    Row("cifar10_quick", 2_432 + 25_632 + 51_264 + 65_600 + 650, 12_354_176,
        f"{CAFFE}, cifar10_quick_train_test.prototxt"),
    Row("cifar10_full", 2_432 + 25_632 + 51_264 + 10_250, 12_298_240,
        f"{CAFFE}, cifar10_full_train_test.prototxt"),
    Row("alexnet", sum(ALEXNET) + ALEXNET_BIASES,
        sum(w * n for w, n in zip(ALEXNET, ALEXNET_CELLS, strict=True)),
        f"{CAFFE}, bvlc_alexnet; {NETSCOPE}: 60,965,228, of which 4 are given to two LRN layers, "
        "and 724,406,816 MACs"),
    Row("alexnet", sum(ALEXNET) + ALEXNET_BIASES + sum(ALEXNET[i] for i in (1, 3, 4)),
        sum(w * n * (1 + (i in (1, 3, 4)))
            for i, (w, n) in enumerate(zip(ALEXNET, ALEXNET_CELLS, strict=True))),
        f"{GSCHWEND}: 62.4M and 1140M", sets=("group=1", "lrn=0")),
    Row("zfnet", sum(k**2 * a * b + b for _, k, a, b in ZFNET), sum(conv(*row) for row in ZFNET),
        "Zeiler, Fergus, ECCV 2014, figure 3, filters of table 3; by formula"),
    Row("vgg11", 132_863_336, 7_609_090_048, TORCHVISION),
    Row("vgg11_lrn", 132_863_336, 7_609_090_048, "Simonyan, Zisserman, table 2: A-LRN as A, 133M"),
    Row("vgg13", 133_047_848, 11_308_466_176, TORCHVISION),
    Row("vgg16_c", 138_357_544 - 8 * (256**2 + 2 * 512**2), 11_770_888_192,
        "Simonyan, Zisserman, table 2: 134M; configuration D less 8 of 9 taps of three layers"),
    Row("vgg16", 138_357_544, 15_470_264_320, TORCHVISION),
    Row("vgg19", 143_667_240, 19_632_062_464, TORCHVISION),
    Row("nin", 7_595_176, 1_100_188_800, f"{GSCHWEND}: 7.6M and 1100M"),
    Row("googlenet", 6_998_552, 1_582_671_872,
        f"{NETSCOPE} for bvlc_googlenet: 6,998,556, of which 4 are given to two LRN layers; "
        f"{GSCHWEND}: 1582.67M MACs; Szegedy et al., CVPR 2015, table 1, says 6.8M and 1.5G"),
    Row("googlenet", 6_998_552 + HEADS, None,
        "Szegedy et al., section 5: the heads", phase=Phase.TRAIN),
    Row("inception_naive", 32_896 + 442_560 + 614_496,
        784 * (128 * 256 + 192 * 9 * 256 + 96 * 25 * 256), f'{CS231N}, lecture 9: "854M ops"'),
    Row("inception_reduced", 32_896 + 3 * 16_448 + 110_784 + 153_696,
        358_055_936 - 784 * 192 * 9 * 64,
        f'{CS231N}, lecture 9: "358M ops", where the 3x3 convolution is counted twice'),
    Row("resnet18", 11_689_512, 1_814_073_344, TORCHVISION),
    Row("resnet34", 21_797_672, 3_663_761_408, TORCHVISION),
    Row("resnet50", 25_557_032, 4_089_184_256, TORCHVISION),
    Row("resnet101", 44_549_160, 7_801_405_440, TORCHVISION),
    Row("resnet152", 60_192_808, 11_513_626_624, TORCHVISION),
    Row("resnet50", 25_557_032, 3_857_973_248, f"{RESNET}, table 1: 3.8e9; {EARLY}",
        sets=("early=true",)),
    Row("resnet101", 44_549_160, 7_570_194_432, f"{RESNET}, table 1: 7.6e9; {EARLY}",
        sets=("early=true",)),
    Row("resnet152", 60_192_808, 11_282_415_616, f"{RESNET}, table 1: 11.3e9; {EARLY}",
        sets=("early=true",)),
    *[Row(f"resnet{6 * n + 2}", cifar_net(n, OPTION_B), cifar_macs(n, OPTION_B_MACS), CIFAR)
      for n in (3, 9, 18)],
    *[Row(f"resnet{6 * n + 2}", cifar_net(n, 0), cifar_macs(n, 0), CIFAR, sets=("option_a=true",))
      for n in (3, 9, 18)],
    Row("stochastic_depth_110", cifar_net(18, OPTION_B), cifar_macs(18, OPTION_B_MACS),
        "Huang et al., ECCV 2016, section 4: ResNet-110 (1.7M)"),
    *[Row(f"plain{6 * n + 2}", cifar_net(n, 0), cifar_macs(n, 0), CIFAR) for n in (3, 9)],
    Row("wide_resnet50_2", 68_883_240, 11_398_021_120, TORCHVISION),
    Row("wrn_28_10", 36_479_194,
        conv(32, 3, 3, 16) + 6_400
        + sum(conv(c, 3, a, b) + 7 * conv(c, 3, b, b) + conv(c, 1, a, b) for c, a, b in WIDE),
        "Zagoruyko, Komodakis, BMVC 2016, table 4: 36.5M; MACs by formula"),
    Row("resnext50_32x4d", 25_028_904, 4_230_479_872, TORCHVISION),
    Row("resnext101_64x4d", 83_455_272, 15_460_270_080, TORCHVISION),
    Row("densenet121", 7_978_856, 2_834_161_664, TORCHVISION),
    Row("densenet169", 14_149_480, 3_359_843_328, TORCHVISION),
    Row("densenet201", 20_013_928, 4_291_365_888, TORCHVISION),
    Row("densenet161", 28_681_000, 7_727_907_072, TORCHVISION),
    Row("se_resnet50", 28_088_024, 3_860_488_192,
        "Hu, Shen, Sun, CVPR 2018, table 2: 3.87 GFLOPs; SE-ResNet-50.prototxt, hujie-frank/SENet"),
    Row("senet154", 115_088_984, 20_688_363_520,
        "Cadene, pretrained-models.pytorch: 115.089M; Hu, Shen, Sun, table 8: 20.7 GFLOPs"),
    Row("squeezenet1_0", 1_248_424, 861_339_936,
        f"{TORCHVISION}; {GSCHWEND}: 1.2M and 860M, at 227x227 as Caffe pools"),
    Row("squeezenet1_1", 1_235_496, 387_747_520,
        f"{TORCHVISION}; {NETSCOPE}, preset squeezenet_v11, at 227x227 as Caffe pools"),
    Row("mobilenet_v1", 4_231_976, 568_740_352,
        "Howard et al., arXiv:1704.04861, table 4: 4.2M and 569M"),
    Row("mobilenet_v2", 3_504_872, 300_774_272, TORCHVISION),
    Row("fcn32s", FCN_TRUNK + 21 * 64**2, FCN_TRUNK_MACS + conv(16, 64, 21, 1), FCN),
    Row("fcn16s", FCN_TRUNK + POOL4 + 21 * (4**2 + 32**2),
        FCN_TRUNK_MACS + POOL4_MACS + conv(16, 4, 21, 1) + conv(34, 32, 21, 1), FCN),
    Row("fcn8s", FCN_TRUNK + POOL4 + POOL3 + 21 * (2 * 4**2 + 16**2),
        FCN_TRUNK_MACS + POOL4_MACS + POOL3_MACS
        + conv(16, 4, 21, 1) + conv(34, 4, 21, 1) + conv(70, 16, 21, 1), FCN),
    Row("unet", 31_030_658,
        sum(conv(n, 3, a, b) for a, b, n in UNET_CONVOLUTIONS)
        + sum(conv(n // 2, 2, 2 * c, c) for c, n in UNET) + conv(512, 1, 64, 2), UNETS),
    Row("unet", 31_030_658 + 5 * sum(2 * c * c for c, _ in UNET), None,
        f"{UNETS}; 9 taps where a deconvolution has 4", sets=("learned=false",)),
    Row("localizer", 11_689_512 + 512 * 4 + 4, 1_814_073_344 + 512 * 4,
        f"resnet18 and a head of four numbers; {TORCHVISION}"),
    Row("pose", sum(k**2 * a * b + b for _, k, a, b in DEEPPOSE),
        sum(conv(*row) for row in DEEPPOSE),
        'Toshev, Szegedy, CVPR 2014, section 3.1, by formula; "about 40M" there is not its layers'),
    Row("siamese", 431_080 + 10 * 2 + 2, 2 * (2_293_000 + 10 * 2),
        f"{CAFFE}, mnist_siamese_train_test.prototxt: LeNet and a layer of two neurons, twice run"),
    Row("triplet", sum(k**2 * a * b + b for _, k, a, b in FACENET),
        3 * sum(conv(*row) for row in FACENET),
        "Schroff, Kalenichenko, Philbin, CVPR 2015, table 1: 140M and, once run, 1.6G"),
    Row("svm_cifar", 3072 * 10 + 10, 30_720, f"{CS231N}, lecture 3: W is 10x3072, b 10"),
    Row("maxout_net", sum(k**2 * a * b + b for _, k, a, b in MAXOUT),
        sum(conv(*row) for row in MAXOUT),
        "pylearn2, scripts/papers/maxout/mnist.yaml; by formula"),
    Row("rotation_invariant", sum(k**2 * a * b + b for _, k, a, b in TURNED) + 80 * 10 + 10,
        4 * sum(conv(*row) for row in TURNED) + 80 * 10, "by formula"),
    Row("speech1d", spoken(40, 98), spoken_macs(40, 98), "by formula: bands are channels"),
    Row("speech1d", spoken(98, 40), spoken_macs(98, 40), "by formula: frames are channels",
        sets=("over_time=false",)),
    Row("text1d", 100 * 300 * (3 + 4 + 5) + 300 + 300 * 2 + 2,
        100 * 300 * (3 * 62 + 4 * 61 + 5 * 60) + 300 * 2,
        "Kim, EMNLP 2014, section 3.1: 100 maps of each width; by formula"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row: Row) -> None:
    found = cost(elaborate(read(row.name, sets=row.sets))[row.phase].net)
    assert found.parameters == row.parameters
    assert row.macs in (None, found.macs)


def test_every_bundled_spec_has_a_row() -> None:
    assert {row.name for row in ROWS} == set(zoo.names())


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


def test_the_sums_of_the_vgg_table() -> None:
    """Of the weights the lecture says 138M; of the activations 24M, which its rows are not."""
    weights = sum(row[3] for row in VGG_TABLE)
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096 + 1000
    assert (weights, weights + biases) == (138_344_128, 138_357_544)
    values = sum(row[2] for row in VGG_TABLE)
    assert values == 15_237_608
    assert f"{4 * values / 2**20:.1f} MiB" == "58.1 MiB"


def test_fcn() -> None:
    """Others' FCN-8s has 134,489,759 (wkentaro/pytorch-fcn; YBIGTA/DL_Models, models/fcn).

    They, and the authors' files, interpolate by weights from each class to each, 21 times as many,
    of which all but those from a class to itself are 0. Table 1's 134M is without interpolation.
    """
    ours = next(row.parameters for row in ROWS if row.name == "fcn8s")
    taps = 4**2 + 4**2 + 16**2
    assert ours - 21 * taps + 21**2 * taps == 134_489_759
    assert FCN_TRUNK == 134_346_581


def test_unet() -> None:
    """23 layers of weights: 18 convolutions of 3x3, 4 deconvolutions, one that scores."""
    convolutions = sum(9 * a * b + b for a, b, _ in UNET_CONVOLUTIONS)
    deconvolutions = sum(4 * 2 * c * c + c for c, _ in UNET)
    assert len(UNET_CONVOLUTIONS) + len(UNET) + 1 == 23
    assert convolutions + deconvolutions + 64 * 2 + 2 == 31_030_658


def test_the_facenet_table() -> None:
    """Table 1 rounds each layer's parameters and multiplications."""
    parameters = [k**2 * a * b + b for _, k, a, b in FACENET]
    rounded = [f"{n / 1e6:.0f}M" if n >= 1e6 else f"{n / 1e3:.0f}K" for n in parameters]
    assert rounded == ["9K", "4K", "111K", "37K", "664K", "148K", "885K", "66K", "590K", "66K",
                       "590K", "103M", "34M", "524K"]  # fmt: skip
    assert f"{sum(parameters) / 1e6:.0f}M" == "140M"
    assert f"{sum(conv(*row) for row in FACENET) / 1e9:.1f}G" == "1.6G"


def test_squeeze_and_excitation() -> None:
    """Two layers on each bottleneck of ResNet-50, to a sixteenth of its channels and back."""
    gates = [(256, 3), (512, 4), (1024, 6), (2048, 3)]
    weights = sum(n * 2 * c * c // 16 for c, n in gates)
    biases = sum(n * (c // 16 + c) for c, n in gates)
    assert 25_557_032 + weights + biases == 28_088_024
    assert 3_857_973_248 + weights == 3_860_488_192


def test_where_a_stage_strides() -> None:
    """In the first 1x1 convolution of a bottleneck instead of the 3x3, it reads a quarter."""
    strided = [(56, 256, 128), (28, 512, 256), (14, 1024, 512)]
    more = sum((cells**2 - (cells // 2) ** 2) * wide * narrow for cells, wide, narrow in strided)
    for late, early in ((4_089_184_256, 3_857_973_248), (7_801_405_440, 7_570_194_432),
                        (11_513_626_624, 11_282_415_616)):  # fmt: skip
        assert late - more == early


@pytest.mark.parametrize(
    ("name", "layers", "growth"),
    [
        ("densenet121", (6, 12, 24, 16), 32),
        ("densenet169", (6, 12, 32, 32), 32),
        ("densenet201", (6, 12, 48, 32), 32),
        ("densenet161", (6, 12, 36, 24), 48),
    ],
)
def test_densenet(name: str, layers: tuple[int, ...], growth: int) -> None:
    """Huang et al., CVPR 2017, table 1: layers of a 1x1 and a 3x3 convolution."""
    channels = 2 * growth
    total = 3 * channels * 49 + 2 * channels
    for stage, count in enumerate(layers):
        for _ in range(count):
            total += 2 * channels + channels * 4 * growth + 8 * growth + 36 * growth * growth
            channels += growth
        total += 2 * channels  # of the transition, and of the last normalisation
        if stage < 3:
            total += channels * channels // 2
            channels //= 2
    (row,) = (row for row in ROWS if row.name == name)
    assert row.parameters == total + channels * 1000 + 1000
