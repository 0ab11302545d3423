"""The public surface: few names, loaded when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import netspec

ROOT = Path(__file__).parents[1]


def test_names() -> None:
    assert len(netspec.__all__) <= 12
    for name in netspec.__all__:
        assert getattr(netspec, name) is not None
    assert dir(netspec) == netspec.__all__
    with pytest.raises(AttributeError, match="no_such_name"):
        netspec.no_such_name  # noqa: B018


def test_import_is_instant() -> None:
    script = "import sys, netspec; print(*sorted(m for m in sys.modules if 'netspec.' in m))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["netspec.version"]


def test_as_its_docstring_says(tmp_path: Path) -> None:
    spec = netspec.read("lenet", sets=["solver.max_iter=20"])
    assert netspec.cost(netspec.elaborate(spec).test.net).parameters == 431_080
    onnx.save(netspec.compile_spec(spec).model, tmp_path / "lenet.onnx")
    outcome = netspec.train(spec, runs=tmp_path / "runs", device="cpu")
    assert outcome.run == tmp_path / "runs/LeNet/1"
    assert outcome.test["loss"] < 2
    again = netspec.train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (again.ran, again.test) == (0, outcome.test)


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(netspec.UsageError):
        netspec.read("lennet")
    path = tmp_path / "x.net"
    path.write_text('input "data" { shape: 4 }\nrelo\nfc { num_outptu: 3 }')
    with pytest.raises(netspec.SpecErrors) as caught:
        netspec.elaborate(netspec.read(str(path)))
    assert [fault.span.line for fault in caught.value.faults] == [2, 3]
    assert all(isinstance(fault, netspec.SpecError) for fault in caught.value.faults)
    for kind in (netspec.SpecError, netspec.SpecErrors, netspec.DataError, netspec.UsageError):
        assert issubclass(kind, netspec.NetspecError)
