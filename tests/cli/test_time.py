"""`netspec time`: its tables and its JSON; never a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Netspec = Callable[..., Any]


def test_json(netspec: Netspec, tiny: Path) -> None:
    done = netspec("time", tiny, "--iterations", 2, "--batch", 4, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report["version"] == 1
    assert (report["phase"], report["batch"], report["iterations"]) == ("TRAIN", 4, 2)
    assert report["machine"]["flops"] > 0
    names = [layer["name"] for layer in report["layers"]]
    assert names == ["data", "conv1", "relu1", "score", "softmax_loss1", "accuracy1", "(other)"]
    forward = report["layers"][1]["forward"]
    assert forward["seconds"] > 0
    assert forward["flops"] == 2 * 4 * 8 * 12 * 12 * 25
    totals = report["totals"]
    assert totals["step"] > totals["update"] > 0
    assert totals["shards"] == 1
    assert totals["profiler_overhead"] is not None


def test_tables(netspec: Netspec, tiny: Path) -> None:
    words = ["--iterations", 2, "--batch", 4, "--device", "cpu", "--target", "cpu-plain"]
    train = netspec("time", tiny, *words)
    assert train.code == 0, train.err
    lines = train.out.splitlines()
    assert lines[0].split() == [
        "layer", "type", "forward", "ms", "GFLOP/s", "roofline",
        "backward", "ms", "GFLOP/s", "roofline",
    ]  # fmt: skip
    assert "Tiny, phase TRAIN, batch 4, cpu-plain, means of 2 runs" in lines
    for word in ("forward", "backward", "update", "iteration", "profiled run", "machine"):
        assert any(line.startswith(word) for line in lines)
    assert any(line.endswith("measured as training does it") for line in lines)
    many = netspec("time", tiny, *words[:2], "--batch", 16, *words[4:])
    assert "measured as training does it, in 2 shards at the same time" in many.out
    alone = netspec("time", tiny, *words[:2], "--batch", 16, *words[4:], "--threads", 1)
    assert "measured as training does it, in 2 shards\n" in alone.out
    test = netspec("time", tiny, *words, "--phase", "TEST")
    assert test.code == 0, test.err
    assert "backward" not in test.out


def test_a_spec_that_cannot_be_trained(netspec: Netspec, tmp_path: Path) -> None:
    spec = tmp_path / "x.net"
    spec.write_text('input "data" { shape: 4 }\nfc { num_output: 2 }')
    refused = netspec("time", spec, "--iterations", 1, "--device", "cpu")
    assert refused.code == 2
    assert "no loss in phase TRAIN" in refused.err
    done = netspec("time", spec, "--iterations", 1, "--device", "cpu", "--phase", "TEST")
    assert done.code == 0
