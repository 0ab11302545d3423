"""Training steps on the device that is looked at, beside the same ones on the CPU.

Numbers are compared with TF32 off, relative to the largest of each tensor: 1e-4. Behind a ReLU no
implementation keeps that: a change in the last digit of an input turns a cell on or off, and moves
PyTorch's own gradients of ResNet-20 by 6e-3 to 3e-2. So each family of operators has a small net
without ReLU, ResNet-20 gets tanh for it, the shallow nets with ReLU are held to 5e-2, and of
ResNet-20's own step the loss and the statistics are judged, while the gradients are only told.
Those of a batch normalisation's bias nearly cancel: 5e-3. Half precision is held to 5e-2 beside the
CPU's: its sums round otherwise before they are rounded to 11 bits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cuda_graphs
import numpy as np

from netspec import zoo
from netspec.codegen.solvers import SOLVERS
from netspec.codegen.target import CUDA
from netspec.compiler import elaborate, read
from netspec.ir.net import Net
from netspec.ir.sections import DataSection, Solver
from netspec.ir.transform import Transform
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.training.execution import evaluator, executor
from netspec.training.execution.executor import Executor
from netspec.training.execution.recorded import Warn, silent

ROOT = Path(__file__).resolve().parents[2]
RATE = 0.01
DRY, SMALL = "--dry-run" in sys.argv, "--small" in sys.argv
Arrays = Mapping[str, np.ndarray[Any, Any]]

FAMILIES = {
    "strides": "conv { num_output: 8 kernel_size: 5 stride: 2 pad: 2 } tanh conv { num_output: 6"
    " kernel_h: 3 kernel_w: 2 stride_h: 3 stride_w: 1 }",
    "groups": "conv { num_output: 8 kernel_size: 3 } tanh conv { num_output: 12 kernel_size: 3"
    " group: 4 pad: 1 } conv { num_output: 12 kernel_size: 3 group: 12 pad: 1 stride: 2 }",
    "dilation": "conv { num_output: 8 kernel_size: 3 dilation: 2 pad: 2 } tanh"
    " conv { num_output: 8 kernel_size: 3 dilation: 3 } conv { num_output: 4 kernel_size: 1 }",
    "volumes": "reshape { shape { dim: [0, 3, 4, 13, 3] } } conv { num_output: 8 kernel_size: 3"
    " pad: 1 } tanh conv { num_output: 12 kernel_size: 3x2x1 stride: 1x2x3 pad: [1, 0, 0] group: 2"
    " } tanh deconv { num_output: 6 kernel_size: 3 stride: 2 dilation: 1x2x1 pad: 1 group: 2 }",
    "pools": "conv { num_output: 6 kernel_size: 2 } pool { pool: MAX kernel_size: 3 stride: 2 }"
    " tanh pool { pool: AVE kernel_size: 3 stride: 2 } pool { pool: AVE kernel_size: 2 }",
    "uneven pools": "conv { num_output: 6 kernel_size: 2 pad: 1 } pool { pool: MAX kernel_h: 3"
    " kernel_w: 2 stride_h: 3 stride_w: 2 pad: 1 } pool { pool: AVE kernel_h: 3 kernel_w: 2"
    " stride_h: 2 stride_w: 3 pad: 1 } tanh pool { pool: AVE global_pooling: true }",
    "lrn": "conv { num_output: 8 kernel_size: 3 } lrn { alpha: 0.1 } tanh"
    " lrn { norm_region: WITHIN_CHANNEL local_size: 3 }",
    "batch_norm": "conv { num_output: 8 kernel_size: 3 bias_term: false } batch_norm tanh",
    "dropout": "fc { num_output: 32 } tanh dropout { dropout_ratio: 0.3 }",
    "joins": "conv { num_output: 6 kernel_size: 3 pad: 1 } tanh inception { branch { conv {"
    " num_output: 3 kernel_size: 1 } } branch { conv { num_output: 5 kernel_size: 1 } tanh } branch"
    " {} } residual { conv { num_output: 14 kernel_size: 3 pad: 1 } sigmoid }",
}
TRANSFORMS: dict[str, dict[str, Any]] = {
    "one resampling": {
        "rotation": 30, "zoom": 2, "shear": 9, "stretch": 2, "translation": 3, "distortion": 0.1,
        "pad": 2, "crop_size": 11, "mirror": True, "flip_vertical": True, "border": "REFLECT",
    },
    "colours": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1, "cutout": 4},
    "resized": {"resize": [13, 20], "crop_size": 11, "mirror": True},
    "mixed": {"cutmix": 0.3, "mixup": 0.3},
}  # fmt: skip
HALVES = ("lenet", "resnet20", "googlenet", "unet")
"""Specs whose half precision is placed, too."""
HEAD = 'input "data" { shape: 3x13x12 }\n'
TAIL = "\nfc { num_output: 10 } softmax_loss accuracy\n"


# --- what the checks are made of -------------------------------------------------------------


def device(*, tf32: bool = False, graphs: bool = False, checked: bool = False) -> Device:
    """The one to look at."""
    return Device("cpu") if DRY else Device("cuda", tf32=tf32, graphs=graphs, checked=checked)


def made(net: Net, arrays: Arrays, where: Device | None, warn: Warn = silent) -> Executor:
    """A training: on the device that is looked at, or where that is None on the CPU, as usual.

    A dry run computes on the CPU what CUDA would get.
    """
    usual = executor.target_for, evaluator.target_for
    if DRY and where is not None:
        executor.target_for = evaluator.target_for = lambda _: CUDA
    try:
        on = where or Device("cpu")
        return Executor(net, None, arrays, None, device=on, seed=1, warn=warn)
    finally:
        executor.target_for, evaluator.target_for = usual


def net_of(path: str, batch: int, *sets: str, transform: Transform | None = None) -> Net:
    net = elaborate(read(path, sets=sets), batch=batch).train.net
    usual = DataSection(source="noise", batch_size=batch, transform=cuda_graphs.transform(net))
    data = net.data or usual
    if transform:
        data = data.model_copy(update={"transform": transform})
    solver = Solver(type="SGD", base_lr=RATE, momentum=0.9, weight_decay=5e-4, max_iter=1)
    return net.model_copy(update={"data": data, "solver": solver})


def written(text: str, batch: int = 8, transform: Transform | None = None) -> Net:
    """The net of a text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "family.net"
        path.write_text(text)
        return net_of(str(path), batch, transform=transform)


