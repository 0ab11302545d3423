"""`netspec compile --training`: the training step as a target runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Netspec = Callable[..., Any]


def test_compile_training(netspec: Netspec, tmp_path: Path) -> None:
    sizes = {}
    for target in ("cpu", "cpu-plain", "cuda"):
        file = tmp_path / f"{target}.onnx"
        words = ["compile", "lenet", "--training", "--target", target, "-o", file, "--json"]
        report = netspec(*words, "--batch", "8").json
        model = onnx.load(file)
        assert report["operators"] == len(model.graph.node)
        assert report["batch"] == 8
        outputs = {value.name for value in model.graph.output}
        assert {"loss", "gradient:conv1.weight", "metric:accuracy1"} <= outputs
        sizes[target] = report["activations_peak"]
        domains = {node.domain for node in model.graph.node}
        assert domains <= {"", "com.microsoft", *(["com.microsoft.nchwc"] * (target == "cpu"))}
    assert all(size > 0 for size in sizes.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training", "--target", "cpu16"], "there is no target `cpu16`"),
        (["--target", "cpu"], "--target goes with --training"),
        (["--target", ""], "--target goes with --training"),
        (["--training", "--target", ""], "there is no target ``"),
        (["--training", "--recompute", ","], "--recompute takes names"),
        (["--recompute", "conv1"], "--recompute goes with --training"),
        (["--training", "--seed", "1"], "--seed does not go with --training"),
        (["--training", "--output", "ip1"], "--output does not go with --training"),
        (["--training", "--recompute", "conv9"], "there is no layer or block `conv9`"),
    ],
)
def test_compile_training_refused(
    words: list[str], said: str, netspec: Netspec, tmp_path: Path
) -> None:
    result = netspec("compile", "lenet", "-o", tmp_path / "x.onnx", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert not (tmp_path / "x.onnx").exists()
