"""The road from text to net, one line per arrow, and the one place that joins the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from netspec.caffe.recognise import recognise
from netspec.diagnostics import (
    Diagnostics,
    NetspecError,
    SpecError,
    SpecErrors,
    UsageError,
)
from netspec.grammar.ast import Message
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.build import Built, build
from netspec.ir.class_weights import unweighed
from netspec.ir.deploy import deploy
from netspec.ir.initial import initial_weights, neutral_statistics
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.override import override
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import Transform
from netspec.layers import LAYERS
from netspec.library import Library, locate

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from netspec.caffe.upgrade import Wishes
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
    lenient: bool = False
    """Whether layers at fault are left out, with a warning."""
    phase: Phase | None = None
    """Of a Caffe file, the phase that must stand; of a native one both must."""
    folder: Path | None = None
    """Where its paths begin, if that is not beside it: a run keeps a copy of its spec."""
    title: str = ""
    """What its net is called if it says no name, and not by its file, as a run's copy is not."""

    @property
    def default_name(self) -> str:
        """What its net is called if it says no name."""
        return self.title or self.path.stem

    @property
    def base(self) -> Path:
        """Where the paths in it begin."""
        return self.path.parent if self.folder is None else self.folder

    @property
    def files(self) -> dict[str, str]:
        """Every file that was read so far, by the path shown to the user."""
        return dict(self.library.read)


