"""What only a GPU can show, in one short table: `python tests/gpu/run_on_gpu.py [--dry-run]`.

From the repository's root, on a machine with onnxruntime-gpu, CUDA and cuDNN; PyTorch with CUDA
for the comparison, if it is there. Every check runs in a process of its own within its share of
five minutes, so that one that fails, crashes or hangs takes no other with it. Exit code 0: all is
well; 1: a check failed; 2: there is no GPU. `--dry-run` runs the same checks on the CPU, over the
operators that CUDA would get, but for the large nets' speed; `--small` leaves out what takes long.

Numbers are compared with the CPU's, TF32 off, relative to the largest of each tensor: 1e-4. Behind
a ReLU no implementation keeps that: a change in the last digit of an input turns a cell on or off,
and moves PyTorch's own gradients of ResNet-20 by 6e-3 to 3e-2. So each
family of operators has a small net without ReLU, ResNet-20 gets tanh for it, the shallow nets with
ReLU are held to 5e-2, and of ResNet-20's own step the loss and the statistics are judged, while the
gradients are only told. Those of a batch normalisation's bias nearly cancel: 5e-3. Half precision
is held to 5e-2 beside the CPU's: its sums round otherwise before they are rounded to 11 bits.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
for folder in (HERE, HERE.parent / "parity", HERE.parent / "benchmarks", ROOT):
    sys.path.insert(0, str(folder))

import cuda_graphs  # noqa: E402
import numpy as np  # noqa: E402

from netspec import zoo  # noqa: E402
from netspec.codegen.target import CUDA  # noqa: E402
from netspec.compiler import elaborate, read  # noqa: E402
from netspec.ir.net import Net  # noqa: E402
from netspec.ir.sections import DataSection, Solver  # noqa: E402
from netspec.runtime.device import Device, cuda_fault  # noqa: E402
from netspec.runtime.session import make_session  # noqa: E402
from netspec.training.execution import evaluator, executor  # noqa: E402
from netspec.training.execution.executor import Executor  # noqa: E402
from netspec.training.execution.recorded import Warn, silent  # noqa: E402

TOTAL = 290
"""Seconds, for everything."""
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


def net_of(path: str, batch: int, *sets: str) -> Net:
    net = elaborate(read(path, sets=sets), batch=batch).train.net
    data = net.data or DataSection(
        source="noise", batch_size=batch, transform=cuda_graphs.transform(net)
    )
    solver = Solver(type="SGD", base_lr=RATE, momentum=0.9, weight_decay=5e-4, max_iter=1)
    return net.model_copy(update={"data": data, "solver": solver})


def written(text: str, batch: int = 8) -> Net:
    """The net of a text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "family.net"
        path.write_text(text)
        return net_of(str(path), batch)


def in_half(net: Net) -> Net:
    """The net, trained in half precision."""
    assert net.solver is not None
    solver = net.solver.model_copy(update={"precision": "FP16"})
    return net.model_copy(update={"solver": solver})


def noise(net: Net, batches: int = 2) -> Arrays:
    """A data set of bytes: images in which neighbours are alike, and labels."""
    rng, types = np.random.default_rng(0), cuda_graphs.array_types(net)
    shape = (net.batch * batches, *types["data"].sample)
    images = rng.integers(0, 256, shape, np.uint8)
    return {"data": images, "label": rng.integers(0, 10, shape[0])}


