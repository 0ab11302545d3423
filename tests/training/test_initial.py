"""How nets begin, as the lecture on initialisation shows it: dying, exploding, saturated, or well.

The net of the lecture (CS231n, Stanford 2016, lecture 5): ten layers of 500 units, gaussian data.
"""

from __future__ import annotations

from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest

from netspec.compiler import read
from netspec.diagnostics import DataError, UsageError
from netspec.training.trials.initial import InitialCheck, initial_check

GAUSSIAN = "weight_filler {{ type: gaussian  std: {} }}"


def lecture(folder: Path, filler: str, activation: str) -> InitialCheck:
    """Ten layers of 500 units on 500 samples of noise."""
    path = folder / "net.net"
    path.write_text(f"""
        input "data" {{ shape: 500 }}
        repeat 10 {{ fc {{ num_output: 500  {filler} }}  {activation} }}
        fc "scores" {{ num_output: 10  weight_filler {{ type: gaussian  std: 0.01 }} }}
        softmax_loss "loss"
    """)
    return initial_check(read(str(path)), batch=500)


def deviations(found: InitialCheck, type: str) -> list[float]:
    return [row.deviation for row in found.layers if row.type == type]


def test_small_weights_let_activations_die(tmp_path: Path) -> None:
    """0.213, 0.0476, 0.0106, 0.0024 and so on: each √500/100 of the one before."""
    found = lecture(tmp_path, GAUSSIAN.format(0.01), "tanh")
    layers = deviations(found, "tanh")
    assert layers[:4] == pytest.approx([0.213, 0.0476, 0.0106, 0.0024], rel=0.03)
    died, *others = found.warnings
    assert died.startswith("activations die: at `fc5` their deviation is 0.00053, and that of the")
    assert [w.partition(":")[0] for w in others] == ["gradients vanish"]


def test_large_weights_saturate(tmp_path: Path) -> None:
    """Almost all values are -1 or 1, and so their deviation is 0.98."""
    found = lecture(tmp_path, GAUSSIAN.format(1), "tanh")
    assert deviations(found, "tanh") == pytest.approx([0.98] * 10, abs=0.01)
    assert sum("of the values of `tanh" in w for w in found.warnings) == 10


def test_xavier_keeps_tanh_alive(tmp_path: Path) -> None:
    """0.628 falls to 0.23 or so, and there is nothing to be warned of."""
    found = lecture(tmp_path, "weight_filler { type: xavier }", "tanh")
    layers = deviations(found, "tanh")
    assert layers[0] == pytest.approx(0.628, rel=0.02)
    assert 0.2 < layers[-1] < 0.35
    assert found.warnings == ()
    (loss,) = found.losses
    assert loss.expected == log(10)
    assert loss.loss == pytest.approx(log(10), rel=0.01)


def test_xavier_halves_relus_and_msra_keeps_them(tmp_path: Path) -> None:
    """By 1/n the variance of a relu's bottom halves in each layer, and by 2/n it stays."""
    xavier = deviations(lecture(tmp_path, "weight_filler { type: xavier }", "relu"), "relu")
    msra = deviations(lecture(tmp_path, "weight_filler { type: msra }", "relu"), "relu")
    assert xavier[0] == pytest.approx(0.583, rel=0.02)
    assert xavier[-1] == pytest.approx(xavier[0] / sqrt(2) ** 9, rel=0.35)
    assert msra == pytest.approx([0.82] * 10, rel=0.15)


