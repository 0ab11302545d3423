"""Single layers of Caffe's with drawn fields: OpenCV's importer computes what netspec does.

Where OpenCV is not to be trusted nothing is drawn: LRN always says alpha, and its k is 1; MVN has
its usual eps; a pool is padded on both axes or on none, since padding one makes Caffe drop windows
that begin behind the end of either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.caffe.weights import save_caffemodel
from netspec.compiler import compile_spec, elaborate, read
from netspec.ir.net import Net

cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.parity

Array = npt.NDArray[Any]
Rng = np.random.Generator

CASES = 40
SHAPE = (2, 6, 11, 9)
HEAD = 'input: "x" input_shape { dim: 2 dim: 6 dim: 11 dim: 9 }\n'


def layer(type: str, fields: str, *bottoms: str) -> str:
    """A layer of Caffe's; without bottoms it reads `x`."""
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms or ("x",))
    return f'layer {{ name: "y" type: "{type}" {read} top: "y" {fields} }}'


def window(rng: Rng, *, pool: bool = False) -> str:
    """Kernel, stride and padding of the axes: together, or each for itself.

    Pools have no window that starts outside of the image: netspec refuses them.
    """
    padded = rng.random() < 0.5
    fields = []
    for axis in rng.choice(["", "hw"]) or [""]:
        kernel = int(rng.integers(1 + pool, 5))
        pad = rng.integers(1, kernel) if padded and kernel > 1 else 0
        step = rng.integers(1, min(4, kernel + 1) if pool else 4)
        size = f"kernel_{axis}" if axis else "kernel_size"
        stride, border = (f"{word}_{axis}".rstrip("_") for word in ("stride", "pad"))
        fields.append(f"{size}: {kernel} {stride}: {step} {border}: {pad}")
    return " ".join(fields)


def filters(rng: Rng) -> str:
    group = rng.choice([1, 2, 3, 6])
    bias = rng.choice(["true", "false"])
    return f"num_output: {6 * rng.integers(1, 3)} group: {group} bias_term: {bias} {window(rng)}"


def convolution(rng: Rng) -> str:
    dilation = rng.integers(1, 3)
    return layer("Convolution", f"convolution_param {{ {filters(rng)} dilation: {dilation} }}")


def deconvolution(rng: Rng) -> str:
    return layer("Deconvolution", f"convolution_param {{ {filters(rng)} }}")


def pooling(rng: Rng) -> str:
    if rng.random() < 0.1:
        fields = "global_pooling: true"
    else:
        fields = f"{window(rng, pool=True)} {rng.choice(['', 'ceil_mode: false'])}"
    return layer("Pooling", f"pooling_param {{ pool: {rng.choice(['MAX', 'AVE'])} {fields} }}")


def inner_product(rng: Rng) -> str:
    bias = rng.choice(["true", "false"])
    fields = f"num_output: {rng.integers(1, 9)} axis: {rng.integers(1, 4)} bias_term: {bias}"
    return layer("InnerProduct", f"inner_product_param {{ {fields} }}")


