"""Layers over space against PyTorch: what they make, and the gradients of all that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.graph import Value
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.training.execution.targets import find_target

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
"""Of the norm."""


@dataclass(frozen=True)
class Case:
    """A layer in phase TRAIN, and the same in torch: of its bottoms, then its weights."""

    keyword: str
    fields: dict[str, Any]
    bottoms: Sequence[Shape]
    theirs: Callable[..., Any]
    positive: bool = False

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, s)) for s in self.bottoms)
        return "-".join([self.keyword, shapes, *(f"{k}={v}" for k, v in self.fields.items())])


@dataclass
class Lowering:
    """What a layer asks for while it is lowered, here random tensors alone."""

    op: Builder = field(default_factory=Builder)
    training: bool = True
    randoms: list[Value] = field(default_factory=list)

    def random(self, shape: Shape) -> Value:
        self.randoms.append(self.op.input(f"random{len(self.randoms)}", TensorType(shape)))
        return self.randoms[-1]


def deconv(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv_transpose2d(x, w, *b, **attrs)


def conv1d(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv1d(x, w, *b, **attrs)


def conv3d(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv3d(x, w, *b, **attrs)


def deconv3d(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv_transpose3d(x, w, *b, **attrs)


def pyramid(pool: Callable[..., Any], height: int) -> Callable[..., Any]:
    """Spatial pyramid pooling of an image whose sides the bins divide."""

    def theirs(x: Any) -> Any:
        return torch.cat([pool(x, x.shape[2] // 2**i).flatten(1) for i in range(height)], 1)

    return theirs


def turned(w: Any, degrees: float, scale: float = 1) -> Any:
    """Filters as pictures: turned counter-clockwise and enlarged, by torch's own sampling."""
    a = torch.deg2rad(torch.tensor(degrees, dtype=w.dtype))
    back = torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).reshape(2, 2) / scale
    affine = F.pad(back, (0, 1)).expand(w.shape[0], 2, 3)
    grid = F.affine_grid(affine, list(w.shape), align_corners=True)
    return F.grid_sample(w, grid, align_corners=True)


def transformed(
    *maps: Callable[..., Any], pooled: bool = False, **attrs: Any
) -> Callable[..., Any]:
    """A convolution by each filter as it is and through each map, side by side or their largest."""

    def theirs(x: Any, w: Any, b: Any) -> Any:
        filters = torch.stack([w, *(f(w) for f in maps)], 1).flatten(0, 1)
        count = 1 + len(maps)
        y = F.conv2d(x, filters, b.repeat_interleave(count), **attrs)
        return y.unflatten(1, (-1, count)).amax(2) if pooled else y

    return theirs


def zoomed(*size: int) -> Callable[..., Any]:
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=True)