def solved(net: Net, **fields: Any) -> Net:
    """The net, with other fields of its solver."""
    assert net.solver is not None
    found = {**net.solver.model_dump(exclude_unset=True), **fields}
    return net.model_copy(update={"solver": Solver.model_validate(found)})


def in_half(net: Net) -> Net:
    """The net, trained in half precision."""
    return solved(net, precision="FP16")


def noise(net: Net, batches: int = 2) -> Arrays:
    """A data set of bytes: images in which neighbours are alike, and labels."""
    rng, types = np.random.default_rng(0), cuda_graphs.array_types(net)
    shape = (net.batch * batches, *types["data"].sample)
    images = rng.integers(0, 256, shape, np.uint8)
    return {"data": images, "label": rng.integers(0, 10, shape[0])}


def rows(net: Net, arrays: Arrays, i: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    assert net.solver is not None
    count = net.batch * net.solver.iter_size
    return (np.arange(count, dtype=np.int64) + i * count) % len(arrays["label"])


def left(training: Executor) -> dict[str, np.ndarray[Any, Any]]:
    """Gradients and batch statistics of the last step, and the weights after it."""
    held = training.held
    kinds = {
        "gradient": held.summed_gradients(),
        "batch": held.batch.dump(),
        "weight": held.weights.dump(),
    }
    return {f"{k} {name}": a for k, found in kinds.items() for name, a in found.items()}


def apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """The largest difference in each tensor, relative to its largest value."""
    return {
        name: float(np.abs(ours[name] - a).max() / max(np.abs(a).max(), 1e-30))
        for name, a in theirs.items()
    }


def compare(net: Net, *, steps: int = 1, loose: float = 1e-4, told: tuple[str, ...] = ()) -> str:
    """Losses and all that steps leave, beside the CPU's; the kinds in `told` are not judged."""
    arrays = noise(net)
    ours, theirs = made(net, arrays, device()), made(net, arrays, None)
    worst: dict[str, float] = {}
    for i in range(steps):
        a, b = (t.step(i, rows(net, arrays, i), RATE).loss for t in (ours, theirs))
        worst["loss"] = max(worst.get("loss", 0.0), abs(a - b) / abs(b))
    biases = {f"gradient {n}" for n in left(theirs) for n in _norm_biases(net)}
    found = apart(left(ours), left(theirs))
    for name, difference in found.items():
        kind = "norm bias" if name in biases else name.split()[0]
        worst[kind] = max(worst.get(kind, 0.0), difference)
    text = " ".join(f"{kind} {difference:.0e}" for kind, difference in worst.items())
    bounds = {"loss": max(1e-4, loose / 10), "norm bias": max(5e-3, loose)}
    for kind, difference in worst.items():
        bound = bounds.get(kind, loose)
        if kind not in told and not difference <= bound:
            where = max((n for n in found if n.startswith(kind)), key=found.get, default=kind)
            raise AssertionError(f"{where}: {difference:.1e} > {bound:.0e} ({text})")
    return text


def _norm_biases(net: Net) -> list[str]:
    norms = [node.name for node in net.nodes if node.layer.keyword == "batch_norm"]
    return [f"{name}.bias" for name in norms]


def each(nets: Mapping[str, Net], what: str, **how: Any) -> str:
    """One comparison for each net; all that fail are told."""
    worst, faults = dict[str, float](), list[str]()
    for name, net in nets.items():
        try:
            said = compare(net, **how)
            worst[name] = max(float(word) for word in said.split()[1::2] if word[0].isdigit())
        except Exception as fault:
            faults.append(f"{name}: {str(fault).splitlines()[0][:150]}")
    if faults:
        raise AssertionError("; ".join(faults))
    name = max(worst, key=worst.__getitem__)
    return f"{len(worst)} {what}, at most {worst[name]:.0e} ({name})"


# --- the checks -------------------------------------------------------------------------------


def placement(part: int, parts: int) -> str:
    """A session of every graph of every spec; onnxruntime refuses one that is not on CUDA whole."""
    nodes = graphs = 0
    for name in ("lenet", "resnet20")[part::parts] if SMALL else zoo.names()[part::parts]:
        for kind, step in cuda_graphs.steps(name, half=name in HALVES).items():
            assert not (found := list(cuda_graphs.hazards(step.graph))), (name, kind, found[0])
            make_session(cuda_graphs.model(step), device())
            nodes, graphs = nodes + len(step.graph.ops), graphs + 1
    for name in [*cuda_graphs.updates()][part::parts]:
        make_session(cuda_graphs.update_model(name), device())
        graphs += 1
    return f"{nodes} nodes of {graphs} graphs, all there"


def families(*, half: bool = False) -> str:
    """One net for each family of operators, without ReLU."""
    nets = {name: written(HEAD + body + TAIL) for name, body in FAMILIES.items()}
    if half:
        return each({name: in_half(net) for name, net in nets.items()}, "families", loose=5e-2)
    return each(nets, "families")


def augmentation() -> str:
    """Images bent, cut, coloured and mixed.

    A sample that falls on the edge between two cells, or of a colour between two others, may fall
    to either side: of thousands of cells a few do, which gradients show.
    """
    net = "conv { num_output: 6 kernel_size: 3 } tanh pool { pool: AVE kernel_size: 2 stride: 2 }"
    usual = {"mean_value": [120.0], "scale": 1 / 64}
    shape = {"colours": "3x13x12", "mixed": "3x13x12"}
    nets = {
        name: written(
            HEAD.replace("3x13x12", shape.get(name, "3x11x11")) + net + TAIL,
            transform=Transform.model_validate({**usual, **fields}),
        )
        for name, fields in TRANSFORMS.items()
    }
    return each(nets, "transforms", loose=1e-3)


def solvers() -> str:
    """Three steps of every kind of solver, and of what goes with them."""
    net = written(HEAD + FAMILIES["strides"] + TAIL)
    kinds: dict[str, dict[str, Any]] = {kind: {"type": kind} for kind in SOLVERS}
    for kind in ("AdaGrad", "RMSProp"):
        kinds[kind]["momentum"] = 0.0
    kinds["clipped, accumulated"] = {"clip_gradients": 0.1, "iter_size": 2}
    kinds["averaged"] = {"ema_decay": 0.9}
    nets = {name: solved(net, **fields) for name, fields in kinds.items()}
    return each(nets, "solvers", steps=3, loose=1e-3)


def lenet_step() -> str:
    """LeNet has one ReLU: a flip is rare, but it happens."""
    return compare(net_of("lenet", 16), loose=5e-2)


def lenet_20_steps() -> str:
    """What 20 steps make of the last digit."""
    return compare(net_of("lenet", 16), steps=3 if SMALL else 20, loose=5e-2)


def lenet_half() -> str:
    """LeNet in half precision."""
    return compare(in_half(net_of("lenet", 16)), loose=5e-2)


def quick_step() -> str:
    """cifar10_quick: overlapping pools, ReLU."""
    return compare(net_of("cifar10_quick", 8), loose=5e-2)


def resnet_tanh() -> str:
    """ResNet-20 with tanh for ReLU."""
    text = (ROOT / "specs" / "resnet20.net").read_text()
    return compare(written(text.replace("relu", "tanh")))


def resnet_relu() -> str:
    """ResNet-20 as it is: what is achievable."""
    return compare(net_of("resnet20", 8), told=("gradient", "norm bias", "weight"))


def capture(*, checked: bool = False, **solver: Any) -> str:
    """The same weights after ten steps with CUDA graphs and without, to the last bit or nearly."""
    net = written(HEAD + FAMILIES["batch_norm"] + "\n" + FAMILIES["dropout"] + TAIL)
    net = solved(net, **solver)
    arrays, weights, warnings = noise(net, 4), [], list[str]()
    for graphs in (False, True):
        where = device(graphs=graphs, checked=graphs and checked)
        training = made(net, arrays, where, warnings.append)
        for i in range(10):
            loss = training.step(i, rows(net, arrays, i), RATE).loss
        state = training.state()
        slots = {f"{s} {n}": a for s, slot in state.slots.items() for n, a in slot.items()}
        weights.append({**state.weights, **state.statistics, **slots})
    found = apart(*weights)
    # Sums by atomics differ from run to run; a step too many differs by the step.
    assert not warnings, warnings[0]
    name = max(found, key=found.__getitem__)
    bound = 1e-2 if "precision" in solver else 1e-4
    assert found[name] <= bound, f"{name}: {found[name]:.1e}"
    return f"{len(found)} tensors, at most {found[name]:.0e}; loss {loss:.4f}"
