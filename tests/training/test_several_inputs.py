"""Several inputs and targets for each sample: pairs, triplets, boxes, joints and masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.compiler import Spec, elaborate
from netspec.training.launch import train
from netspec.training.outcome import Outcome

SAMPLES = 6
RNG = np.random.default_rng(0)


def edited(source: str) -> Callable[[str], str]:
    """A change of a spec to another source, batches of two, and three iterations."""

    def edit(text: str) -> str:
        text = re.sub(r'source: "[^"]*"', f'source: "{source}"', text)
        text = re.sub(r"batch_size: [0-9]+", "batch_size: 2", text)
        return re.sub(r"max_(epoch|iter): [0-9]+", "max_iter: 3", text)

    return edit


def trained(spec: Spec) -> Outcome:
    outcome = train(spec, runs=spec.base / "runs", device="cpu")
    assert outcome.ran == 3
    assert isfinite(outcome.test["loss"])
    return outcome


def bytes_of(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (SAMPLES, *shape)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("siamese", {"label": np.arange(SAMPLES) % 2}),
        ("triplet", {}),
        ("localizer", {"label": np.arange(SAMPLES), "box": RNG.random((SAMPLES, 4))}),
        ("pose", {"joints": RNG.standard_normal((SAMPLES, 28)).astype(np.float32)}),
        ("fcn32s", {"label": RNG.integers(0, 21, (SAMPLES, 32, 32)).astype(np.uint8)}),
    ],
)
def test_an_archive_trains(
    small: Callable[..., Spec], name: str, targets: dict[str, np.ndarray[Any, Any]]
) -> None:
    spec = small(name, edit=edited("all.npz"))
    inputs = elaborate(spec).train.net.inputs
    arrays = {
        name: bytes_of(*type.sample) for name, type in inputs.items() if name not in targets
    } | targets
    assert arrays.keys() == inputs.keys()
    np.savez(spec.base / "all.npz", **arrays)  # type: ignore[arg-type]
    trained(spec)


def test_hdf5_has_them_too(small: Callable[..., Spec]) -> None:
    h5py = pytest.importorskip("h5py")
    plain = edited("all.h5")
    spec = small("siamese", edit=lambda text: re.sub(r"transform \{[^}]*\}", "", plain(text)))
    with h5py.File(spec.base / "all.h5", "w") as file:
        for name in ("data", "other"):
            file[name] = RNG.random((SAMPLES, 1, 28, 28)).astype(np.float32)
        file["label"] = np.arange(SAMPLES) % 2
    trained(spec)


def pictures(folder: Path, count: int, side: int) -> list[str]:
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        pixels = RNG.integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def test_boxes_from_a_list_of_images(small: Callable[..., Spec]) -> None:
    plain = edited("all.csv")
    spec = small(
        "localizer", edit=lambda text: plain(text).replace("classes = 1000", "classes = 3")
    )
    names = pictures(spec.base, SAMPLES, 64)
    lines = [f"{name},thing_{i % 3},{i / 9},.1,.5,.6" for i, name in enumerate(names)]
    header = "path,label,box[left],box[top],box[right],box[bottom]"
    (spec.base / "all.csv").write_text("\n".join([header, *lines]))
    trained(spec)


def test_joints_from_a_list_of_images(small: Callable[..., Spec]) -> None:
    plain, named = edited("all.csv"), 'batch_size: 2  arrays: ["data", "joints"]'
    spec = small("pose", edit=lambda text: plain(text).replace("batch_size: 2", named))
    names = pictures(spec.base, SAMPLES, 68)
    lines = [",".join([name, *map(str, RNG.random(28).round(3))]) for name in names]
    (spec.base / "all.csv").write_text("\n".join(lines))
    trained(spec)