def unfolded(x: Any) -> Any:
    """Darknet's reorganisation by 2: channels of an image of other sides, unfolded."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c // 4, h, 2, w, 2).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, 4 * c, h // 2, w // 2)


RIGHT_ANGLES = [lambda w, k=k: w.rot90(k, (2, 3)) for k in (1, 2, 3)]
X = (2, 4, 5, 6)
STEPS = (2, 4, 17)
VOLUME = (2, 4, 7, 8, 5)
CASES = [
    Case("conv", {"num_output": 3, "kernel_size": 5}, [STEPS], conv1d()),
    Case(
        "conv",
        {"num_output": 16, "kernel_size": 3, "stride": 2, "pad": 1, "bias_term": False},
        [(2, 16, 15)],
        conv1d(stride=2, padding=1),
    ),
    Case(
        "conv",
        {"num_output": 8, "kernel_size": 3, "dilation": 2, "group": 4},
        [STEPS],
        conv1d(dilation=2, groups=4),
    ),
    Case(
        "deconv",
        {"num_output": 6, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2},
        [STEPS],
        lambda x, w, *b: F.conv_transpose1d(x, w, *b, stride=2, padding=1, groups=2),
    ),
    Case("conv", {"num_output": 6, "kernel_size": 3, "pad": 1}, [VOLUME], conv3d(padding=1)),
    Case(
        "conv", {"num_output": 3, "kernel_size": 5, "pad": 2}, [(2, 1, 6, 7, 5)], conv3d(padding=2)
    ),
    Case("conv", {"num_output": 16, "kernel_size": 1}, [(3, 16, 3, 4, 5)], conv3d()),
    Case(
        "conv",
        {"num_output": 32, "kernel_size": 3, "pad": 1, "bias_term": False},
        [(4, 32, 2, 3, 2)],
        conv3d(padding=1),
    ),
    Case(
        "conv",
        {"num_output": 6, "kernel_size": [3, 2, 1], "group": 2}
        | {"stride": [2, 1, 3], "pad": [1, 0, 2], "dilation": [1, 3, 1]},
        [VOLUME],
        conv3d(stride=(2, 1, 3), padding=(1, 0, 2), dilation=(1, 3, 1), groups=2),
    ),
    Case(
        "conv",
        {"num_output": 16, "kernel_size": 3, "stride": 2, "pad": 1, "group": 16},
        [(2, 16, 6, 5, 7)],
        conv3d(stride=2, padding=1, groups=16),
    ),
    Case("deconv", {"num_output": 3, "kernel_size": 2, "stride": 2}, [VOLUME], deconv3d(stride=2)),
    Case(
        "deconv",
        {"num_output": 6, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2, "bias_term": False},
        [VOLUME],
        deconv3d(stride=2, padding=1, groups=2),
    ),
    Case(
        "deconv",
        {"num_output": 16, "kernel_size": [3, 2, 4], "stride": [1, 3, 2]}
        | {"pad": [1, 0, 2], "dilation": [2, 1, 1]},
        [(2, 16, 4, 3, 5)],
        deconv3d(stride=(1, 3, 2), padding=(1, 0, 2), dilation=(2, 1, 1)),
    ),
    Case(
        "depthwise_conv",
        {"kernel_size": 3, "multiplier": 2},
        [VOLUME],
        conv3d(groups=4),
    ),
    Case("prelu", {}, [VOLUME], lambda x, a: F.prelu(x, a)),
    Case("softmax", {}, [VOLUME], lambda x: x.softmax(1)),
    Case("softmax", {"axis": -1}, [VOLUME], lambda x: x.softmax(4)),
    Case("bn", {"bn_mode": "LEARN"}, [VOLUME], lambda x, *w: F.batch_norm(x, None, None, *w, True)),
    *(
        Case(
            "pool",
            {"pool": kind, "kernel_size": 3, "stride": stride},
            [(2, channels, 16)],
            theirs(stride),
        )
        for kind, theirs in (
            ("MAX", lambda s: lambda x: F.max_pool1d(x, 3, s, ceil_mode=True)),
            ("AVE", lambda s: lambda x: F.avg_pool1d(x, 3, s, ceil_mode=True)),
        )
        for stride in (1, 2, 3)
        for channels in (4, 16)
    ),
    Case(
        "conv",
        {"num_output": 4, "kernel_size": 3, "group": 2, "pad": 1}
        | {"transforms": ["rot90", "rot180", "rot270", "flip"]},
        [X],
        transformed(*RIGHT_ANGLES, lambda w: w.flip(3), padding=1, groups=2),
    ),
    Case(
        "conv",
        {"num_output": 16, "kernel_size": 4, "pool_transforms": "MAX"}
        | {"transforms": ["rot90", "rot180", "rot270"]},
        [(2, 16, 8, 8)],
        transformed(*RIGHT_ANGLES, pooled=True),
    ),
    Case(
        "conv",
        {"num_output": 3, "kernel_size": 5}
        | {"transforms": {"rotate": [45, 90, -30], "scale": [0.5, 1, 2], "flip": True}},
        [(2, 4, 7, 7)],
        transformed(
            lambda w: turned(w, 45),
            lambda w: turned(w, 90),
            lambda w: turned(w, -30),
            lambda w: turned(w, 0, 0.5),
            lambda w: turned(w, 0, 2),
            lambda w: w.flip(3),
        ),
    ),
    Case(
        "conv",
        {"num_output": 3, "kernel_size": 3, "bias_term": False, "transforms": "flip"},
        [STEPS],
        lambda x, w: F.conv1d(x, torch.stack([w, w.flip(2)], 1).flatten(0, 1)),
    ),
    Case("pool", {"pool": "AVE", "global_pooling": True}, [STEPS], lambda x: x.mean(2, True)),
    Case("pool", {"pool": "SUM", "global_pooling": True}, [X], lambda x: x.sum((2, 3), True)),
    Case(
        "pool",
        {"pool": "SUM", "kernel_size": 3, "stride": 2, "pad": 1, "round_mode": "FLOOR"},
        [X],
        lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=1),
    ),
    Case(
        "pool",
        {"pool": "SUM", "kernel_size": 3, "stride": 2},
        [(2, 16, 8, 8)],
        lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True, divisor_override=1),
    ),
    Case(
        "pad_channels",
        {"num_output": 7},
        [X],
        lambda x: F.pad(x, (0, 0, 0, 0, 0, 3)),
    ),
    Case(
        "upsample",
        {"scale": 3},
        [X],
        lambda x: F.interpolate(x, scale_factor=3, mode="nearest"),
    ),
    Case(
        "upsample",
        {"scale": 2},
        [STEPS],
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    ),
    *(
        Case(
            "upsample",
            {"scale": scale, "mode": "BILINEAR"},
            [(2, 16, 5, 6)],
            lambda x, s=scale: F.interpolate(x, scale_factor=s, mode="bilinear"),
        )
        for scale in (2, 3, 8)
    ),
    Case(
        "upsample",
        {"scale": 4, "mode": "BILINEAR"},
        [STEPS],
        lambda x: F.interpolate(x, scale_factor=4, mode="linear"),
    ),
    Case(
        "upsample",
        {"scale": 2, "mode": "BILINEAR"},
        [(2, 3, 1, 1)],
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    *(
        Case(
            "interp",
            {"height": height, "width": width},
            [X],
            zoomed(height, width),
        )
        for height, width in ((9, 11), (3, 4), (13, 2), (1, 6))
    ),
    Case("interp", {"zoom_factor": 8}, [(2, 16, 5, 6)], zoomed(33, 41)),
    Case("axpy", {}, [(2, 4), X, X], lambda a, x, b: a[:, :, None, None] * x + b),
    Case("axpy", {}, [(2, 4, 1, 1), X, X], lambda a, x, b: a * x + b),
    Case("reorg", {"stride": 2}, [(2, 8, 4, 6)], unfolded),
    Case(
        "bn", {"bn_mode": "INFERENCE"}, [X], lambda x, a, b: a.view(4, 1, 1) * x + b.view(4, 1, 1)
    ),
    Case("bn", {"bn_mode": "LEARN"}, [X], lambda x, *w: F.batch_norm(x, None, None, *w, True)),
    Case(
        "depthwise_conv",
        {"kernel_size": 3, "pad": 1, "multiplier": 2},
        [X],
        lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=4),
    ),
    Case(
        "depthwise_conv",
        {"kernel_size": 3, "dilation": 2, "bias_term": False},
        [(2, 16, 7, 7)],
        lambda x, w: F.conv2d(x, w, dilation=2, groups=16),
    ),
    Case("permute", {"order": [0, 2, 3, 1]}, [X], lambda x: x.permute(0, 2, 3, 1)),
    Case("tile", {"tiles": 3, "axis": 2}, [X], lambda x: x.tile(1, 1, 3, 1)),
    Case("reduction", {}, [X], lambda x: x.sum()),
    Case(
        "reduction",
        {"operation": "ASUM", "axis": 1, "coeff": 0.5},
        [X],
        lambda x: 0.5 * x.abs().sum((1, 2, 3)),
    ),
    Case(
        "reduction",
        {"operation": "SUMSQ", "axis": 2},
        [X],
        lambda x: (x * x).sum((2, 3)),
    ),
    Case("reduction", {"operation": "MEAN", "axis": 3}, [X], lambda x: x.mean(3)),
    Case("argmax", {"out_max_val": True, "top_k": 3, "axis": 1}, [X], lambda x: x.topk(3, 1)[0]),
    Case("spp", {"pyramid_height": 3}, [(2, 3, 8, 8)], pyramid(F.max_pool2d, 3)),
    Case("spp", {"pyramid_height": 3, "pool": "AVE"}, [(2, 3, 8, 8)], pyramid(F.avg_pool2d, 3)),
    Case("deconv", {"num_output": 3, "kernel_size": 3}, [X], deconv()),
    Case(
        "deconv",
        {"num_output": 6, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2},
        [X],
        deconv(stride=2, padding=1, groups=2),
    ),
    Case(
        "deconv",
        {"num_output": 4, "kernel_size": 4, "stride": 2, "pad": 1, "group": 4, "bias_term": False},
        [X],
        deconv(stride=2, padding=1, groups=4),
    ),
    Case(
        "deconv",
        {"num_output": 16, "kernel_size": [3, 2], "stride": [1, 3], "dilation": [2, 1], "pad": 1},
        [(2, 16, 4, 4)],
        deconv(stride=(1, 3), padding=1, dilation=(2, 1)),
    ),
]

each_target = pytest.mark.parametrize(
    "target", [CPU_PLAIN, CUDA, find_target("cpu").target], ids=str
)


@each_target
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_and_its_gradient_are_those_of_torch(case: Case, target: Target) -> None:
    rng = np.random.default_rng(0)
    layer = LAYERS[case.keyword].model_validate(case.fields)
    types = [TensorType(shape) for shape in case.bottoms]
    arrays = [rng.standard_normal(t.shape) for t in types]
    if case.positive:
        arrays = [np.abs(a) + 0.5 for a in arrays]
    arrays += [rng.standard_normal(w.shape) for w in layer.weights(types)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = case.theirs(*tensors)
    y_bar = rng.standard_normal(y.shape)
    bars = torch.autograd.grad(y, tensors, torch.tensor(y_bar))
    for got, want in zip(pull(case, target, arrays, y_bar), (y.detach(), *bars), strict=True):
        assert got.shape == tuple(want.shape)
        assert np.linalg.norm(got - want.numpy()) <= TOLERANCE * np.linalg.norm(want.numpy())


def pull(case: Case, target: Target, arrays: Sequence[Any], y_bar: Any) -> list[Any]:
    """The layer's top and our cotangents, formulated for a target, on onnxruntime's CPU."""
    layer, context = LAYERS[case.keyword].model_validate(case.fields), Lowering()
    op, count = context.op, len(case.bottoms)
    fed = [op.input(f"x{i}", TensorType(a.shape)) for i, a in enumerate(arrays)]
    (y,) = layer.lower(context, fed[:count], fed[count:])  # type: ignore[arg-type]
    assert y.type.shape == y_bar.shape
    bars = grad(op, tuple(op.ops), {y: op.input("y_bar", y.type)}, fed)
    assert all(bars)
    feeds = {v.name: a.astype("float32") for v, a in zip(fed, arrays, strict=True)}
    feeds["y_bar"] = y_bar.astype("float32")
    return run(op, [y, *(bar for bar in bars if bar)], feeds, target)


def run(op: Builder, outputs: Sequence[Value], feeds: dict[str, Any], target: Target) -> list[Any]:
    """Outputs of a graph, formulated for a target, on onnxruntime's CPU."""
    graph = op.graph(outputs, name="layer")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        emit(formulate(graph, target).graph).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return list(session.run(None, feeds))