def rows(net: Net, arrays: Arrays, i: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (np.arange(net.batch, dtype=np.int64) + i * net.batch) % len(arrays["label"])


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


# --- the checks -------------------------------------------------------------------------------


def versions() -> str:
    """Who takes part."""
    import onnxruntime as ort

    found = [f"onnxruntime {ort.__version__}"]
    for package in ("nvidia-cudnn-cu13", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10)
        found.append(said.stdout.strip().splitlines()[0])
    except (OSError, IndexError, subprocess.TimeoutExpired):
        found.append("no nvidia-smi")
    return ", ".join(found)


def placement() -> str:
    """A session of every graph of every spec; onnxruntime refuses one that is not on CUDA whole."""
    nodes = graphs = 0
    for name in ("lenet", "resnet20") if SMALL else zoo.names():
        for kind, step in cuda_graphs.steps(name, half=name in HALVES).items():
            assert not (found := list(cuda_graphs.hazards(step.graph))), (name, kind, found[0])
            make_session(cuda_graphs.model(step), device())
            nodes, graphs = nodes + len(step.graph.ops), graphs + 1
    for name in cuda_graphs.updates():
        make_session(cuda_graphs.update_model(name), device())
        graphs += 1
    return f"{nodes} nodes of {graphs} graphs, all there"


def families(*, half: bool = False) -> str:
    """One net for each family of operators, without ReLU."""
    worst = {}
    faults = []
    for name, body in FAMILIES.items():
        try:
            net = written(HEAD + body + TAIL)
            said = compare(in_half(net), loose=5e-2) if half else compare(net)
            worst[name] = max(float(word) for word in said.split()[1::2] if word[0].isdigit())
        except Exception as fault:
            faults.append(f"{name}: {str(fault).splitlines()[0]}")
    if faults:
        raise AssertionError("; ".join(faults))
    name = max(worst, key=worst.__getitem__)
    return f"{len(worst)} families, at most {worst[name]:.0e} ({name})"


def lenet_step() -> str:
    """LeNet has one ReLU: a flip is rare, but it happens."""
    return compare(net_of("lenet", 16), loose=5e-2)


def lenet_20_steps() -> str:
    """What 20 steps make of the last digit."""
    return compare(net_of("lenet", 16), steps=3 if SMALL else 20, loose=5e-2)


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


def accuracy(epochs: int = 5, least: float = 0.97, **wanted: Any) -> str:
    """LeNet on the bundled digits by the public API."""
    import netspec

    if not DRY:
        from netspec.runtime.device import choose_device

        assert choose_device("auto").cuda
    epochs, least = (1, 0.9) if SMALL else (epochs, least)
    spec = netspec.read("lenet", sets=[f"solver.max_epoch={epochs}"])
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        outcome = netspec.train(spec, runs=runs, device="cpu" if DRY else "cuda", **wanted)
    reached = outcome.test["accuracy1" if "accuracy1" in outcome.test else "accuracy"]
    assert reached >= least, reached
    skipped = f", {outcome.skipped} updates left out" if outcome.skipped else ""
    return f"{reached:.2%} after {epochs} epochs, {time.perf_counter() - start:.0f} s{skipped}"


def capture(*, checked: bool = False, half: bool = False) -> str:
    """The same weights after ten steps with CUDA graphs and without, to the last bit or nearly."""
    net = written(HEAD + FAMILIES["batch_norm"] + "\n" + FAMILIES["dropout"] + TAIL)
    net = in_half(net) if half else net
    arrays, weights, warnings = noise(net), [], list[str]()
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
    assert found[name] <= (1e-2 if half else 1e-4), f"{name}: {found[name]:.1e}"
    return f"{len(found)} tensors, at most {found[name]:.0e}; loss {loss:.4f}"


def speed(spec: str, twin: str, batch: int, *sets: str) -> str:
    """Milliseconds of a step: ours, with CUDA graphs, in half precision, PyTorch's; medians.

    TF32 is on for all.
    """
    net = net_of(spec, batch, *sets)
    arrays = noise(net)
    times = {}
    cuda_fault()  # else the first side would pay for the context
    for name, graphs, half in (
        ("ours", False, False), ("graphs", True, False), ("half", False, True),
        ("half graphs", True, True),
    ):  # fmt: skip
        before = taken()
        where = device(tf32=True, graphs=graphs)
        training = made(in_half(net) if half else net, arrays, where)
        times[name] = timed(lambda i, t=training: t.step(i, rows(net, arrays, i), 1e-5))
        times[f"{name} MiB"] = taken() - before
        del training
        gc.collect()
    try:
        times["torch"], times["torch MiB"] = by_torch(net, arrays, twin)
        times["ratio"] = times["torch"] / times["ours"]
        times["with graphs"] = times["torch"] / times["graphs"]
    except ImportError:
        pass
    return " ".join(f"{name} {value:.4g}" for name, value in times.items())


def timed(step: Callable[[int], object]) -> float:
    """The median of steps, each of which brings its loss to the host and so is waited for."""
    for i in range(2 if SMALL else 5):
        step(i)
    taken: list[float] = []
    end = time.perf_counter() + (0.2 if SMALL else 3)
    while time.perf_counter() < end and len(taken) < 200:
        start = time.perf_counter()
        step(len(taken))
        taken.append(time.perf_counter() - start)
    return median(taken) * 1e3


def taken() -> float:
    """MiB of the device's memory in use, by nvidia-smi; 0 in a dry run."""
    if DRY:
        return 0.0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, capture_output=True, text=True).stdout.split()[0])


