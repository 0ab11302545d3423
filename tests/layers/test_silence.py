"""Silence: what it reads is no output, and the flow goes on behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from netspec.compiler import compile_spec, elaborate, read
from netspec.ir.deploy import deploy

SPEC = """
input "data" { shape: 4x8x8 }
slice { top: "kept"  top: "dropped"  slice_point: 3 }
silence "hush" { bottom: "dropped"  bottom: "label" }
conv { num_output: 2  kernel_size: 3 }
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "x.net"
    path.write_text(SPEC)
    return str(path)


def test_the_flow_stays(spec: str) -> None:
    net = elaborate(read(spec)).test.net
    conv = net.nodes[-1]
    assert conv.bottoms == ("kept",)
    assert net.outputs == ("conv1",)
    hush = next(node for node in net.nodes if node.name == "hush")
    assert (hush.bottoms, hush.tops) == (("dropped", "label"), ())


def test_it_is_no_output_of_a_deployed_net(spec: str) -> None:
    net, outputs = deploy(elaborate(read(spec)).test.net)
    assert outputs == ("conv1",)
    assert "hush" not in {node.name for node in net.nodes}
    assert compile_spec(read(spec), seed=1).difference < 1e-4