@each_target
def test_the_first_of_two_bottoms_alone_is_cropped(target: Target) -> None:
    op = Builder()
    x, like = op.input("x", TensorType(X)), op.input("like", TensorType((2, 1, 3, 3)))
    layer = LAYERS["crop"].model_validate({"offset": [2, 1]})
    (y,) = layer.lower(Lowering(op), [x, like], [])  # type: ignore[arg-type]
    bars = grad(op, tuple(op.ops), {y: op.input("y_bar", y.type)}, [x, like])
    assert bars[1] is None
    assert bars[0] is not None
    array, y_bar = np.random.default_rng(0).standard_normal((2, *X)).astype("float32")
    y_bar = y_bar[:, :, :3, :3]
    feeds = {"x": array, "y_bar": y_bar, "like": np.zeros(like.type.shape, "float32")}
    got = run(op, [y, bars[0]], feeds, target)
    tensor = torch.tensor(array, requires_grad=True)
    cropped = tensor[:, :, 2:5, 1:4]
    (expected,) = torch.autograd.grad(cropped, tensor, torch.tensor(y_bar))
    np.testing.assert_array_equal(got[0], cropped.detach().numpy())
    np.testing.assert_array_equal(got[1], expected.numpy())


@each_target
@pytest.mark.parametrize("window", [{"kernel_size": 3, "stride": 2}, {"global_pooling": True}])
def test_a_drawn_cell_takes_the_gradient(window: dict[str, Any], target: Target) -> None:
    # With draws from 0 up to 1, cells by value: of what torch would gather, by indices of its own.
    op = Builder()
    x, context = op.input("x", TensorType((3, 2, 7, 7))), Lowering(op)
    layer = LAYERS["pool"].model_validate({"pool": "STOCHASTIC", **window})
    (y,) = layer.lower(context, [x], [])  # type: ignore[arg-type]
    (bar,) = grad(op, tuple(op.ops), {y: op.input("y_bar", y.type)}, [x])
    assert bar is not None
    rng = np.random.default_rng(2)
    array = rng.uniform(0.1, 2, x.type.shape).astype("float32")
    draws = rng.uniform(0, 1, y.type.shape).astype("float32")
    y_bar = rng.standard_normal(y.type.shape).astype("float32")
    feeds = {"x": array, "y_bar": y_bar, "random0": draws}
    got = run(op, [y, bar], feeds, target)
    tensor = torch.tensor(array, dtype=torch.float64, requires_grad=True)
    kernel, stride = window.get("kernel_size", 7), window.get("stride", 1)
    cells = F.unfold(tensor, kernel, stride=stride).reshape(3, 2, kernel**2, *y.type.spatial)
    passed = cells.cumsum(2) > torch.tensor(draws)[:, :, None] * cells.sum(2, keepdim=True)
    theirs = cells.gather(2, passed.int().argmax(2, keepdim=True))[:, :, 0]
    (expected,) = torch.autograd.grad(theirs, tensor, torch.tensor(y_bar, dtype=torch.float64))
    np.testing.assert_allclose(got[0], theirs.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(got[1], expected.numpy(), rtol=1e-5)


@each_target
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (2, 1)])
def test_what_a_pool_took_goes_back(target: Target, kernel: int, stride: int) -> None:
    """SegNet's pair: the mask of a pool says where its values go, and so whence their gradients."""
    rng = np.random.default_rng(0)
    extent = (7, 9)
    op, context = (lowering := Lowering()).op, lowering
    x = op.input("x", TensorType((2, 16, *extent)))
    fields = {"kernel_size": kernel, "stride": stride, "round_mode": "FLOOR"}
    pool = LAYERS["pool"].model_validate(fields).with_tops(2)
    grown = LAYERS["upsample"](upsample_h=extent[0], upsample_w=extent[1])
    small, mask = pool.lower(context, [x], [])  # type: ignore[arg-type]
    (y,) = grown.lower(context, [op.Mul(small, small), mask], [])  # type: ignore[arg-type]
    (x_bar,) = grad(op, tuple(op.ops), {y: op.input("y_bar", y.type)}, [x])
    assert x_bar is not None
    given, y_bar = (rng.standard_normal(x.type.shape).astype("float32") for _ in "xy")
    found = run(op, [y, x_bar], {"x": given, "y_bar": y_bar}, target)
    t = torch.tensor(given, dtype=torch.float64, requires_grad=True)
    pooled, places = F.max_pool2d(t, kernel, stride, return_indices=True)
    wanted = F.max_unpool2d(pooled * pooled, places, kernel, stride, output_size=extent)
    if kernel > stride:  # a place that comes twice counts twice in Caffe, once in torch
        np.testing.assert_allclose(found[0], wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
        return
    (bar,) = torch.autograd.grad(wanted, [t], torch.tensor(y_bar, dtype=torch.float64))
    for got, want in zip(found, (wanted.detach(), bar), strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)