def read(
    target: str,
    *,
    sets: Sequence[str] = (),
    include_paths: Sequence[Path] = (),
    wishes: Wishes | None = None,
    diagnostics: Diagnostics | None = None,
    data: Path | None = None,
    phase: Phase = Phase.TEST,
) -> Spec:
    """text → tree, a native one with `--set` overrides; SpecErrors, UsageError or NetspecError.

    `wishes` say how a Caffe file is read, and `data` where its data are, instead of its sources;
    what is odd about it goes to `diagnostics`. Of a Caffe net whose other phase alone is at fault,
    `phase` stands for both.
    """
    diagnostics = Diagnostics() if diagnostics is None else diagnostics
    path, shown = locate(target)
    library = Library(path.parent, include_paths)
    tree = parse(library.open(path, shown))
    folder = stands = None
    if recognise(tree):
        from netspec.caffe_files import native, source_folder

        tree = native(tree, path, library, wishes, diagnostics, data=data, phase=phase)
        folder = source_folder(tree, path)
        stands = phase
    elif wishes is not None:
        raise UsageError(f"{shown}: is no Caffe file, and has no levels, stages or unknown shapes")
    lenient = wishes is not None and wishes.lenient
    return Spec(path, override(tree, sets), library, tuple(sets), lenient, stands, folder)


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

    `batch` overrides the batch sizes of the data sections; lints go to `diagnostics`. Where one
    phase of a Caffe file must stand, it stands for the other, too, if that alone is at fault.
    """
    diagnostics = Diagnostics() if diagnostics is None else diagnostics
    wanted = spec.phase
    found = {
        phase: diagnostics if wanted is None else Diagnostics()
        for phase in (Phase.TEST, Phase.TRAIN)
    }
    built = {
        phase: build(
            spec.tree,
            layers=LAYERS,
            load=spec.library.include,
            phase=phase,
            batch=batch,
            diagnostics=own,
            lenient=spec.lenient,
            name=spec.default_name,
        )
        for phase, own in found.items()
    }
    if wanted is not None and not spec.lenient and built[wanted] is not None:
        (other,) = set(Phase) - {wanted}
        if built[other] is None:
            fault = found[other].errors[0]
            message = f"phase {other} is left out: {fault.message}"
            built[other] = built[wanted]
            found[other] = Diagnostics(warnings=[SpecError(message, fault.span, code="caffe")])
    if wanted is not None:
        for own in found.values():
            diagnostics.extend(own)
    if spec.lenient and all(built.values()):  # beyond a limit there is no net to go on with
        diagnostics.forgive()
    diagnostics.check()
    if not all(built.values()):  # for faults that the reading has told of, as warnings
        for own in found.values():
            own.check()
    test, train = built[Phase.TEST], built[Phase.TRAIN]
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
    embed_preprocessing: bool = False,
    measured: Arrays | None = None,
) -> Compiled:
    """tree → ONNX, verified on two seeded batches before anyone sees it.

    `weights` holds parameters and statistics by name; without them the fillers draw from `seed`
    (the solver's random_seed unless given). Without `batch` the model takes any batch size.
    With `embed_preprocessing` it takes images as the data set of phase TEST holds them: of the
    size of the mean image, else of those that are there, else of the crop; bytes unless those are
    floats. `measured` is what its transform reads of the training data.
    SpecErrors for a faulty spec, DataError for weights that do not fit.
    """
    from netspec.codegen.inference import (
        MAX_BYTES,
        check_batch_free,
        inference_graph,
        inference_model,
        model_metadata,
    )
    from netspec.preprocessing import preprocessing_of
    from netspec.runtime.verify import verify

    net, wanted = deploy(_at_batch(spec, batch, 2).test.net, outputs)
    preprocessing = preprocessing_of(net, spec.base, measured or {}, embedded=embed_preprocessing)
    inference = inference_graph(net, wanted, preprocessing.embedded(net))
    if batch is None:
        other, _ = deploy(_at_batch(spec, batch, 3).test.net, outputs)
        check_batch_free(inference, inference_graph(other, wanted, preprocessing.embedded(other)))
    taken = 4 * sum(p.numel for p in net.parameters)
    if taken > MAX_BYTES:
        raise NetspecError(f"the weights take {taken:,} bytes, and an ONNX file holds 2 GiB")
    arrays = _weights(net, weights, seed)
    model = inference_model(
        inference,
        arrays,
        fixed_batch=batch is not None,
        metadata=model_metadata(net, source_hash(spec), classes, *preprocessing.facts),
        check=True,
    )
    lowered = inference_model(inference, arrays, simplified=False, fixed_batch=batch is not None)
    sizes = (batch, batch) if batch else (2, 3)
    probes = [b for node in net.nodes if set(wanted) & set(node.tops) for b in node.bottoms]
    samples = {name: value.type.sample for name, value in inference.inputs.items()}
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

    Its data set is one batch, float32, or bytes where colours are changed, with labels of int64.
    `recompute` names the blocks that are computed a second time for their gradients. SpecErrors for
    a faulty spec, UsageError for a net that cannot be trained.
    """
    from netspec.autodiff import grad
    from netspec.codegen.recompute import segments
    from netspec.codegen.step import gradient_graph

    net = elaborate(spec, batch=batch).train.net
    if net.data and net.data.class_weights and unweighed(net):
        raise UsageError("class_weights: BALANCED ones are of training data: give numbers")
    transform = net.data.transform if net.data else Transform()
    types = stored_inputs(net)
    return gradient_graph(net, types, transform, target, grad, segments=segments(recompute, net))


def _weights(net: Net, given: Arrays | None, seed: int | None) -> Arrays:
    if given is not None:
        from netspec.weights import check_weights

        check_weights(net, given)
        return given
    return drawn_weights(net, seed)


def drawn_weights(net: Net, seed: int | None = None) -> Arrays:
    """Weights as the fillers draw them, and statistics that change nothing.

    `seed` is the solver's random_seed unless given.
    """
    drawn = initial_weights(net, net.seed if seed is None else seed)
    return {**drawn, **neutral_statistics(net)}


def source_hash(spec: Spec) -> str:
    """SHA-256 of the tree with its overrides and of what it includes: what a model came from.

    Formatting does not enter, so that a run's own copy of a spec has the same hash.
    """
    digest = sha256(to_text(spec.tree).encode())
    _, *included = spec.files.values()
    for text in included:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()