def test_exploding_activations_and_scores(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    path.write_text("""
        input "data" { shape: 100 }
        repeat 6 { fc { num_output: 100  weight_filler { type: gaussian  std: 1 } }  relu }
        fc "scores" { num_output: 10  weight_filler { type: gaussian  std: 1 } }
        softmax_loss "loss"
    """)
    exploding, gradients, missed = initial_check(read(str(path)), batch=50).warnings
    assert exploding.startswith("activations explode: at `fc")
    assert "smaller initial weights" in exploding
    assert gradients.startswith("gradients explode: at `fc1` the gradient is")
    assert missed.startswith("`loss` begins at")
    assert missed.endswith("where no class is preferred it is -log(1/10) = 2.303")


def test_units_that_never_wake_are_dead(tmp_path: Path) -> None:
    """A channel counts as one unit; a leaky relu never sleeps."""
    path = tmp_path / "net.net"
    path.write_text("""
        input "data" { shape: 2x5x5 }
        conv "conv" { num_output: 8  kernel_size: 3  weight_filler { type: msra }
                      bias_filler { type: constant  value: -100 } }
        relu "relu" { top: "conv" }
        conv "low" { num_output: 8  kernel_size: 3  bottom: "data"
                     weight_filler { type: constant }  bias_filler { value: -1 } }
        relu "leaky" { negative_slope: 0.1 }
        eltwise { bottom: "conv"  bottom: "leaky" }
        fc { num_output: 3  weight_filler { type: xavier } }
        softmax_loss
    """)
    found = initial_check(read(str(path)), batch=20)
    rows = {row.name: row for row in found.layers}
    assert (rows["relu"].resting, rows["relu"].rests) == (1, "dead")
    assert (rows["leaky"].resting, rows["leaky"].rests) == (None, None)
    assert rows["conv"].mean < -90  # though the relu works in its place
    assert rows["relu"].mean == rows["relu"].deviation == 0
    assert rows["conv"].gradient_deviation == 0
    assert "100% of the units of `relu` are dead" in found.warnings
    assert rows["leaky"].mean == pytest.approx(-0.1, rel=1e-5)


def test_real_data_come_through_their_transform(tmp_path: Path) -> None:
    """The first batch of the training, so that it repeats for a seed; noise is not transformed."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 6, 6), np.uint8)
    np.savez(tmp_path / "samples.npz", data=images, label=rng.integers(0, 3, 40))
    path = tmp_path / "net.net"
    path.write_text("""
        data "train" { source: "samples.npz"  batch_size: 40  transform { scale: 1/255 } }
        input "data" { shape: 1x6x6 }
        fc { num_output: 3  weight_filler { type: xavier } }
        softmax_loss
        accuracy
        solver { base_lr: 0.1  max_iter: 1 }
    """)
    found = initial_check(read(str(path)))
    assert found.source == str(tmp_path / "samples.npz")
    assert found.layers[0].mean == pytest.approx(images.mean() / 255, rel=1e-5)
    assert found.layers[0].deviation == pytest.approx(images.std() / 255, rel=1e-5)
    assert found.layers[0].gradient_mean is None
    assert initial_check(read(str(path)), seed=1) == found
    assert initial_check(read(str(path)), seed=2).layers[1] != found.layers[1]
    (tmp_path / "samples.npz").rename(tmp_path / "elsewhere.npz")
    noise = initial_check(read(str(path)))
    assert noise.source is None
    assert noise.layers[0].deviation == pytest.approx(1, rel=0.1)
    given = initial_check(read(str(path)), data=tmp_path / "elsewhere.npz")
    assert given.layers == found.layers
    with pytest.raises(DataError, match="no such file"):
        initial_check(read(str(path)), data=tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [("", log(4)), ("normalization: NONE", None), ("normalization: BATCH_SIZE", None),
     ("normalization: FULL", log(4)), ("normalization: FULL  ignore_label: 1", None)],
)  # fmt: skip
def test_a_loss_that_is_no_mean_is_compared_with_nothing(
    tmp_path: Path, fields: str, expected: float | None
) -> None:
    path = tmp_path / "net.net"
    path.write_text(f"""
        input "data" {{ shape: 2x3x3 }}
        input "label" {{ shape: 3x3 }}
        conv {{ num_output: 4  kernel_size: 1  weight_filler {{ type: gaussian  std: 0.001 }} }}
        softmax_loss {{ {fields} }}
    """)
    (loss,) = initial_check(read(str(path)), batch=3).losses
    assert loss.expected == expected
    if expected is not None:
        assert loss.loss == pytest.approx(expected, rel=1e-3)


def test_a_net_without_a_loss_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    path.write_text('input "data" { shape: 4 }\nfc { num_output: 2 }')
    with pytest.raises(UsageError, match="no loss in phase TRAIN"):
        initial_check(read(str(path)))