def lrn(rng: Rng) -> str:
    region = rng.choice(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
    fields = f"local_size: {rng.choice([1, 3, 5])} alpha: {rng.uniform(0.1, 3):.3f}"
    fields += f" beta: {rng.choice([0.5, 0.75, 1])} norm_region: {region}"
    return layer("LRN", f"lrn_param {{ {fields} }}")


def batch_norm(rng: Rng) -> str:
    return layer("BatchNorm", f"batch_norm_param {{ eps: {rng.choice([1e-5, 1e-3, 0.1])} }}")


def scale(rng: Rng) -> str:
    if rng.random() < 0.2:
        mean = 'layer { name: "mean" type: "Pooling" bottom: "x" top: "mean"\n'
        mean += "pooling_param { pool: AVE global_pooling: true } }\n"
        mean += 'layer { name: "b" type: "Flatten" bottom: "mean" top: "b" }\n'
        return mean + layer("Scale", "scale_param { axis: 0 }", "x", "b")
    axis = int(rng.integers(1, 4))
    count = rng.choice([-1, *range(1, 5 - axis)])
    bias = rng.choice(["true", "false"])
    fields = f"axis: {axis} num_axes: {count} bias_term: {bias}"
    return layer("Scale", f"scale_param {{ {fields} }}")


def eltwise(rng: Rng) -> str:
    other = 'layer { name: "b" type: "TanH" bottom: "x" top: "b" }\n'
    operation = rng.choice(["SUM", "PROD", "MAX"])
    coefficients = ""
    if operation == "SUM" and rng.random() < 0.7:
        coefficients = " ".join(f"coeff: {c:.3f}" for c in rng.normal(size=2))
    fields = f"eltwise_param {{ operation: {operation} {coefficients} }}"
    return other + layer("Eltwise", fields, "x", "b")


def crop(rng: Rng) -> str:
    like = 'layer { name: "b" type: "Pooling" bottom: "x" top: "b"\n'
    like += "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }\n"  # 5 x 4 of 11 x 9
    offsets = rng.integers(0, 6, rng.integers(0, 3))
    fields = " ".join(f"offset: {offset}" for offset in offsets)
    return like + layer("Crop", f"crop_param {{ axis: 2 {fields} }}", "x", "b")


def normalize(rng: Rng) -> str:
    across, shared = rng.choice([("true", "true"), ("false", "true"), ("false", "false")])
    fields = f"across_spatial: {across} channel_shared: {shared}"
    return layer("Normalize", f"norm_param {{ {fields} }}")


def mvn(rng: Rng) -> str:
    across, variance = rng.choice(["true", "false"], 2)
    return layer("MVN", f"mvn_param {{ across_channels: {across} normalize_variance: {variance} }}")


def reshape(rng: Rng) -> str:
    dims = rng.choice(["0 -1", "0 0 99", "0 3 2 -1", "0 -1 9 11", "0 9 -1"]).split()
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return layer("Reshape", f"reshape_param {{ shape {{ {shape} }} }}")


def flatten(rng: Rng) -> str:
    first = int(rng.integers(1, 4))
    fields = f"axis: {first} end_axis: {rng.integers(first, 4)}"
    return layer("Flatten", f"flatten_param {{ {fields} }}")


def softmax(rng: Rng) -> str:
    return layer("Softmax", f"softmax_param {{ axis: {rng.integers(1, 4)} }}")


def power(rng: Rng) -> str:
    power, scale, shift = rng.choice([1, 2, 3]), rng.normal(), rng.normal()
    fields = f"power: {power} scale: {scale:.3f} shift: {shift:.3f}"
    return layer("Power", f"power_param {{ {fields} }}")


def activation(rng: Rng) -> str:
    slope = f"{rng.uniform(0.01, 1):.3f}"
    kinds = [
        ("ReLU", f"relu_param {{ negative_slope: {slope} }}"), ("ReLU", ""), ("PReLU", ""),
        ("PReLU", "prelu_param { channel_shared: true }"), ("ELU", ""), ("Sigmoid", ""),
        ("ELU", f"elu_param {{ alpha: {slope} }}"), ("TanH", ""), ("AbsVal", ""), ("BNLL", ""),
        ("Swish", ""), ("Exp", f"exp_param {{ base: 2 scale: {slope} shift: 0.3 }}"),
    ]  # fmt: skip
    return layer(*kinds[rng.integers(len(kinds))])


def sliced(rng: Rng) -> str:
    axis = int(rng.integers(1, 4))
    point = rng.integers(1, SHAPE[axis])
    cut = 'layer { name: "cut" type: "Slice" bottom: "x" top: "a" top: "b"\n'
    cut += f"slice_param {{ axis: {axis} slice_point: {point} }} }}\n"
    return cut + layer("Concat", f"concat_param {{ axis: {axis} }}", "b", "x", "a")


DRAWN = [activation, batch_norm, convolution, crop, deconvolution, eltwise, flatten, inner_product,
         lrn, mvn, normalize, pooling, power, reshape, scale, sliced, softmax]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_opencv_computes_the_same(draw: Callable[[Rng], str], tmp_path: Path) -> None:
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        text = HEAD + draw(rng)
        path = tmp_path / "net.prototxt"
        path.write_text(text, encoding="utf-8")
        compare(path, text, rng)


def compare(path: Path, text: str, rng: Rng) -> None:
    spec = read(str(path))
    net = elaborate(spec).test.net
    arrays = weights(net, rng)
    x = rng.standard_normal(SHAPE, np.float32)
    model = compile_spec(spec, weights=arrays, batch=SHAPE[0], outputs=["y"]).model
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (ours,) = session.run(["y"], {"x": x})
    caffemodel = b"".join(save_caffemodel(net, arrays))
    opencv = cv2.dnn.readNetFromCaffe(
        np.frombuffer(text.encode(), np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    opencv.enableWinograd(False)
    opencv.setInput(x, "x")
    theirs = opencv.forward("y")
    assert ours.shape == theirs.shape, text
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5, err_msg=text)


def weights(net: Net, rng: Rng) -> dict[str, Array]:
    arrays = {p.name: rng.normal(0, 0.5, p.shape) for p in net.parameters}
    for name, statistic in net.statistics.items():
        arrays[name] = rng.uniform(0.5, 2, statistic.shape)
    return {name: array.astype(np.float32) for name, array in arrays.items()}
