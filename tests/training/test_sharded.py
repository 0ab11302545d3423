"""A batch computed in shards trains as the whole does, and what may not be is not."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from netspec import zoo
from netspec.autodiff import grad
from netspec.codegen.footprint import counted
from netspec.codegen.layout import Plan, plan
from netspec.codegen.sharding import SHARDS, may_be_sharded, shards_of
from netspec.codegen.target import CPU_PLAIN, CUDA, Target, cpu_blocked
from netspec.compiler import Spec, elaborate, read, stored_inputs
from netspec.diagnostics import NetspecError
from netspec.ir.graph import Graph
from netspec.ir.net import Net
from netspec.ir.rebatch import rebatched
from netspec.ir.sections import DataSection, Solver
from netspec.ir.training_memory import training_memory
from netspec.layers import LAYERS
from netspec.runtime.device import Device
from netspec.training.execution.bound import BoundBatch, array_types
from netspec.training.execution.diagnosis import Diagnosis
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.execution.randoms import uniform
from netspec.training.execution.targets import find_target
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.loop import Stopped
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare

BATCH, SAMPLES = 8, 24
NET = """
input "data" {{ shape: {shape} }}
{layers}
data "train" {{ source: "set.npz"  batch_size: 8  transform {{ {transform} }} }}
solver {{ base_lr: 0.05  random_seed: 3  max_iter: 4 {solver} }}
"""
CLASSIFIER = """
conv { num_output: 6  kernel_size: 3 }
relu
dropout
fc { num_output: 3 }
softmax_loss
accuracy
"""


def spec(
    folder: Path,
    layers: str = CLASSIFIER,
    *,
    shape: str = "3x8x8",
    transform: str = "scale: 1/64",
    solver: str = "",
) -> Spec:
    path = folder / "net.net"
    path.write_text(NET.format(shape=shape, layers=layers, transform=transform, solver=solver))
    return read(str(path))


def net_of(folder: Path, *arguments: str, **options: str) -> Net:
    return elaborate(spec(folder, *arguments, **options)).train.net


def images() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (SAMPLES, 3, 8, 8)).astype(np.uint8)
    return {"data": pictures, "label": rng.integers(0, 3, SAMPLES)}


def noise(net: Net) -> dict[str, NDArray[Any]]:
    """Numbers near 1 for each input, and labels of two classes."""
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for name, type in stored_inputs(net).items():
        shape = (SAMPLES, *type.sample)
        if type.dtype == "int64":
            made[name] = np.arange(prod(shape)).reshape(shape) % 2
        else:
            made[name] = rng.normal(1, 1, shape).astype(type.dtype)
    return made


def both(net: Net, arrays: Mapping[str, NDArray[Any]], device: Any = "cpu") -> list[Executor]:
    """As a whole, and in shards."""
    made = [Executor(net, None, arrays, None, device=device, seed=1, shards=n) for n in (1, SHARDS)]
    assert [on.shards for on in made] == [1, SHARDS]
    return made


def agree(whole: Executor, shards: Executor, batch: int, tolerance: float = 1e-5) -> None:
    """Three steps: losses, metrics, gradients and weights."""
    for i in range(3):
        samples = np.arange(batch * i, batch * (i + 1)) % SAMPLES
        ours, theirs = (on.step(i, samples, 0.01) for on in (whole, shards))
        assert ours.finite == theirs.finite
        assert theirs.loss == pytest.approx(ours.loss, rel=tolerance, abs=tolerance)
        for one, other in ((ours.losses, theirs.losses), (ours.metrics, theirs.metrics)):
            assert other == pytest.approx(one, rel=tolerance, abs=tolerance)
        for one, other in (
            (whole.held.summed_gradients(), shards.held.summed_gradients()),
            (whole.state().weights, shards.state().weights),
        ):
            assert one.keys() == other.keys()
            largest = max(np.abs(array).max(initial=0) for array in one.values())
            for name in one:
                assert np.abs(other[name] - one[name]).max(initial=0) <= tolerance * largest, name


def trainable(net: Net) -> bool:
    return any(not p.frozen for p in net.parameters) and any(n.weighed for n in net.nodes)


def example(keyword: str, folder: Path) -> Net | None:
    """A layer's own example as a net that learns; None where there is nothing to learn."""
    path = folder / "example.net"
    text = dedent(LAYERS[keyword].example)
    path.write_text(text)
    try:
        net = elaborate(read(str(path)), batch=BATCH).train.net
        if not any(node.weighed for node in net.nodes):
            last = net.nodes[-1].tops[-1]
            end = (
                f'fc {{ bottom: "{last}"  num_output: 2  weight_filler {{ type: xavier }} }}\n'
                "power { power: 2 }\nreduction { operation: MEAN  loss_weight: 1 }\n"
            )
            path.write_text(f"{text}\n{end}")
            net = elaborate(read(str(path)), batch=BATCH).train.net
    except NetspecError:
        return None
    data = net.data or DataSection(source="?", batch_size=BATCH)
    return net.model_copy(update={"data": data, "solver": Solver(base_lr=0.01, max_iter=1)})


