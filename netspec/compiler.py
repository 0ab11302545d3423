"""The road from text to net, one line per arrow, and the one place that joins the parts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from netspec import zoo
from netspec.diagnostics import (
    MAX_ERRORS,
    DataError,
    Diagnostics,
    NetspecError,
    SpecErrors,
    UsageError,
    suggest,
)
from netspec.grammar.ast import Message
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.build import Built, build
from netspec.ir.deploy import deploy
from netspec.ir.fields import plain
from netspec.ir.initial import initial_weights, neutral_statistics
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.override import override
from netspec.ir.sections import Transform
from netspec.ir.types import TensorType, size
from netspec.layers import LAYERS
from netspec.library import ZOO, Library

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from netspec.codegen.step import BatchStep
    from netspec.codegen.target import Target

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"


@dataclass(frozen=True)
class Spec:
    """A spec as it was read: its tree with the overrides of the command line, and its files."""

    path: Path
    tree: Message
    library: Library
    sets: tuple[str, ...] = ()
    """The overrides, as they were given."""

    @property
    def files(self) -> dict[str, str]:
        """Every file that was read so far, by the path shown to the user."""
        return dict(self.library.read)


def locate(target: str) -> tuple[Path, str]:
    """The file that a path or the name of a zoo spec means, and how to show it."""
    path = Path(target)
    found = zoo.find(target)
    if os.path.exists(path) and not (found and path.is_dir()):  # a folder `lenet` hides no spec
        return path, target
    if found is not None:
        return found, str(found) if found.is_relative_to(Path.cwd()) else f"{ZOO}{target}.net"
    message = f"there is no file `{target[:200]}`, nor a bundled spec of that name"
    raise UsageError(message + suggest(target, zoo.names()))


def read(target: str, *, sets: Sequence[str] = (), include_paths: Sequence[Path] = ()) -> Spec:
    """text → tree, with `--set` overrides; SpecErrors, UsageError or NetspecError if it cannot."""
    path, shown = locate(target)
    library = Library(path.parent, include_paths)
    tree = parse(library.open(path, shown))
    return Spec(path, override(tree, sets), library, tuple(sets))


@dataclass(frozen=True)
class Elaborated:
    """A spec as nets: what it tests with and what it trains with."""

    test: Built
    train: Built

    def __getitem__(self, phase: Phase) -> Built:
        return self.train if phase is Phase.TRAIN else self.test


def elaborate(
    spec: Spec, *, batch: int | None = None, diagnostics: Diagnostics | None = None
) -> Elaborated:
    """tree → nets, one per phase; SpecErrors with every fault of both.

    `batch` overrides the batch sizes of the data sections; lints go to `diagnostics`.
    """
    diagnostics = Diagnostics() if diagnostics is None else diagnostics
    test, train = (
        build(
            spec.tree,
            layers=LAYERS,
            load=spec.library.include,
            phase=phase,
            batch=batch,
            diagnostics=diagnostics,
        )
        for phase in (Phase.TEST, Phase.TRAIN)
    )
    diagnostics.check()
    assert test is not None, "a build without faults gives a net"
    assert train is not None, "a build without faults gives a net"
    return Elaborated(test, train)


@dataclass(frozen=True)
class Compiled:
    """An inference model, and what was seen when it was verified."""

    model: onnx.ModelProto
    net: Net
    outputs: tuple[str, ...]
    difference: float
    """The largest difference between the graph as lowered and the model, on two batches."""


def compile_spec(
    spec: Spec,
    *,
    weights: Arrays | None = None,
    batch: int | None = None,
    outputs: Sequence[str] = (),
    classes: Sequence[str] = (),
    seed: int | None = None,
) -> Compiled:
    """tree → ONNX, verified on two seeded batches before anyone sees it.

    `weights` holds parameters and statistics by name; without them the fillers draw from `seed`
    (the solver's random_seed unless given). Without `batch` the model takes any batch size.
    SpecErrors for a faulty spec, DataError for weights that do not fit.
    """
    from netspec.codegen.inference import (
        MAX_BYTES,
        check_batch_free,
        inference_graph,
        inference_model,
        model_metadata,
    )
    from netspec.runtime.verify import verify

    net, wanted = deploy(_at_batch(spec, batch, 2).test.net, outputs)
    inference = inference_graph(net, wanted)
    if batch is None:
        other, _ = deploy(_at_batch(spec, batch, 3).test.net, outputs)
        check_batch_free(inference, inference_graph(other, wanted))
    taken = 4 * sum(p.numel for p in net.parameters)
    if taken > MAX_BYTES:
        raise NetspecError(f"the weights take {taken:,} bytes, and an ONNX file holds 2 GiB")
    arrays = _weights(net, weights, seed)
    transform = net.data.transform if net.data else Transform()
    model = inference_model(
        inference,
        arrays,
        fixed_batch=batch is not None,
        metadata=model_metadata(net, source_hash(spec), classes, plain(transform)),
        check=True,
    )
    lowered = inference_model(inference, arrays, simplified=False, fixed_batch=batch is not None)
    sizes = (batch, batch) if batch else (2, 3)
    probes = [b for node in net.nodes if set(wanted) & set(node.tops) for b in node.bottoms]
    samples = {name: type.sample for name, type in net.inputs.items()}
    read = {n.bottoms[i] for n in net.nodes for i in n.layer.labels if i < len(n.bottoms)}
    difference = verify(lowered, model, samples, sizes, probes, indices=read)
    return Compiled(model, net, wanted, difference)


def _at_batch(spec: Spec, batch: int | None, tried: int) -> Elaborated:
    """The nets at a batch size: the wanted one, or one to see whether any will do."""
    if batch is not None:
        return elaborate(spec, batch=batch)
    try:
        return elaborate(spec, batch=tried)
    except SpecErrors:
        own = elaborate(spec).test.net  # the spec's own faults, if it has any
        if own.hung is None:
            raise
        message = (
            f"layer `{own.hung.name}` hangs on the batch size: fix it with --batch {own.batch}"
        )
        raise NetspecError(message) from None


def compile_step(
    spec: Spec, target: Target, *, batch: int | None = None, recompute: Sequence[str] = ()
) -> BatchStep:
    """tree → the training step of one batch, as `target` runs it: losses and gradients.

    Its data set is one batch, float32, with labels of int64. `recompute` names the blocks that are
    computed a second time for their gradients. SpecErrors for a faulty spec, UsageError for a net
    that cannot be trained.
    """
    from netspec.autodiff import grad
    from netspec.codegen.recompute import segments
    from netspec.codegen.step import gradient_graph

    net = elaborate(spec, batch=batch).train.net
    transform = net.data.transform if net.data else Transform()
    types = stored_inputs(net)
    return gradient_graph(net, types, transform, target, grad, segments=segments(recompute, net))


def stored_inputs(net: Net) -> dict[str, TensorType]:
    """What a data set holds for each input: images without the padding of the transform."""
    pad = net.data.transform.pad if net.data else 0
    inputs = dict(net.inputs)
    for name in net.transformed if pad else ():
        channels, *extent = inputs[name].sample
        if not extent or min(extent) <= 2 * pad:
            raise DataError(f"transform: pad {pad} leaves nothing of the input `{name}`")
        batch = inputs[name].batch
        inputs[name] = inputs[name].with_shape(batch, channels, *(n - 2 * pad for n in extent))
    return inputs


def _weights(net: Net, given: Arrays | None, seed: int | None) -> Arrays:
    if given is not None:
        check_weights(net, given)
        return given
    solver_seed = net.solver.random_seed if net.solver else 1
    drawn = initial_weights(net, solver_seed if seed is None else seed)
    return {**drawn, **neutral_statistics(net)}


def check_weights(net: Net, given: Arrays) -> None:
    """Refuse weights that miss a tensor of the net or have another shape; extra ones are fine."""
    wanted = {p.name: p.shape for p in net.parameters}
    wanted.update({name: s.shape for name, s in net.statistics.items()})
    strange = sorted(given.keys() - wanted.keys())
    faults = []
    for name, shape in wanted.items():
        if name not in given:
            faults.append(f"`{name}` is missing{suggest(name, strange)}")
        elif tuple(given[name].shape) != shape:
            faults.append(f"`{name}` is {size(given[name].shape)}, the net has {size(shape)}")
        elif given[name].dtype != "float32":
            faults.append(f"`{name}` holds {given[name].dtype}, not float32")
    if faults:
        shown = faults[:MAX_ERRORS]
        more = [f"… and {len(faults) - len(shown)} more"] if len(faults) > len(shown) else []
        raise DataError("the weights do not fit the net: " + "; ".join([*shown, *more]))


def source_hash(spec: Spec) -> str:
    """SHA-256 of the tree with its overrides and of what it includes: what a model came from.

    Formatting does not enter, so that a run's own copy of a spec has the same hash.
    """
    digest = sha256(to_text(spec.tree).encode())
    _, *included = spec.files.values()
    for text in included:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()
