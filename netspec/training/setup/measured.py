"""What transforms read of the training data: measured once, and kept in the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.compiler import Elaborated
from netspec.data import Dataset
from netspec.data.measuring import Survey
from netspec.data.totals import Addend, Array, Reals, pieces, totals
from netspec.diagnostics import DataError, NetspecError, UsageError, printable
from netspec.ir.class_weights import classes_of, unweighed, with_class_weights
from netspec.ir.labelled import LabelledLoss
from netspec.ir.layer import Phase
from netspec.ir.measured import WHITENING, beside, measured
from netspec.ir.net import Net, Node
from netspec.ir.stored import stored_inputs
from netspec.ir.transform import Transform
from netspec.ir.types import size
from netspec.training.runs.run import latest_run
from netspec.training.runs.tensors import read_tensors, write_tensors

FILE = "measured.safetensors"
"""Where a run keeps what it was trained with."""


@dataclass(frozen=True)
class Measured:
    """Arrays by the names of `ir.measured`, and what they hang on."""

    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    key: str = ""
    """The SHA-256 of the training samples and of the fields that say what to measure."""

    def write(self, folder: Path) -> None:
        """Keep it in the folder of a run, if there is anything to keep."""
        if self.arrays:
            write_tensors(folder / FILE, "measured", {"": self.arrays}, {"key": self.key})

    @classmethod
    def read(cls, folder: Path) -> Measured | None:
        """What a folder keeps; None if it keeps nothing, DataError if that is damaged."""
        if not (folder / FILE).exists():
            return None
        sections, facts = read_tensors(folder / FILE, "measured")
        return cls(sections[""], facts.get("key", ""))


NOTHING = Measured()
"""What transforms read that want nothing measured."""


def wanted(net: Net) -> tuple[str, ...]:
    """What the transform of a net wants measured."""
    if net.data is None or not net.transformed:
        return ()
    return measured(net.data.transform, training=net.phase is Phase.TRAIN)


def measure(nets: Elaborated, train: Dataset, runs: Path | None = None) -> Measured:
    """What the transforms of both phases want, on the training samples.

    The last run of the net under `runs` need not have it measured again, if it had the same
    samples. DataError for samples that are not finite.
    """
    net, test = nets.train.net, nets.test.net
    names = dict.fromkeys((*wanted(net), *wanted(test)))
    losses = _balanced(net)
    if not names and not losses:
        return NOTHING
    samples = [train.fed[name] for name in net.transformed] if names else []
    labels = [train.arrays[node.bottoms[1]] for node in losses]
    survey = Survey(samples, frozenset(names), _transform(net, test))
    called = sorted((*names, *map(_called, losses)))
    last = _last(net, runs)
    again = last is not None and sorted(last.arrays) == called  # likely of the same samples
    key, first = _hashed(survey, labels, called, {} if again else survey.first)
    if last is not None and last.key == key:
        return last
    found = survey.measured(survey.added_up(survey.first) if again else first)
    arrays = {name: found[name].astype(np.float32) for name in names}
    for node, label in zip(losses, labels, strict=True):
        arrays[_called(node)] = _weights(node, label)
    _check(arrays, train.origin)
    return Measured(arrays, key)


def _check(arrays: Mapping[str, NDArray[np.float32]], origin: str) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            what = name.removeprefix("transform#")
            raise DataError(f"{origin}: values that are not finite numbers have no {what}")


def _last(net: Net, runs: Path | None) -> Measured | None:
    """What the last run of a net keeps; if that is damaged, it is no reason not to measure."""
    with suppress(NetspecError):
        last = latest_run(runs, net.name) if runs is not None else None
        return Measured.read(last.path) if last else None
    return None


def _weighed(net: Net, found: Measured) -> Net:
    """The net with the class weights that were measured; DataError if they do not fit."""
    weights: dict[str, tuple[float, ...]] = {}
    for node in _balanced(net):
        array = found.arrays.get(_called(node))
        if array is None or array.shape != (classes_of(node),):
            raise DataError(f"no weights of the classes of `{node.name}` are at hand")
        weights[node.name] = tuple(map(float, array))
    return with_class_weights(net, weights)


def weighed(nets: Elaborated, found: Measured) -> Elaborated:
    """The nets, TRAIN's with the class weights that were measured."""
    return replace(nets, train=replace(nets.train, net=_weighed(nets.train.net, found)))


def _balanced(net: Net) -> tuple[Node, ...]:
    """The losses whose class weights are to be measured."""
    return unweighed(net) if net.data is not None and net.data.class_weights else ()


def _called(node: Node) -> str:
    return f"class_weights#{node.name}"


def _weights(node: Node, label: NDArray[Any]) -> NDArray[np.float32]:
    """n / (classes · n of the class), of the classes that have samples; 0 for the others."""
    assert isinstance(node.layer, LabelledLoss)
    ignored = node.layer.ignore_label
    counted = label.reshape(-1) if ignored is None else label[label != ignored]
    counts = np.bincount(counted.astype(np.int64), minlength=classes_of(node))
    even = counts.sum() / max(np.count_nonzero(counts), 1)
    weights: NDArray[np.float32] = np.where(counts, even / counts.clip(1), 0).astype(np.float32)
    return weights


def attached(dataset: Dataset, net: Net, found: Measured) -> Dataset:
    """The samples with what the transform of their net reads; DataError if that is of no use."""
    names = wanted(net)
    if not names:
        return dataset
    stored = stored_inputs(net, dataset.shapes)
    types, arrays = beside(net, stored), dict[str, Any]()
    for name in names:
        what = name.removeprefix("transform#")
        if name not in found.arrays:
            raise DataError(f"{dataset.origin}: no {what} of the training data is at hand")
        arrays[name] = array = found.arrays[name]
        if array.shape != types[name].shape:
            taken = f"a {what} of {size(array.shape)} for one of {size(types[name].shape)}"
            raise DataError(f"{printable(dataset.origin)}: {taken}: the training data differ")
    return replace(dataset, measured={**dataset.measured, **arrays})


def _transform(net: Net, test: Net) -> Transform:
    """The one whose fields say how to whiten; UsageError if the phases disagree."""
    said = [n.data.transform for n in (net, test) if WHITENING in wanted(n) and n.data]
    fields = [(t.whiten, t.whiten_epsilon, t.scale) for t in said]
    if len(set(fields)) > 1:
        raise UsageError("transform: TRAIN and TEST whiten in different ways, or scales")
    return said[0] if said else Transform()


def _hashed(
    survey: Survey,
    labels: Sequence[NDArray[Any]],
    names: Sequence[str],
    addends: Mapping[str, Addend],
) -> tuple[str, dict[str, Reals]]:
    """The key of samples and labels, and what the samples add up to, which are read once for both.

    Samples that are streamed are decoded to be read.
    """
    transform = survey.transform
    whiten = (transform.whiten, transform.whiten_epsilon, transform.scale)
    total = sha256(json.dumps([names, whiten]).encode())

    def heard(array: Array) -> Iterator[NDArray[Any]]:
        total.update(f"{array.dtype.str} {array.shape}\n".encode())
        for some in pieces(array):
            total.update(some.tobytes())
            yield some

    first = totals(chain.from_iterable(map(heard, survey.arrays)), addends)
    totals(chain.from_iterable(map(heard, labels)), {})
    return total.hexdigest(), first
