"""Weights from files of any kind, for a net: by tensor name, or by Caffe's layer names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.caffe.match import Match, Row, Verdict
from netspec.caffe.weights import load_caffemodel
from netspec.data.formats.npz import read_arrays
from netspec.diagnostics import MAX_ERRORS, DataError, UsageError, printable, suggest
from netspec.ir.net import Net
from netspec.ir.types import Shape, size
from netspec.runtime.weights import read_initialisers, read_weights

CAFFES = (".caffemodel", ".h5")
"""How the names of Caffe's weight files end."""

_Tensors: TypeAlias = Mapping[str, NDArray[Any]]

_SHOWN = 3
"""Names that tell how a file and a net call their tensors."""

_READERS: dict[str, Callable[[Path], _Tensors]] = {
    ".npz": read_arrays,
    ".onnx": read_initialisers,
}
"""By how a file's name ends; what ends otherwise is taken for safetensors."""


def load_weights(
    paths: Sequence[Path], net: Net, *, ignore_mismatch: bool = False, partial: bool = False
) -> Match:
    """The tensors of weight files that are the net's, the later file's over the earlier one's.

    A file whose name ends as Caffe's do is matched by layer names; a safetensors file, an `.npz`,
    an `.onnx` (its initialisers) and the folder of a run by those of the tensors. What the net does
    not have is ignored; a tensor of another shape is a DataError, or missing with
    `ignore_mismatch`. What a file of Caffe's does not give is missing, as in Caffe; of other files
    that is a DataError unless the match may be `partial`, as for a net that starts from another's.
    """
    partial = partial or ignore_mismatch
    loads = (_load(p, net, ignore_mismatch=ignore_mismatch, partial=partial) for p in paths)
    return reduce(Match.then, loads)


def _load(path: Path, net: Net, *, ignore_mismatch: bool, partial: bool) -> Match:
    path = _of_run(path) if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{printable(str(path))}: there is no such file of weights")
    if path.suffix in CAFFES:
        match = load_caffemodel(path, net, ignore_mismatch=ignore_mismatch)
        _check_finite(path, match)
        return match
    tensors = _singles(_READERS.get(path.suffix, read_weights)(path))
    try:
        check_weights(net, tensors, partial=partial, mismatch=ignore_mismatch)
    except DataError as error:
        raise DataError(f"{printable(str(path))}: {error}") from None
    match = match_tensors(tensors, net)
    if not match.arrays and net.parameters:
        raise DataError(
            f"{printable(str(path))}: holds no tensor of the net{_instead(tensors, net)}"
        )
    _check_finite(path, match)
    return match


def _singles(tensors: _Tensors) -> _Tensors:
    """Floats of all sizes as float32: numpy makes 64 bits, and others keep 16."""
    with np.errstate(over="ignore"):  # which is not finite then, and refused
        return {
            name: array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
            for name, array in tensors.items()
        }


def _check_finite(path: Path, match: Match) -> None:
    """DataError if a training would begin from what it would call a divergence."""
    for name, array in match.arrays.items():
        if bad := array.size - int(np.isfinite(array).sum()):
            said = f"{bad:,} of {array.size:,} values of `{name}` are not finite in float32"
            raise DataError(f"{printable(str(path))}: {said}")


def _instead(tensors: _Tensors, net: Net) -> str:
    """What a file has, and what a net calls its own."""
    if not tensors:
        return ""
    return f": it has {_some(tensors)}, and the net {_some(_tensors(net))}"


def _some(names: Collection[str]) -> str:
    first = ", ".join(f"`{printable(name)}`" for name in islice(names, _SHOWN))
    return f"{first}, …" if len(names) > _SHOWN else first


def _of_run(folder: Path) -> Path:
    """The trained weights of a run."""
    file = folder / "weights.safetensors"
    if not file.is_file():
        said = "has no weights.safetensors: it is no run, or its training is not finished"
        raise UsageError(f"{printable(str(folder))}: {said}")
    return file


def match_tensors(tensors: _Tensors, net: Net) -> Match:
    """Tensors and a net's own of the same names."""
    wanted = _tensors(net)
    arrays = {n: a for n, a in tensors.items() if n in wanted and a.shape == wanted[n]}
    rows = []
    for name, shape in wanted.items():
        found = (tensors[name].shape,) if name in tensors else ()
        verdict = Verdict.OTHER_SHAPE if found else Verdict.MISSING
        verdict = Verdict.MATCHED if name in arrays else verdict
        rows.append(Row(name.rpartition(".")[0], name, found, shape, verdict))
    for name in tensors.keys() - wanted.keys():
        rows.append(Row(name, "", (tensors[name].shape,), None, Verdict.IGNORED))
    return Match({n: a.astype("float32") for n, a in arrays.items()}, tuple(rows))


def check_weights(
    net: Net,
    given: _Tensors,
    *,
    partial: bool = False,
    mismatch: bool = False,
) -> None:
    """Refuse weights that miss a tensor of the net or have another shape; extra ones are fine.

    They may be `partial`, and of other shapes if a `mismatch` is passed over.
    """
    wanted = _tensors(net)
    strange = sorted(given.keys() - wanted.keys())
    faults = []
    for name, shape in wanted.items():
        if name not in given:
            if not partial:
                faults.append(f"`{name}` is missing{suggest(name, strange)}")
        elif tuple(given[name].shape) != shape:
            if not mismatch:
                faults.append(f"`{name}` is {size(given[name].shape)}, the net has {size(shape)}")
        elif given[name].dtype != "float32":
            faults.append(f"`{name}` holds {given[name].dtype}, not float32")
    if faults:
        shown = faults[:MAX_ERRORS]
        more = [f"… and {len(faults) - len(shown)} more"] if len(faults) > len(shown) else []
        raise DataError("the weights do not fit the net: " + "; ".join([*shown, *more]))


def _tensors(net: Net) -> dict[str, Shape]:
    """The shapes of what a net learns and keeps, by name."""
    learned = {p.name: p.shape for p in net.parameters}
    return learned | {name: statistic.shape for name, statistic in net.statistics.items()}