@pytest.mark.parametrize("keyword", LAYERS)
def test_every_layer(keyword: str, tmp_path: Path) -> None:
    """Where the proof says that its samples keep apart, they do."""
    net = example(keyword, tmp_path)
    try:
        if net is None or not may_be_sharded(net, SHARDS):
            pytest.skip("its samples may meet, or it does not train")
    except NetspecError:
        pytest.skip("it does not run")
    if not trainable(net):
        pytest.skip("nothing to learn")
    agree(*both(net, noise(net)), BATCH)


APART = [
    "alexnet", "cifar10_full", "cifar10_quick", "lenet", "lenet5", "maxout_net", "nin", "siamese",
    "squeezenet1_0", "squeezenet1_1", "svm_cifar", "text1d", "triplet", "two_layer_net", "unet",
    "vgg11_lrn", "vgg16", "zfnet",
]  # fmt: skip
"""Bundled nets whose samples meet in nothing but means."""


@pytest.mark.parametrize("name", APART)
def test_bundled_nets(name: str, small: Callable[..., Spec]) -> None:
    net = elaborate(small(name), batch=BATCH).train.net
    settings = {"solver": Solver(base_lr=0.01, max_iter=1, momentum=0.9)}
    if net.data is None:
        settings["data"] = DataSection(source="?", batch_size=BATCH)
    net = net.model_copy(update=settings)
    arrays = noise(net)
    # Kinks turn the last bit of a sum into another gradient: one step is what can be compared.
    whole, shards = both(net, arrays)
    samples = np.arange(BATCH)
    ours, theirs = (on.step(0, samples, 0.01) for on in (whole, shards))
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-5)
    assert theirs.metrics == pytest.approx(ours.metrics, abs=1e-5)
    one, other = (on.held.summed_gradients() for on in (whole, shards))
    norm = np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in one.values()))
    for name in one:
        assert np.linalg.norm(other[name] - one[name]) <= 5e-4 * norm, name


@pytest.mark.parametrize(
    "name", [n for n in zoo.names() if n.startswith(("resnet", "densenet", "mobilenet", "wrn"))]
)
def test_statistics_are_of_the_whole_batch(name: str, small: Callable[..., Spec]) -> None:
    net = elaborate(small(name), batch=BATCH).train.net
    assert not may_be_sharded(net, SHARDS)


