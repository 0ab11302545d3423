"""Specs as text, run: compiled as they are deployed, or whole with their losses in either phase."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.lower import Lowered, lower
from netspec.codegen.simplify import simplify
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Spec, compile_spec, elaborate, read
from netspec.ir.graph import Value
from netspec.ir.initial import initial_statistics, initial_weights

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def session(model: Any) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Runner:
    """Writes a spec into a folder, and runs it."""

    folder: Path

    def spec(self, text: str) -> Spec:
        path = self.folder / "net.net"
        path.write_text(dedent(text))
        return read(str(path))

    def compiled(
        self,
        text: str,
        feeds: Arrays,
        *,
        weights: Arrays | None = None,
        outputs: Sequence[str] = (),
        fixed: bool = False,
    ) -> list[Array]:
        """What the deployed model gives; `fixed` for nets that hang on the batch size."""
        batch = len(next(iter(feeds.values())))
        spec = self.spec(text)
        made = compile_spec(
            spec, weights=weights, outputs=outputs, batch=batch if fixed else None, seed=1
        )
        typed = {name: np.asarray(x, np.float32) for name, x in feeds.items()}
        return session(made.model).run(list(made.outputs), typed)

    def shapes(self, text: str, batch: int) -> dict[str, tuple[int, ...]]:
        """The shapes of all blobs."""
        net = elaborate(self.spec(text), batch=batch).test.net
        return {
            name: type.shape
            for node in net.nodes
            for name, type in zip(node.tops, node.top_types, strict=True)
        }

    def whole(
        self,
        text: str,
        feeds: Arrays,
        wanted: Sequence[str],
        *,
        given: Arrays | None = None,
        training: bool = False,
        gradients: Sequence[str] = (),
    ) -> list[Array]:
        """Blobs of the net as it stands, and gradients of Σ weight · loss by inputs or weights."""
        batch = len(next(iter(feeds.values())))
        built = elaborate(self.spec(text), batch=batch)
        net = built.train.net if training else built.test.net
        lowered = lower(net)
        values = [lowered.blobs[name] for name in wanted] + _pulled(lowered, gradients)
        values = [lowered.op.Identity(value) for value in values]
        graph = simplify(lowered.op.graph(values, name="whole"))
        runner = session(emit(formulate(graph, CPU_PLAIN).graph, check=True))
        known: dict[str, Array] = {**initial_weights(net, 1), **initial_statistics(net)}
        generator = np.random.default_rng(0)
        for value in lowered.randoms.values():
            known[value.name] = generator.random(value.type.shape, np.float32)
        known.update(given or {})
        types = {value.name: value.type.dtype for value in lowered.op.inputs}
        known.update({name: np.asarray(x, types.get(name, "float32")) for name, x in feeds.items()})
        return runner.run(None, {i.name: np.asarray(known[i.name], types[i.name])
                                 for i in runner.get_inputs()})  # fmt: skip


def _pulled(lowered: Lowered, names: Sequence[str]) -> list[Value]:
    if not names:
        return []
    op = lowered.op
    seeds = {
        loss: op.Expand(op.scalar(weight), op.ints(*loss.type.shape))
        if loss.type.shape
        else op.scalar(weight)
        for loss, weight in lowered.losses.values()
    }
    known = {**lowered.inputs, **lowered.parameters}
    found = grad(op, tuple(op.ops), seeds, [known[name] for name in names])
    assert None not in found, names
    return [value for value in found if value is not None]


@pytest.fixture
def net(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture(scope="session")
def cases() -> dict[str, dict[str, Any]]:
    """Caffe's own unit tests as data, by id."""
    path = Path(__file__).parents[4] / "shared/corpus/conformance/forward_cases.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return {case["id"]: case for case in json.loads(path.read_text())}


@pytest.fixture
def drawn() -> Callable[..., Array]:
    """Normal numbers of a shape, the same in each run."""
    generator = np.random.default_rng(0)
    return lambda *shape: generator.normal(size=shape).astype(np.float32)