def by_torch(net: Net, arrays: Arrays, twin: str) -> tuple[float, float]:
    """PyTorch eager: the same gather, transform, net and solver; and its memory in MiB."""
    import torch
    import torch.nn.functional as F
    import twins
    import twins_zoo

    if not DRY and not torch.cuda.is_available():
        raise ImportError("this PyTorch has no CUDA")
    where = "cpu" if DRY else "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = getattr(twins_zoo if hasattr(twins_zoo, twin) else twins, twin)().to(where)
    x, y = (torch.from_numpy(arrays[key]).to(where) for key in ("data", "label"))
    assert net.data is not None
    assert net.solver is not None
    transform, solver = net.data.transform, net.solver
    mean = torch.tensor(transform.mean_value or (0.0,), device=where).reshape(-1, 1, 1)
    optimizer = torch.optim.SGD(
        model.parameters(), 1e-5, solver.mu, weight_decay=solver.weight_decay
    )

    def step(i: int) -> float:
        indices = torch.from_numpy(rows(net, arrays, i)).to(where)
        optimizer.zero_grad()
        images = F.pad(x[indices].float(), (transform.pad,) * 4)
        loss = twins_zoo.loss(model((images - mean) * transform.scale), y[indices])
        loss.backward()
        optimizer.step()
        return float(loss.item())

    milliseconds = timed(step)
    return milliseconds, 0.0 if DRY else torch.cuda.max_memory_reserved() / 2**20


SPEEDS = {
    "speed lenet 64": ("lenet", "LeNet", 64),
    "speed resnet20 64": ("resnet20", "ResNet20", 64),
    "speed resnet20 256": ("resnet20", "ResNet20", 256),
    "speed resnet18 32": ("resnet18", "ResNet18", 32),
}
CHECKS: dict[str, tuple[Callable[[], str], int]] = {
    "versions": (versions, 20),
    "placement": (placement, 90),
    "families": (families, 60),
    "lenet, a step": (lenet_step, 30),
    "lenet, 20 steps": (lenet_20_steps, 30),
    "cifar10_quick, a step": (quick_step, 30),
    "resnet20 with tanh": (resnet_tanh, 40),
    "resnet20, a step": (resnet_relu, 40),
    "half precision": (lambda: families(half=True), 60),
    "half precision, lenet": (lambda: compare(in_half(net_of("lenet", 16)), loose=5e-2), 30),
    "capture": (capture, 40),
    "capture, checked": (lambda: capture(checked=True), 40),
    "capture, half": (lambda: capture(checked=True, half=True), 40),
    "accuracy": (accuracy, 60),
    "accuracy, half": (lambda: accuracy(2, 0.96, precision="FP16", cuda_graphs="auto"), 60),
    **{name: (lambda case=case: speed(*case), 45) for name, case in SPEEDS.items()},
}
"""Each with the seconds that it may take."""
IN_SMALL = (
    "versions", "placement", "families", "lenet, 20 steps", "half precision", "capture",
    "capture, half", "speed lenet 64",
)  # fmt: skip


def run_one(name: str) -> int:
    """A check in this process; its last line says how it went."""
    try:
        with redirect_stdout(sys.stderr):
            said, fine = CHECKS[name][0](), True
    except Exception as fault:
        said, fine = f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0][:300]}", False
    print(json.dumps([fine, said]))
    return 0


def run_apart(name: str, seconds: float) -> tuple[bool, str]:
    """A check in a process of its own."""
    words = [w for w in ("--dry-run", "--small") if w in sys.argv]
    try:
        ended = subprocess.run(
            [sys.executable, __file__, *words, "--check", name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return False, f"not done in {seconds:.0f} s"
    try:
        fine, said = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (ended.stderr.splitlines() or [""])[-1]
        return False, f"the process ended with {ended.returncode}: {last[:300]}"
    return bool(fine), str(said)


def main() -> int:
    if "--check" in sys.argv:
        return run_one(sys.argv[sys.argv.index("--check") + 1])
    if not DRY and (fault := cuda_fault()):
        print(f"no GPU: {fault}")
        return 2
    end, table = time.monotonic() + TOTAL, []
    for name, (_, budget) in CHECKS.items():
        if (SMALL and name not in IN_SMALL) or (DRY and name in list(SPEEDS)[1:]):
            continue
        start, left_over = time.monotonic(), end - time.monotonic()
        fine, said = (
            run_apart(name, min(budget, left_over)) if left_over > 5 else (False, "no time left")
        )
        table.append((name, fine, time.monotonic() - start, said))
        print(f"{name} …", file=sys.stderr, flush=True)
    for name, fine, seconds, said in table:
        print(f"{'ok  ' if fine else 'FAIL'} {name:22} {seconds:4.0f} s  {said}")
    return 0 if all(fine for _, fine, _, _ in table) else 1


if __name__ == "__main__":
    sys.exit(main())
