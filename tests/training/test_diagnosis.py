"""The layer at which a training went wrong first is named, with its line and what came before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netspec.codegen.layout import plan
from netspec.compiler import read
from netspec.training.execution.diagnosis import Diagnosis
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.launch import train
from netspec.training.outcome import Diverged
from netspec.training.setup.experiment import prepare

SOLVER = "solver { base_lr: 0.01  max_iter: 9  display: 1 }"


def spec(folder: Path, layers: str, *, solver: str = SOLVER, **arrays: object) -> Path:
    generator = np.random.default_rng(0)
    samples = {
        "data": generator.standard_normal((12, 3, 4, 4)).astype(np.float32),
        "label": generator.integers(0, 3, 12),
        **arrays,
    }
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]
    path = folder / "net.net"
    path.write_text(
        'data "train" { source: "samples.npz"  batch_size: 4 }\n'
        f'input "data" {{ shape: 3x4x4 }}\n{layers}\n{solver}\n'
    )
    return path


def fault(path: Path) -> str:
    """The line of the diagnosis."""
    with pytest.raises(Diverged) as caught:
        train(read(str(path)), runs=path.parent / "runs", device="cpu")
    first, *rest = str(caught.value).splitlines()
    assert "diverged: loss or gradients not finite from iteration" in first
    return "\n".join(rest)


def test_the_first_layer_is_named(tmp_path: Path) -> None:
    layers = """
fc "small" { num_output: 8  weight_filler { type: "xavier" } }
log "broken" { shift: -100 }
relu
fc "score" { num_output: 3 }
softmax_loss
"""
    said = fault(spec(tmp_path, layers))
    assert said.startswith(f"layer `broken` ({tmp_path}/net.net:5:1) went first: 32 of 32 values ")
    assert "are not finite; the largest before: data " in said
    assert "small " in said


@pytest.mark.parametrize("iter_size", [1, 2])
def test_dropout_and_batch_norm_go_on_as_they_were(tmp_path: Path, iter_size: int) -> None:
    layers = """
fc { num_output: 8 }
batch_norm
dropout
power "steep" { scale: 1e30 }
power "steeper" { scale: 1e30 }
fc "score" { num_output: 3 }
softmax_loss
"""
    solver = SOLVER.replace("display: 1", f"iter_size: {iter_size}")
    said = fault(spec(tmp_path, layers, solver=solver))
    assert "`steeper`" in said
    assert "steep 1" in said or "steep 2" in said or "steep 3" in said


def test_a_gradient_that_is_not_finite_on_its_own(tmp_path: Path) -> None:
    """√x has none at 0: x is what relu leaves of a layer without weights yet."""
    layers = """
fc "first" { num_output: 8  weight_filler { type: "constant" }  bias_filler { type: "constant" } }
power "root" { power: 0.5 }
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
"""
    said = fault(spec(tmp_path, layers))
    assert said.startswith("layer `first` (")
    assert "32 of 32 values of its gradient are not finite; the largest before: " in said
    assert "root " in said


def test_weights_that_an_update_lost(tmp_path: Path) -> None:
    layers = 'fc "score" { num_output: 3 }  softmax_loss { loss_weight: 1000 }'
    said = fault(spec(tmp_path, layers, solver=SOLVER.replace("0.01", "1e38")))
    assert said.startswith("an update overflowed: ")
    assert said.endswith(" of 144 values of `score.weight` are not finite")


def test_data_that_are_not_finite(tmp_path: Path) -> None:
    """Readers refuse them, as far as they see them all."""
    layers = 'fc "score" { num_output: 3 }  softmax_loss'
    experiment = prepare(read(str(spec(tmp_path, layers))))
    data = experiment.train.arrays["data"].copy()
    data[7, 1, 2, 3] = np.nan
    arrays = {**experiment.train.arrays, "data": data}
    experiment = replace(experiment, train=replace(experiment.train, arrays=arrays))
    machine = find_machine("cpu")
    executor = Executor.of(experiment, machine)
    diagnosis = Diagnosis(experiment, machine, plan, (), executor)
    assert not executor.step(0, np.array([3, 7, 1, 0]), 0.1).finite
    assert diagnosis(0, np.array([3, 7, 1, 0])) == (
        "the training data contain NaN: `data` of sample 7"
    )
    assert diagnosis(0, np.array([3, 4, 1, 0])) == ""
