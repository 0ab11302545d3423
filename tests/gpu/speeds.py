"""Milliseconds of a training step on the device that is looked at, beside PyTorch's."""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Callable
from statistics import median

from against_cpu import DRY, SMALL, Arrays, device, in_half, made, net_of, noise, rows

from netspec.compiler import elaborate, read
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.report.summary import summarise
from netspec.runtime.device import cuda_fault

SPEEDS = {
    "lenet 64": ("lenet", "LeNet", 64),
    "resnet20 256": ("resnet20", "ResNet20", 256),
    "resnet18 32": ("resnet18", "ResNet18", 32),
    "resnet50 32": ("resnet50", "ResNet50", 32),
    "googlenet 32": ("googlenet", "GoogLeNet", 32),
    "alexnet 128": ("alexnet", "AlexNet", 128),
    "densenet121 32": ("densenet121", "DenseNet121", 32),
    "squeezenet 32": ("squeezenet1_1", "SqueezeNet", 32, "size=224"),
}
"""A spec, the class of its twin, the batch, and what is set in the spec."""


def speed(spec: str, twin: str, batch: int, *sets: str) -> str:
    """Milliseconds of a step: ours, in half precision, without CUDA graphs, PyTorch's; medians.

    TF32 is on for all.
    """
    net = net_of(spec, batch, *sets)
    arrays = noise(net)
    times = {}
    cuda_fault()  # else the first side would pay for the context
    sides = ("ours", True, False), ("half", True, True), ("plain", False, False)
    for name, graphs, half in sides[: 3 if spec == "lenet" else 2]:
        before = taken()
        where = device(tf32=True, graphs=graphs)
        training = made(in_half(net) if half else net, arrays, where)
        times[name] = timed(lambda i, t=training: t.step(i, rows(net, arrays, i), 1e-5))
        times[f"{name} MiB"] = taken() - before
        del training
        gc.collect()
    nets = elaborate(read(spec, sets=sets), batch=batch)
    if counted := summarise(nets, Phase.TRAIN, target="cuda").training:
        times["counted MiB"] = counted.total / 2**20
    try:
        for name, half in (("torch", False), ("torch half", True)):
            times[name], times[f"{name} MiB"] = by_torch(net, arrays, twin, half=half)
        times["ratio"] = times["torch"] / times["ours"]
        times["half to half"] = times["torch half"] / times["half"]
    except ImportError:
        pass
    return " ".join(f"{name} {value:.4g}" for name, value in times.items())


def timed(step: Callable[[int], object]) -> float:
    """The median of steps, each of which brings its loss to the host and so is waited for."""
    for i in range(2 if SMALL else 4):
        step(i)
    taken: list[float] = []
    end = time.perf_counter() + (0.2 if SMALL else 1.0)
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


def by_torch(net: Net, arrays: Arrays, twin: str, *, half: bool = False) -> tuple[float, float]:
    """PyTorch eager: the same gather, transform, net and solver; and its memory in MiB.

    With `half` under autocast and a GradScaler.
    """
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
    scaler = torch.amp.GradScaler(where, enabled=half)

    def step(i: int) -> float:
        indices = torch.from_numpy(rows(net, arrays, i)).to(where)
        optimizer.zero_grad()
        images = F.pad(x[indices].float(), (transform.pad,) * 4)
        with torch.autocast(where, torch.float16, enabled=half):
            loss = twins_zoo.loss(model((images - mean) * transform.scale), y[indices])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return float(loss.item())

    milliseconds = timed(step)
    return milliseconds, 0.0 if DRY else torch.cuda.max_memory_reserved() / 2**20
