"""`netspec init-check`: its table, its JSON, its warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Netspec = Callable[..., Any]


def test_table(netspec: Netspec, tiny: Path) -> None:
    done = netspec("init-check", tiny, "--batch", 16)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["layer", "data", "conv1", "relu1", "score"]
    assert "dead" in lines[3]
    assert "Tiny, batch 16 of mnist, seed 1" in lines
    assert lines[-1].endswith("-log(1/10) = 2.3026 where no class is preferred")


def test_json(netspec: Netspec, tiny: Path) -> None:
    done = netspec("init-check", tiny, "--batch", 16, "--seed", 3, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert (report["version"], report["name"], report["batch"]) == (1, "Tiny", 16)
    assert (report["seed"], report["source"]) == (3, "mnist")
    relu = report["layers"][2]
    assert (relu["name"], relu["type"], relu["shape"]) == ("relu1", "relu", [8, 12, 12])
    assert 0 <= relu["dead"] <= 1
    assert relu["saturated"] is None
    assert relu["gradient_deviation"] > 0
    (loss,) = report["losses"]
    assert (loss["name"], loss["classes"]) == ("softmax_loss1", 10)
    assert report["warnings"] == []


def test_noise_and_warnings(netspec: Netspec, tmp_path: Path) -> None:
    """Weights of 0 make nothing of anything."""
    path = tmp_path / "x.net"
    path.write_text("""
        input "data" { shape: 4 }
        fc "one" { num_output: 5  weight_filler { type: constant } }
        relu
        fc "two" { num_output: 2  weight_filler { type: constant } }
        softmax_loss
    """)
    done = netspec("init-check", path, "--batch", 8)
    assert done.code == 0
    assert "x, batch 8 of gaussian noise, seed 1" in done.out.splitlines()
    dead, vanished, resting = done.err.splitlines()
    assert dead.startswith("warning: activations die: at `one` their deviation is 0, and that of")
    assert vanished.startswith("warning: gradients vanish: at `one` the gradient is 0 long")
    assert resting == "warning: 100% of the units of `relu1` are dead"


def test_a_spec_that_cannot_be_trained(netspec: Netspec, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text('input "data" { shape: 4 }\nfc { num_output: 2 }')
    refused = netspec("init-check", path)
    assert (refused.code, refused.out) == (2, "")
    assert "no loss in phase TRAIN" in refused.err
    assert netspec("init_check", path).code == 2
