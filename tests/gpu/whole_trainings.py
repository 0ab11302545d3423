"""What users run, on the device that is looked at: by the public API and the command line."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from against_cpu import DRY, ROOT, SMALL, apart
from PIL import Image

import netspec
from netspec.compiler import Spec
from netspec.runtime.device import choose_device
from netspec.training.outcome import Diverged, Outcome

WHERE = "cpu" if DRY else "cuda"
XAVIER = 'weight_filler { type: "xavier" }'
DIGITS = f"""
conv {{ num_output: 8 kernel_size: 5 {XAVIER} }} pool {{ pool: MAX kernel_size: 2 stride: 2 }}
fc {{ num_output: 32 {XAVIER} }} relu dropout
fc {{ num_output: 10 {XAVIER} }} softmax_loss accuracy
"""


def accuracy(epochs: int = 5, least: float = 0.97, **wanted: Any) -> str:
    """LeNet on the bundled digits by the public API."""
    if not DRY:
        assert choose_device("auto").cuda
    epochs, least = (1, 0.9) if SMALL else (epochs, least)
    spec = netspec.read("lenet", sets=[f"solver.max_epoch={epochs}"])
    with tempfile.TemporaryDirectory() as runs:
        start = time.perf_counter()
        outcome = netspec.train(spec, runs=runs, device=WHERE, **wanted)
    reached = outcome.test["accuracy1" if "accuracy1" in outcome.test else "accuracy"]
    assert reached >= least, reached
    skipped = f", {outcome.skipped} updates left out" if outcome.skipped else ""
    return f"{reached:.2%} after {epochs} epochs, {time.perf_counter() - start:.0f} s{skipped}"


def streaming() -> str:
    """A folder of pictures, read into memory and read batch by batch: the same weights, nearly."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for split, count in (("train", 128), ("test", 32)):
            for i in range(count):
                image = rng.integers(0, 256, (14, 14), np.uint8)
                path = folder / "pictures" / split / str(i % 10) / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
        solver = "max_iter: 20  test_interval: 10"
        found = [
            _weights(_train(folder, f"cache: {cache}", solver, source="pictures"))
            for cache in ("MEMORY", "NONE")
        ]
    return _alike(*found, "memory and stream")


def resume() -> str:
    """40 iterations beside 20 and, in a new process's place, 20 more.

    Sums by atomics differ from run to run, and 40 iterations carry that on; a state that was not
    taken over whole is further off.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        straight = _weights(_train(folder, "", "max_iter: 40  snapshot: 20"))
        halves = _train(folder, "", "max_iter: 20  snapshot: 20", runs="halves")
        again = netspec.train(
            _spec(folder, "", "max_iter: 40  snapshot: 20"),
            runs=folder / "halves", resume=halves.run, force=True, device=WHERE,
        )  # fmt: skip
        return _alike(straight, _weights(again), "straight and resumed", 5e-3)


def diagnosis() -> str:
    """A training that diverges, and the layer that is named first."""
    layers = 'fc { num_output: 8 } log "broken" { shift: -1000 } fc { num_output: 10 } softmax_loss'
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _train(folder, "", "max_iter: 9", layers=layers)
        except Diverged as fault:
            said = str(fault)
            assert "layer `broken`" in said, said
            return said.splitlines()[1].replace(f"{folder}/", "")[:110]
    raise AssertionError("it did not diverge")


def too_large() -> str:
    """A batch that no memory holds is answered with one that fits."""
    convs = "conv { num_output: 64 kernel_size: 3 pad: 1 } tanh\n" * 24
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (512, 3, 224, 224), np.uint8)
        np.savez(folder / "images.npz", data=images, label=np.zeros(512, np.int64))
        spec = folder / "large.net"
        spec.write_text(
            'data "train" { source: "images.npz"  batch_size: 512 }\n'
            'input "data" { shape: 3x224x224 }\n' + convs
            + "pool { pool: AVE global_pooling: true } fc { num_output: 2 } softmax_loss\n"
            "solver { base_lr: 0.001  max_iter: 2 }\n"
        )  # fmt: skip
        words = "train", spec, "--device", WHERE, "--runs", folder / "runs"
        refused = _command(*words)
        assert refused.returncode != 0, "there is room for it"
        said = " ".join(refused.stderr.split())
        wanted = re.search(r"--batch (\d+) should fit", said)
        assert wanted, said[-300:]
        fits = _command(*words, "--batch", wanted[1])
        assert fits.returncode == 0, f"{wanted[0]}, and it does not: {fits.stderr[-300:]}"
    return f"{wanted[0]}, and does"


def exported() -> str:
    """A trained model under onnxruntime's own settings, on the device and on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        run = _train(Path(name), "", "max_iter: 20").run
        model = next(run.glob("model.onnx"))
        providers = ["CPUExecutionProvider"]
        here = ort.InferenceSession(model, providers=providers)
        there = here
        if not DRY:
            there = ort.InferenceSession(model, providers=["CUDAExecutionProvider", *providers])
            assert there.get_providers()[0] == "CUDAExecutionProvider"
        (port,) = here.get_inputs()
        shape = [n if isinstance(n, int) else 4 for n in port.shape]
        x = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        ours, theirs = (side.run(None, {port.name: x})[0] for side in (there, here))
    difference = float(np.abs(ours - theirs).max())
    assert difference < 1e-3, difference
    return f"{model.name}, at most {difference:.0e} apart"


