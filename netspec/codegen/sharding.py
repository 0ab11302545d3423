"""Whether a batch may be computed in shards, and whether that pays: a proof, and a rule.

Shards are the batch's samples in equal parts, each with a graph of its own. Two of them at the same
time, each on its share of the threads, wait for each other once in a step, and not once in every
operator. Where the losses of the whole are the means of theirs, as functions of the weights, the
gradients of the whole are so, too.
"""

from __future__ import annotations

from math import isclose

from netspec.codegen.lower import Lowered, lower
from netspec.codegen.samplewise import FIXED, ROWS, Kind, Mean, Sizes, kinds
from netspec.codegen.target import Target
from netspec.ir.graph import Value
from netspec.ir.layer import ShapeError
from netspec.ir.net import Net
from netspec.ir.rebatch import rebatched
from netspec.ir.training_memory import training_memory
from netspec.ir.transform import Transform

SHARDS = 2
"""How many: as many on every machine, so that a training rounds alike on all of them."""
FEWEST = 4
"""Samples in a shard."""
_MEMORY = 1 / 2
"""What the gradients may take of the activations, as estimated: each shard has its own.

They are added up, too. Measured with 2 threads (AVX2), time of the whole / time in shards: LeNet
1.2 with a share of 0.37, a VGG of 6 convolutions 1.03 with 0.09, SqueezeNet 1.24 with 0.04,
GoogLeNet 1.05 with 0.26; AlexNet 0.95 with 2.5.
"""


def shards_of(net: Net, target: Target) -> int:
    """In how many shards a training of `net` computes a batch on `target`; 1: as a whole."""
    return SHARDS if _pays(net, target) and may_be_sharded(net, SHARDS) else 1


def _pays(net: Net, target: Target) -> bool:
    estimate = training_memory(net, net.solver)
    if target.kind != "cpu" or net.batch < SHARDS * FEWEST or estimate is None:
        return False
    trained = 4 * sum(p.numel for p in net.parameters if not p.frozen)
    return (SHARDS - 1) * trained <= _MEMORY * estimate.activations


def part_of(net: Net, shards: int) -> Net:
    """The net of one shard; of one alone the net itself. ShapeError as `rebatched` raises it."""
    return net if shards == 1 else rebatched(net, net.batch // shards)


def may_be_sharded(net: Net, shards: int) -> bool:
    """Whether the losses and metrics of a batch are the means of those of its shards.

    Proven on the operators of forward, of the whole and of a shard side by side. An operator that
    is not known there is taken to let samples meet, so that nothing needs to be said of a new one.
    What a transform makes of a sample hangs on that sample and its lots alone, unless it mixes two.
    """
    solver = net.solver
    half = solver is not None and solver.precision == "FP16"
    transform = net.data.transform if net.data else Transform()
    if net.batch % shards or net.hung is not None or half or transform.mixup or transform.cutmix:
        return False
    try:
        part = part_of(net, shards)
    except ShapeError:
        return False
    whole = lower(net)
    if whole.observed:
        return False
    shard = lower(part)
    known = _known(whole, shard)
    if known is None:
        return False
    ends = [*(loss for loss, _ in whole.losses.values()), *whole.metrics.values()]
    found = kinds(whole.op, shard.op, Sizes(net.batch, part.batch), known)
    return all(_is_mean(found.get(end)) for end in ends)


def _known(whole: Lowered, shard: Lowered) -> dict[Value, Kind] | None:
    """Of what is fed; None if something is drawn for the whole of a batch."""
    for name, value in whole.randoms.items():
        if shard.randoms[name].type.shape == value.type.shape:
            return None
    rows = {*whole.inputs.values(), *whole.randoms.values()}
    return {value: ROWS if value in rows else FIXED for value in whole.op.inputs}


def _is_mean(kind: Kind | None) -> bool:
    """Of a loss or a metric; one that hangs on no sample is the mean of equal ones."""
    return kind == FIXED or (isinstance(kind, Mean) and isclose(kind.ratio, 1))