SOLVERS = {
    "momentum": "",
    "clipped": "clip_gradients: 0.5",
    "several batches": "iter_size: 2",
    "several batches, clipped": "iter_size: 3  clip_gradients: 0.1",
    "means of weights": "ema_decay: 0.9  iter_size: 2",
    "Adam": "type: Adam  momentum2: 0.99  weight_decay: 0.01",
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_way_to_the_update(solver: str, tmp_path: Path) -> None:
    net = net_of(tmp_path, solver=f"momentum: 0.9  {SOLVERS[solver]}")
    assert net.solver is not None
    agree(*both(net, images()), BATCH * net.solver.iter_size, tolerance=2e-5)


TRANSFORMS = (
    "mirror: true", "flip_vertical: true", "rotation: 30", "translation: 2", "zoom: 1.3",
    "stretch: 1.2", "shear: 10", "distortion: 0.1", "brightness: 0.2", "contrast: 0.2",
    "saturation: 0.2", "hue: 0.1", "cutout: 3", "pca_jitter: 0.1", "standardize: true",
    "mean_value: 120", "pad: 2  crop_size: 8", "preset: PLANKTON  translation: 2", "whiten: ZCA",
    "rotation: 10  mirror: true  pad: 2  crop_size: 8  brightness: 0.1  cutout: 2",
)  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform(transform: str, tmp_path: Path) -> None:
    """Each sample is drawn for as it is in the whole batch."""
    np.savez(tmp_path / "set.npz", **images())
    found = prepare(spec(tmp_path, transform=f"{transform}  scale: 1/64"))
    assert all(isinstance(array, np.ndarray) for array in found.train.fed.values())
    agree(*both(found.nets.train.net, found.train.fed), BATCH)


@pytest.mark.parametrize("transform", ["mixup: 0.4", "cutmix: 1"])
def test_mixed_samples_meet(transform: str, tmp_path: Path) -> None:
    net = net_of(tmp_path, transform=transform)
    assert not may_be_sharded(net, SHARDS)


LOSSES = {
    "fc { num_output: 3 }\nsoftmax_loss { ignore_label: 1 }": False,  # over how many are left
    "fc { num_output: 3 }\nsoftmax_loss { normalization: FULL }": True,
    "fc { num_output: 3 }\nsoftmax_loss { normalization: BATCH_SIZE }": True,
    "fc { num_output: 3 }\nsoftmax_loss { normalization: NONE }": False,
    "fc { num_output: 3 }\nreduction { operation: SUM  loss_weight: 1 }": False,
    "fc { num_output: 3 }\nsoftmax { axis: 0 }\npower { power: 2 }\n"
    "reduction { operation: MEAN  loss_weight: 1 }": False,
    'parameter "H" { shape: 3x3  filler { type: xavier } }\nfc { bottom: "data"  num_output: 3 }\n'
    'infogain_loss { bottom: "fc1"  bottom: "label"  bottom: "H" }': True,
    "fc { num_output: 3 }\nbatch_norm\nsoftmax_loss": False,
    "fc { num_output: 3 }\nsoftmax_loss\nbatch_norm { bottom: \"data\" }": False,
}  # fmt: skip


@pytest.mark.parametrize("layers", LOSSES)
def test_losses(layers: str, tmp_path: Path) -> None:
    net = net_of(tmp_path, layers)
    assert may_be_sharded(net, SHARDS) == LOSSES[layers]
    if LOSSES[layers]:
        agree(*both(net, images()), BATCH)


class TestTheRule:
    """Where it pays."""

    def shards(self, net: Net, target: Any = CPU_PLAIN) -> int:
        return shards_of(net, target)

    def test_nets(self) -> None:
        nets = {n: elaborate(read(n), batch=b).train.net for n, b in (
            ("lenet", 64), ("squeezenet1_1", 8), ("googlenet", 8), ("alexnet", 16),
            ("resnet18", 8),
        )}  # fmt: skip
        found = {name: self.shards(net) for name, net in nets.items()}
        assert found == {
            "lenet": 2, "squeezenet1_1": 2, "googlenet": 2,
            "alexnet": 1,  # so many weights that to add their gradients up takes longer
            "resnet18": 1,  # its statistics are of the whole batch
        }  # fmt: skip

    def test_targets(self, tmp_path: Path) -> None:
        net = net_of(tmp_path)
        targets = (CPU_PLAIN, cpu_blocked(8), cpu_blocked(16), CUDA)
        assert [self.shards(net, target) for target in targets] == [2, 2, 2, 1]

    def test_batches(self) -> None:
        spec = read("lenet")
        batches = (64, 8, 7, 6, 1)
        nets = [elaborate(spec, batch=batch).train.net for batch in batches]
        # Of 8 images of LeNet the gradients are larger than all else.
        assert [self.shards(net) for net in nets] == [2, 1, 1, 1, 1]
        may = [may_be_sharded(net, SHARDS) for net in nets]
        assert may == [True, True, False, True, False]

    def test_half_precision(self, tmp_path: Path) -> None:
        net = net_of(tmp_path, solver="precision: FP16")
        assert self.shards(net) == 1

    def test_what_is_asked_for_is_done_as_far_as_may_be(self, tmp_path: Path) -> None:
        sharded, normed = (
            net_of(tmp_path, layers) for layers in (CLASSIFIER, "batch_norm\n" + CLASSIFIER)
        )
        made = [
            Executor(net, None, images(), None, device="cpu", seed=1, shards=n).shards
            for net, n in ((sharded, 1), (sharded, 4), (sharded, 3), (normed, 2))
        ]
        assert made == [1, 4, 1, 1]


def test_four_shards(tmp_path: Path) -> None:
    net = net_of(tmp_path)
    whole, _ = both(net, images())
    four = Executor(net, None, images(), None, device="cpu", seed=1, shards=4)
    agree(whole, four, BATCH)


def test_one_thread_computes_the_same_bits(tmp_path: Path) -> None:
    """One shard after the other, in the thread that asks."""
    net = net_of(tmp_path)
    states = []
    for threads in (1, 2):
        _, on = both(net, images(), Device("cpu", threads=threads))
        for i in range(4):
            on.step(i, np.arange(BATCH * i, BATCH * (i + 1)) % SAMPLES, 0.05)
        states.append(on.state().weights)
    for name, array in states[0].items():
        assert array.tobytes() == states[1][name].tobytes(), name


def test_a_number_that_is_not_finite_in_one_shard_undoes_the_step(tmp_path: Path) -> None:
    net = net_of(tmp_path, transform="", shape="3x8x8")
    arrays = {**images(), "data": images()["data"].astype(np.float32)}
    arrays["data"][6] = np.nan  # of the second shard
    _, on = both(net, arrays)
    before = on.state().weights
    result = on.step(0, np.arange(BATCH), 0.1)
    assert not result.finite
    for name, array in on.state().weights.items():
        assert array.tobytes() == before[name].tobytes()
    assert on.step(1, np.arange(BATCH, 2 * BATCH), 0.1).finite


@pytest.mark.parametrize("faulty", [0, 1])
def test_a_fault_in_a_shard_is_told_when_all_are_done(
    faulty: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, on = both(net_of(tmp_path), images())
    run, done = BoundBatch.run_at, []

    def failing(batch: BoundBatch, places: NDArray[np.int64], iteration: int) -> None:
        if places[0] == faulty * BATCH // 2:
            raise NetspecError("no more memory")
        run(batch, places, iteration)
        done.append(places[0])

    monkeypatch.setattr(BoundBatch, "run_at", failing)
    with pytest.raises(NetspecError, match="no more memory"):
        on.step(0, np.arange(BATCH), 0.1)
    assert done == [BATCH // 2 - faulty * BATCH // 2]
    monkeypatch.undo()
    assert on.step(0, np.arange(BATCH), 0.1).finite


def test_an_interrupt_waits_until_no_shard_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a shard would write to memory that is gone."""
    _, on = both(net_of(tmp_path), images())
    run, ended = BoundBatch.run_at, []

    def slowly(batch: BoundBatch, places: NDArray[np.int64], iteration: int) -> None:
        if places[0] == BATCH // 2:
            signal.raise_signal(signal.SIGINT)  # the main thread hears of it while it waits
            time.sleep(0.02)
            run(batch, places, iteration)
            ended.append(time.perf_counter())

    on.step(0, np.arange(BATCH), 0.1)
    for count in range(1, 20):
        monkeypatch.setattr(BoundBatch, "run_at", slowly)
        with pytest.raises(KeyboardInterrupt):
            on.step(0, np.arange(BATCH), 0.1)
        assert len(ended) == count
        monkeypatch.undo()
    assert on.step(0, np.arange(BATCH), 0.1).finite


def test_a_step_after_the_end_is_computed_by_who_asks(tmp_path: Path) -> None:
    _, on = both(net_of(tmp_path), images())
    _, other = both(net_of(tmp_path), images())
    for _ in range(2):
        on.close()
    for executor in (on, other):
        executor.step(0, np.arange(BATCH), 0.1)
    for name, array in on.state().weights.items():
        assert array.tobytes() == other.state().weights[name].tobytes()


def test_numbers_drawn_for_a_shard_are_its_rows() -> None:
    from netspec.training.execution.randoms import fill_uniform

    whole = uniform(5, 7, "drop", (6, 5000))
    part = np.empty((2, 5000), np.float32)
    for shard in range(3):
        fill_uniform(part, 5, 7, "drop", shard * part.size)
        assert part.tobytes() == whole[2 * shard : 2 * shard + 2].tobytes()


def test_memory_is_counted_for_all_shards(tmp_path: Path) -> None:
    net = net_of(tmp_path)
    estimate = training_memory(net, net.solver)
    assert estimate is not None
    types, target = array_types(images()), find_target("cpu").target
    part = rebatched(net, BATCH // SHARDS)
    one = training_memory(part, part.solver)
    assert one is not None
    found = counted(estimate, net, types, target, grad)
    alone = counted(one, part, types, CPU_PLAIN if target == CPU_PLAIN else target, grad)
    assert shards_of(part, target) == 1
    assert found.gradients == SHARDS * alone.gradients
    assert found.activations == SHARDS * alone.activations
    assert found.workspace == SHARDS * alone.workspace
    assert (found.weights, found.solver) == (alone.weights, alone.solver)


def test_a_diagnosis_looks_at_the_shards_as_they_were(tmp_path: Path) -> None:
    """By the plan that they had, which need not be measured again."""
    layers = 'power "steep" { scale: 1e30 }\npower "steeper" { scale: 1e30 }\n' + CLASSIFIER
    np.savez(tmp_path / "set.npz", **images())
    experiment = prepare(spec(tmp_path, layers))
    machine, planned = find_machine("cpu"), []

    def planner(graph: Graph, target: Target) -> Plan:
        planned.append([op.outputs[0].type.shape for op in graph.ops if op.op_type == "Conv"])
        return plan(graph, target)

    executor = Executor.of(experiment, machine, planner)
    assert executor.shards == SHARDS
    assert not executor.step(0, np.arange(BATCH), 0.1).finite
    diagnosis = Diagnosis(experiment, machine, planner, (), executor)
    said = diagnosis(0, np.arange(BATCH))
    assert said.startswith("layer `steeper` (")
    assert f"of {BATCH // SHARDS * 3 * 8 * 8:,} values are not finite" in said
    assert planned == [[(BATCH // SHARDS, 6, 6, 6)]] * 2


class StopsAt(Listener):
    """Sends the signal to stop after an iteration."""

    def __init__(self, last: int) -> None:
        self.last = last

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.last:
            signal.raise_signal(signal.SIGTERM)


class TestRuns:
    def trained(self, folder: Path, **options: Any) -> Any:
        np.savez(folder / "set.npz", **images())
        return train(spec(folder), runs=folder / "runs", device="cpu", **options)

    def weights(self, folder: Path, number: int) -> bytes:
        return (folder / "runs" / "net" / str(number) / "weights.safetensors").read_bytes()

    def test_a_resumed_run_is_the_same_to_the_bit(self, tmp_path: Path) -> None:
        self.trained(tmp_path)
        with pytest.raises(Stopped):
            self.trained(tmp_path, listener=StopsAt(2), threads=1)
        assert Run.open(tmp_path / "runs" / "net" / "2").settings.shards == SHARDS
        self.trained(tmp_path, resume=True)
        assert self.weights(tmp_path, 1) == self.weights(tmp_path, 2)

    def test_a_run_of_an_earlier_version_goes_on_as_a_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(Stopped):
            self.trained(tmp_path, listener=StopsAt(2))
        file = tmp_path / "runs" / "net" / "1" / "settings.json"
        kept = json.loads(file.read_text())
        assert kept.pop("shards") == SHARDS
        file.write_text(json.dumps(kept))
        seen: list[int] = []
        made = Executor.of.__func__  # type: ignore[attr-defined]

        def of(cls: type[Executor], *arguments: Any) -> Executor:
            seen.append((executor := made(cls, *arguments)).shards)
            return executor

        monkeypatch.setattr(Executor, "of", classmethod(of))
        self.trained(tmp_path, resume=True)
        self.trained(tmp_path)
        assert seen == [1, SHARDS]

    def test_a_run_remembers_what_is_computed_since(self, tmp_path: Path) -> None:
        """Another spec is cut as its own batch can be."""
        self.trained(tmp_path)
        run = tmp_path / "runs" / "net" / "1"
        for batch, shards in ((9, 1), (12, SHARDS)):
            np.savez(tmp_path / "set.npz", **images())
            path = tmp_path / "net.net"
            text = path.read_text().replace("max_iter: 4", "max_iter: 6")
            path.write_text(re.sub(r"batch_size: \d+", f"batch_size: {batch}", text))
            train(read(str(path)), runs=tmp_path / "runs", device="cpu", resume=run, force=True)
            assert Run.open(run).settings.shards == shards
