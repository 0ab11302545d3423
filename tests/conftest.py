"""Fixtures for every test: golden text, and the bundled specs, the big ones made small."""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import pytest

from netspec import zoo
from netspec.compiler import Spec, read

_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the texts that `golden` compares with."""
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` fails unless `tests/golden/<name>` holds the text."""

    def compare(name: str, text: str) -> None:
        path = _GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing: pytest --update-golden writes it"
        kept = path.read_text("utf-8")
        lines = unified_diff(kept.splitlines(), text.splitlines(), str(path), "now", lineterm="")
        assert text == kept, "\n".join(lines) + "\npytest --update-golden takes the new text"

    return compare


IMAGE = {"3x224x224": "3x64x64"}
SLIM = {"let width = 64": "let width = 8"}
FCN = {"size = 500": "size = 32", "4096": "64"} | SLIM
VGG = {"3x224x224": "3x32x32", "512": "64", "4096": "128"}
SMALL: dict[str, dict[str, str]] = {
    "alexnet": {"3x227x227": "3x67x67", "4096": "128"},
    "densenet121": IMAGE | {"growth = 32": "growth = 8"},
    "densenet161": IMAGE
    | {
        "growth = 48": "growth = 8",
        "dense(12,": "dense(2,",
        "dense(36,": "dense(2,",
        "dense(24,": "dense(2,",
    },
    "densenet169": IMAGE
    | {"growth = 32": "growth = 8", "dense(12,": "dense(2,", "dense(32,": "dense(2,"},
    "densenet201": IMAGE
    | {
        "growth = 32": "growth = 8",
        "dense(12,": "dense(2,",
        "dense(48,": "dense(2,",
        "dense(32,": "dense(2,",
    },
    "fcn16s": FCN,
    "fcn32s": FCN,
    "fcn8s": FCN,
    "googlenet": {"3x224x224": "3x112x112"},
    "localizer": IMAGE | SLIM,
    "mobilenet_v1": IMAGE | {"let width = 32": "let width = 8"},
    "mobilenet_v2": IMAGE,
    "nin": {"3x224x224": "3x67x67"},
    "plain56": {"let n = 9": "let n = 2"},
    "pose": {"3x220x220": "3x68x68", "4096": "128"},
    "resnet101": IMAGE | SLIM | {"stage(23,": "stage(2,"},
    "resnet110": {"let n = 18": "let n = 2"},
    "resnet152": IMAGE | SLIM | {"stage(36,": "stage(2,"},
    "resnet18": IMAGE | SLIM,
    "resnet34": IMAGE | SLIM,
    "resnet50": IMAGE | SLIM,
    "resnet56": {"let n = 9": "let n = 2"},
    "resnext101_64x4d": IMAGE | SLIM | {"y = 64": "y = 8", "stage(23,": "stage(2,"},
    "resnext50_32x4d": IMAGE | SLIM | {"y = 32": "y = 4"},
    "se_resnet50": IMAGE | {"let width = 64": "let width = 16"},
    "senet154": IMAGE | {"= 64": "= 8", "se_stage(36,": "se_stage(2,"},
    "squeezenet1_0": {"size = 227": "size = 67"},
    "squeezenet1_1": {"size = 227": "size = 67"},
    "stochastic_depth_110": {"let n = 18": "let n = 2"},
    "triplet": {"size = 220": "size = 44", "hidden = 4096": "hidden = 64"},
    "unet": {"size = 512": "size = 32"} | SLIM,
    "vgg11": VGG,
    "vgg11_lrn": VGG,
    "vgg13": VGG,
    "vgg16": VGG,
    "vgg16_c": VGG,
    "vgg19": VGG,
    "wide_resnet50_2": IMAGE | SLIM,
    "wrn_28_10": {"k = 10": "k = 2"},
    "zfnet": {"3x224x224": "3x67x67", "512": "64", "1024": "64", "4096": "128"},
}
"""What keeps a test of a big net short: its text, and what stands there instead."""


def shrink(name: str, *, weights: bool = True) -> str:
    """The text of a bundled spec with small images and, unless told otherwise, less to learn."""
    found = zoo.find(name)
    assert found is not None
    text = found.read_text("utf-8")
    for was, becomes in SMALL.get(name, {}).items():
        assert was in text
        if weights or was.startswith(("3x", "size")):
            text = text.replace(was, becomes)
    return text


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Spec]:
    """`small(name)` is a bundled spec of a size that runs in a second.

    `weights=False` makes its images small alone; `edit` changes its text.
    """

    def make(name: str, *, weights: bool = True, edit: Callable[[str], str] = str) -> Spec:
        path = tmp_path_factory.mktemp(name) / f"{name}.net"
        path.write_text(edit(shrink(name, weights=weights)), "utf-8")
        return read(str(path))

    return make
