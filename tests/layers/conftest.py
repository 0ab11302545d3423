"""A bench on which one layer is lowered, and run by onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN
from netspec.ir.graph import Value
from netspec.ir.layer import Layer
from netspec.ir.types import Shape, TensorType

Array = npt.NDArray[Any]


@dataclass
class Bench:
    """A layer's context: what it asks for is an input, what it observes an output."""

    layer: Layer
    types: Sequence[TensorType]
    training: bool
    op: Builder = field(default_factory=Builder)
    randoms: list[Value] = field(default_factory=list)
    observed: dict[str, tuple[Value, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = self.layer.statistics(self.types)
        self.statistics = {s.name: self.op.input(s.name, TensorType(s.shape)) for s in named}
        self.bottoms = [self.op.input(f"bottom{i}", t) for i, t in enumerate(self.types)]
        self.weights = [
            self.op.input(f"weight{i}", TensorType(w.shape))
            for i, w in enumerate(self.layer.weights(self.types))
        ]
        self.tops = self.layer.lower(self, self.bottoms, self.weights)

    def random(self, shape: Shape) -> Value:
        self.randoms.append(self.op.input(f"random{len(self.randoms)}", TensorType(shape)))
        return self.randoms[-1]

    def statistic(self, name: str) -> Value:
        return self.statistics[name]

    def observe(self, name: str, batch: Value, fraction: float) -> None:
        assert batch.type == self.statistics[name].type
        self.observed[name] = (batch, fraction)

    def session(self) -> ort.InferenceSession:
        """The lowered layer; outside of training at any batch size."""
        outputs = (*self.tops, *(v for v, _ in self.observed.values()))
        symbolic = frozenset(v for v in (*self.bottoms, *self.tops) if v.type.shape)
        graph = self.op.graph(outputs, name="bench")
        if self.training:  # as it is trained: a target's formulations stand for what ONNX says
            model = emit(formulate(graph, CPU_PLAIN).graph, check=True)
        else:
            model = emit(graph, symbolic_batch=symbolic, check=True)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(
        self,
        bottoms: Sequence[Array],
        given: Mapping[str, Array] | None = None,
        session: ort.InferenceSession | None = None,
    ) -> list[Array]:
        """Tops and observations; weights and statistics from their fillers unless given."""
        session = session or self.session()
        feeds: dict[str, Array] = {f"bottom{i}": x for i, x in enumerate(bottoms)}
        generator = np.random.default_rng(0)
        for i, weight in enumerate(self.layer.weights(self.types)):
            feeds[f"weight{i}"] = weight.filler.sample(weight.shape, generator)
        for statistic in self.layer.statistics(self.types):
            feeds[statistic.name] = np.full(statistic.shape, statistic.initial, np.float32)
        for value in self.randoms:
            feeds[value.name] = generator.random(value.type.shape, np.float32)
        feeds |= {name: np.asarray(x, np.float32) for name, x in (given or {}).items()}
        wanted = {i.name for i in session.get_inputs()}
        return session.run(None, {n: x for n, x in feeds.items() if n in wanted})


Forward = Callable[..., list[Array]]


@pytest.fixture(scope="session")
def bench() -> type[Bench]:
    return Bench


@pytest.fixture(scope="session")
def forward() -> Forward:
    """What a layer makes of arrays: `forward(layer, x, …, training=False, weight0=…)`."""

    def run(layer: Layer, *bottoms: Array, training: bool = False, **given: Array) -> list[Array]:
        types = [TensorType(x.shape, str(x.dtype)) for x in bottoms]
        made = Bench(layer, types, training)
        assert tuple(top.type for top in made.tops) == layer.infer(types)
        return made.run(bottoms, given)

    return run


@pytest.fixture(scope="session")
def caffe_cases() -> dict[str, dict[str, Any]]:
    """Caffe's own unit tests as data, by id."""
    path = Path(__file__).parents[3] / "shared/corpus/conformance/forward_cases.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return {case["id"]: case for case in json.loads(path.read_text())}