def commands() -> str:
    """The verbs that compute, each on the device: what they begin with, and that they end well."""
    with tempfile.TemporaryDirectory() as name:
        run = _train(Path(name), "", "max_iter: 20").run
        picture = Path(name) / "picture.png"
        Image.fromarray(np.zeros((14, 14), np.uint8)).save(picture)
        features = Path(name) / "features.npz"
        calls: dict[str, tuple[object, ...]] = {
            "doctor": (),
            "time": ("resnet18", "--batch", 8, "--iterations", 5, "--device", WHERE),
            "overfit": ("lenet", "--device", WHERE),
            "lr-range": ("lenet", "--device", WHERE),
            "test": (run, "--device", WHERE),
            "features": (run, "--layer", "fc1", "-o", features, "--device", WHERE),
            "predict": (run, picture, "--device", WHERE),
        }
        said = []
        for verb, words in calls.items():
            ended = _command(verb, *words)
            assert ended.returncode == 0, f"{verb}: {(ended.stderr or ended.stdout)[-300:]}"
            said.append(f"{verb}: {ended.stdout.splitlines()[0][:40]}")
    return ", ".join(said)


def _spec(
    folder: Path, data: str, solver: str, *, layers: str = DIGITS, source: str = "digits.npz"
) -> Spec:
    rng = np.random.default_rng(0)
    arrays = {"data": rng.integers(0, 256, (128, 1, 14, 14), np.uint8)}
    np.savez(folder / "digits.npz", **arrays, label=rng.integers(0, 10, 128))
    path = folder / "digits.net"
    sections = (
        f'data "{phase}" {{ source: "{source}"  batch_size: 16  {data}\n'
        "  transform { mean_value: 128  scale: 0.0156 } }\n"
        for phase in ("train", "test")
    )
    path.write_text(
        "".join(sections) + 'input "data" { shape: 1x14x14 }\n' + layers
        + f"\nsolver {{ base_lr: 0.01  momentum: 0.9  {solver} }}\n"
    )  # fmt: skip
    return netspec.read(str(path))


def _train(folder: Path, data: str, solver: str, runs: str = "runs", **given: str) -> Outcome:
    spec = _spec(folder, data, solver, **given)
    return netspec.train(spec, runs=folder / runs, device=WHERE, tf32=False)


def _weights(outcome: Outcome) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    (file,) = outcome.run.glob("weights*.safetensors")
    return load_file(file)


def _alike(ours: dict[str, Any], theirs: dict[str, Any], what: str, bound: float = 1e-4) -> str:
    found = apart(ours, theirs)
    name = max(found, key=found.__getitem__)
    assert found[name] <= bound, f"{what}: {name} is {found[name]:.1e} apart"
    return f"{what}: {len(found)} tensors, at most {found[name]:.0e}"


def _command(*words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "netspec", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
