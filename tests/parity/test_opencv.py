"""Real Caffe nets: OpenCV's importer finds the same shapes, and computes the same numbers.

Every layer of every net that is fed one blob, and, with weights that keep activations of order 1,
the ends of many nets and two blobs on the way.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from netspec.compiler import compile_spec
from netspec.diagnostics import NetspecError
from netspec.ir.types import size

from ..caffe.corpus import entries, needs_corpus

cv2 = pytest.importorskip("cv2")

from .opencv_nets import Array, Case, is_deploy  # noqa: E402

pytestmark = [pytest.mark.parity, needs_corpus]

FILES = {entry.file: entry for entry in entries()}
DEPLOYS = [file for file, entry in FILES.items() if is_deploy(entry)]

UNREADABLE = {
    "hszhao__PSPNet/evaluation/prototxt/pspnet50_ADE20K_473.prototxt":
        "OpenCV: does not have `BN`, and its parser refuses messages in fields it does not know",
    "happynear__caffe-windows/src/caffe/test/normalize_layer.prototxt":
        "OpenCV: its parser refuses the fork's `softmax_param { normalize_type: … }`",
    "happynear__caffe-windows/src/caffe/test/normalize_layer_renorm.prototxt":
        "netspec: ChannelScale is a layer that nothing tells the shape of",
    "happynear__caffe-windows/src/caffe/test/inner_distance_layer.prototxt":
        "netspec: InnerDistance is a layer that nothing tells the shape of",
}  # fmt: skip
"""Nets that one of the two does not read, and why."""

DEVIATIONS = {
    ("torrvision__crfasrnn/python-scripts/TVG_CRFRNN_COCO_VOC.prototxt", "splitting"):
        "OpenCV: only makes the tops of a Split that something reads; their reader is left out",
    ("torrvision__crfasrnn/python-scripts/TVG_CRFRNN_new_deploy.prototxt", "splitting"):
        "OpenCV: only makes the tops of a Split that something reads; their reader is left out",
}  # fmt: skip
"""Layers whose shapes differ, by file and name, and whose fault it is."""

LARGE = frozenset({
    "BVLC__caffe/examples/net_surgery/bvlc_caffenet_full_conv.prototxt",
    "BVLC__caffe/models/bvlc_alexnet/deploy.prototxt",
    "BVLC__caffe/models/bvlc_reference_caffenet/deploy.prototxt",
    "BVLC__caffe/models/bvlc_reference_rcnn_ilsvrc13/deploy.prototxt",
    "BVLC__caffe/models/finetune_flickr_style/deploy.prototxt",
    "KaimingHe__deep-residual-networks/prototxt/ResNet-101-deploy.prototxt",
    "KaimingHe__deep-residual-networks/prototxt/ResNet-152-deploy.prototxt",
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/deploy_singleFrame.prototxt",
    "dgschwend__netscope/presets/YOLO.prototxt",
    "dgschwend__netscope/presets/fcn-8s-pascal.prototxt",
    "ethereon__netscope/presets/fcn-8s-pascal.prototxt",
    "ethereon__netscope/presets/vgg-16.prototxt",
    "shelhamer__fcn.berkeleyvision.org/voc-fcn8s/deploy.prototxt",
    "torrvision__crfasrnn/python-scripts/TVG_CRFRNN_COCO_VOC.prototxt",
    "torrvision__crfasrnn/python-scripts/TVG_CRFRNN_new_deploy.prototxt",
})  # fmt: skip
"""More than 40 million weights."""

BATCHES = {
    "luoyetx__mini-caffe/example/models/wgan/g.prototxt": 1,
    "intel__caffe/models/intel_optimized_models/dcgan/generator.prototxt": 64,
}
"""OpenCV normalises by a batch of 1 only; a Reshape of the other holds its 64."""


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=pytest.mark.slow) if file in LARGE else file
        for file in DEPLOYS
        if file not in UNREADABLE
    ],
)
def test_every_layer_has_the_shape_that_opencv_finds(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(FILES[file], BATCHES.get(file))
    net = case.imported(case.zeros())
    ids, _, outs = net.getLayersShapes(list(case.fed[1]))
    shapes = {
        int(i): [tuple(map(int, shape)) for shape in out] for i, out in zip(ids, outs, strict=True)
    }
    layers = case.layers(net)
    assert len(layers) == len(case.nodes)
    differ = {
        (file, node.name): (shapes[i], ours)
        for (i, _), node in zip(layers, case.nodes, strict=True)
        if (ours := [type.shape for type in node.top_types]) != shapes[i]
    }
    assert differ.keys() == {key for key in DEVIATIONS if key[0] == file}, differ
    with capsys.disabled():
        print(f"{len(layers):4} layers of {size(case.fed[1]):>13} alike: {file}")
        for key in differ:
            print(f"     but {key[1]}: {DEVIATIONS[key]}")


@pytest.mark.parametrize("file", UNREADABLE)
def test_what_is_not_compared_cannot_be(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(FILES[file])
    with pytest.raises((NetspecError, cv2.error)) as caught:
        case.imported(case.zeros())
    who = "netspec" if isinstance(caught.value, NetspecError) else "OpenCV"
    assert UNREADABLE[file].startswith(who)
    with capsys.disabled():
        print(f"not compared: {file}: {UNREADABLE[file]}")


COMPARED = [
    "BVLC__caffe/examples/cifar10/cifar10_full.prototxt",
    "BVLC__caffe/examples/cifar10/cifar10_full_sigmoid_train_test.prototxt",
    "BVLC__caffe/examples/cifar10/cifar10_full_sigmoid_train_test_bn.prototxt",
    "BVLC__caffe/examples/cifar10/cifar10_quick.prototxt",
    "BVLC__caffe/examples/hdf5_classification/nonlinear_train_val.prototxt",
    "BVLC__caffe/examples/hdf5_classification/train_val.prototxt",
    "BVLC__caffe/examples/mnist/lenet.prototxt",
    "BVLC__caffe/examples/net_surgery/conv.prototxt",
    "BVLC__caffe/examples/siamese/mnist_siamese.prototxt",
    "BVLC__caffe/models/bvlc_googlenet/deploy.prototxt",
    "shicai__MobileNet-Caffe/mobilenet_deploy.prototxt",
    "shicai__MobileNet-Caffe/mobilenet_v2_deploy.prototxt",
    "DeepScale__SqueezeNet/SqueezeNet_v1.0/deploy.prototxt",
    "DeepScale__SqueezeNet/SqueezeNet_v1.1/deploy.prototxt",
    "DeepScale__SqueezeNet/SqueezeNet_v1.1/train_val.prototxt",
    "dgschwend__netscope/presets/SSD300.prototxt",
    "dgschwend__netscope/presets/nin.prototxt",
    "dgschwend__netscope/presets/sq11b2a_e3.prototxt",
    "dgschwend__netscope/presets/squeezenet.prototxt",
    "dgschwend__netscope/presets/zynqnet.prototxt",
    "ethereon__netscope/presets/nin.prototxt",
    "intel__caffe/models/default_googlenet_v2/train_val.prototxt",
    "KaimingHe__deep-residual-networks/prototxt/ResNet-50-deploy.prototxt",
    "LisaAnne__lisa-caffe-public/examples/hdf5_classification/train_val2.prototxt",
    "luoyetx__mini-caffe/example/models/deeplandmark/1_F.prototxt",
    "luoyetx__mini-caffe/example/models/deeplandmark/2_LE1.prototxt",
    "luoyetx__mini-caffe/example/models/wgan/g.prototxt",
    "NVIDIA__caffe/classification/model/deploy.prototxt",
    "eric612__MobileNet-YOLO/models/darknet_yolov3/yolov3-tiny.prototxt",
    "yihui-he__resnet-cifar10-caffe/resnet-20/trainval.prototxt",
    "yihui-he__resnet-cifar10-caffe/resnet-56/trainval.prototxt",
    "yihui-he__resnet-cifar10-caffe/vgg16/trainval.prototxt",
]
LONG = [
    "BVLC__caffe/models/bvlc_alexnet/deploy.prototxt",
    "BVLC__caffe/models/bvlc_reference_caffenet/deploy.prototxt",
    "dgschwend__netscope/presets/YOLO.prototxt",
    "dgschwend__netscope/presets/inceptionv3.prototxt",
    "ethereon__netscope/presets/vgg-16.prototxt",
    "intel__caffe/models/intel_optimized_models/dcgan/generator.prototxt",
    "pertusa__InceptionBN-21K-for-Caffe/deploy.prototxt",
    "s9xie__hed/examples/hed/deploy.prototxt",
    "shelhamer__fcn.berkeleyvision.org/voc-fcn8s/deploy.prototxt",
]

CLOSE = 1e-4
"""Of the largest value of a blob."""
LOOSE = {
    "dgschwend__netscope/presets/inceptionv3.prototxt":
        "OpenCV: what a batch normalises is divided by √(1 + eps) once more, and eps is 1e-3",
}  # fmt: skip
"""Nets that are compared to 1e-3, and why."""
TOLD = 1e-3
"""How much of it two samples differ by, so that equal ends mean something."""


@pytest.mark.parametrize(
    "file", [*COMPARED, *(pytest.param(file, marks=pytest.mark.slow) for file in LONG)]
)
def test_every_end_has_the_values_that_opencv_computes(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(FILES[file], BATCHES.get(file, 1))
    name, shape = case.fed
    rng = np.random.default_rng(5)
    one, other = rng.standard_normal((2, *shape), np.float32)
    several = one if file in BATCHES else rng.standard_normal((4, *shape[1:]), np.float32)
    arrays = case.drawn(several)
    blobs = case.probes
    theirs = [case.forward(arrays, x, blobs) for x in (one, other)]
    model = compile_spec(case.spec, weights=arrays, batch=shape[0], outputs=blobs).model
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for x, expected in zip((one, other), theirs, strict=True):
        for blob, a, b in zip(blobs, expected, session.run(blobs, {name: x}), strict=True):
            worst = max(worst, distance(a, b))
            assert distance(a, b) < (1e-3 if file in LOOSE else CLOSE), blob
    for blob, a, b in zip(blobs, *theirs, strict=True):
        assert distance(a, b) > TOLD or blob in case.constants, blob
    with capsys.disabled():
        print(f"{worst:.1e} apart at most, {len(blobs)} blobs: {file}")


def distance(a: Array, b: Array) -> float:
    """The largest difference, in parts of the largest value."""
    assert a.size == b.size
    largest = float(np.abs(a).max())
    assert 0 < largest < np.inf
    return float(np.abs(a.ravel() - b.ravel()).max()) / largest
