"""Fuzzes the road of Caffe files: `python tests/caffe/fuzz_prototxt.py --count 200000 --seed 1`.

Mutates the files of `../shared/corpus`, where they are, and small ones of every form. Each text is
read strictly and leniently, elaborated, summarised and upgraded. A failure, which ends the run with
exit 1, is anything but a NetspecError; a fault that has no place in a file; a lenient reading that
refuses what the strict one takes, or makes another net of it; native text that the formatter would
change, or that is another net; a text that takes more than ten seconds, or 512 MB.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz_language import Tally, fuzz, main

from netspec.caffe.schema import layer_types, schema
from netspec.caffe.upgrade import Wishes
from netspec.caffe_files import upgrade
from netspec.compiler import Elaborated, Spec, elaborate, read
from netspec.diagnostics import Diagnostics, NetspecError, Source, SpecError, SpecErrors
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.layer import Phase
from netspec.library import Library
from netspec.report.json import net_report
from netspec.report.summary import summarise

_CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"
_MAX_TEXT = 6_000
"""Characters of a corpus file: longer ones are slow, and say nothing new."""

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } exclude { phase: TRAIN } }
layer { name: "data" type: "MemoryData" top: "data" top: "label" include { phase: TRAIN }
  memory_data_param { batch_size: 4 channels: 3 height: 8 width: 8 } transform_param { scale: 0.5 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { name: "w" lr_mult: 2 } param {}
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 1 weight_filler { type: "xavier" } } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param { eps: 1e-4 } }
layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true axis: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p" top: "c2" param { name: "v" }
  convolution_param { num_output: 4 kernel_size: 1 dilation: 1 bias_term: false } }
layer { name: "e" type: "Eltwise" bottom: "p" bottom: "c2" top: "e" eltwise_param { operation: SUM coeff: 1 coeff: -1 } }
layer { name: "k" type: "Concat" bottom: "e" bottom: "p" top: "k" concat_param { axis: 1 } }
layer { name: "sl" type: "Slice" bottom: "k" top: "s1" top: "s2" slice_param { axis: 1 slice_point: 3 } }
layer { name: "d" type: "Dropout" bottom: "s1" top: "s1" dropout_param { dropout_ratio: 0.4 } }
layer { name: "rs" type: "Reshape" bottom: "s2" top: "rs" reshape_param { shape { dim: 0 dim: -1 } axis: 0 num_axes: -1 } }
layer { name: "f" type: "Flatten" bottom: "s1" top: "f" flatten_param { axis: 1 end_axis: -1 } }
layer { name: "si" type: "Silence" bottom: "rs" }
layer { name: "ip" type: "InnerProduct" bottom: "f" top: "ip" inner_product_param { num_output: 5 axis: 1 } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "l" include { phase: TRAIN }
  loss_param { ignore_label: 3 normalization: VALID } loss_weight: 1 }
layer { name: "a" type: "Accuracy" bottom: "ip" bottom: "label" top: "a" include { phase: TRAIN } accuracy_param { top_k: 2 } }
layer { name: "sm" type: "Softmax" bottom: "ip" top: "sm" exclude { phase: TRAIN } softmax_param { axis: 1 } }
"""  # noqa: E501  a layer on a line
V1 = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 12 input_dim: 12 force_backward: true
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 3 } }
layers { name: "n" type: LRN bottom: "c" top: "n" lrn_param { local_size: 3 alpha: 1e-4 beta: 0.75 norm_region: ACROSS_CHANNELS } }
layers { name: "p" type: POOLING bottom: "n" top: "p" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "i" type: INNER_PRODUCT bottom: "p" top: "i" inner_product_param { num_output: 2 } param: "w" param: "" }
layers { name: "t" type: TANH bottom: "i" top: "t" }
layers { name: "d" type: DECONVOLUTION bottom: "p" top: "d" convolution_param { num_output: 2 kernel_size: 4 stride: 2 } }
layers { name: "cr" type: SILENCE bottom: "d" }
layers { name: "q" type: SPLIT bottom: "t" top: "q1" top: "q2" }
layers { name: "el" type: EUCLIDEAN_LOSS bottom: "q1" bottom: "q2" top: "el" loss_weight: 0.5 }
"""  # noqa: E501
V0 = """
input: "data" input_dim: [1, 3, 10, 10]
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "pad" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 5 stride: 1 group: 1 biasterm: true
  weight_filler { type: "gaussian" std: 0.01 } blobs_lr: 1. blobs_lr: 2. weight_decay: 1. } bottom: "pad" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "p" type: "pool" pool: MAX kernelsize: 3 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "i" type: "innerproduct" num_output: 3 } bottom: "p" top: "i" }
layers { layer { name: "s" type: "softmax" } bottom: "i" top: "s" }
"""  # noqa: E501
SOLVER = """
net: "small.prototxt" test_iter: 3 test_interval: 10 base_lr: 0.01 momentum: 0.9 weight_decay: 5e-4
lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 8 power: 0.75 stepsize: 100 max_iter: 10 display: 1
snapshot: 5 snapshot_prefix: "x" solver_mode: CPU type: "SGD" iter_size: 2 clip_gradients: 10
regularization_type: "L2" random_seed: 1 test_initialization: false average_loss: 2 rms_decay: 0.9 delta: 1e-8
train_state { stage: "a" level: 1 } test_state { stage: "b" }
"""  # noqa: E501
RECURRENT = """
layer { name: "x" type: "Input" top: "x" top: "cont" input_param { shape { dim: 4 dim: 2 dim: 6 } shape { dim: 4 dim: 2 } } }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" top: "l" recurrent_param { num_output: 3 expose_hidden: false } }
layer { name: "em" type: "Embed" bottom: "cont" top: "em" embed_param { input_dim: 9 num_output: 3 } }
layer { name: "ti" type: "Tile" bottom: "l" top: "ti" tile_param { axis: 2 tiles: 2 } }
layer { name: "re" type: "Reduction" bottom: "ti" top: "re" reduction_param { operation: SUMSQ axis: -1 coeff: 2 } }
layer { name: "am" type: "ArgMax" bottom: "l" top: "am" argmax_param { top_k: 2 out_max_val: true axis: -1 } }
layer { name: "po" type: "Power" bottom: "re" top: "po" power_param { power: 2 scale: 3 shift: -1 } }
layer { name: "py" type: "Python" bottom: "po" top: "py" python_param { module: "m" layer: "L" param_str: "{}" } }
layer { name: "dd" type: "DummyData" top: "dd" dummy_data_param { shape { dim: 4 dim: 2 dim: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "bi" type: "Bias" bottom: "re" bottom: "po" top: "bi" bias_param { axis: 0 num_axes: 1 } }
layer { name: "cp" type: "Crop" bottom: "l" bottom: "dd" top: "cp" crop_param { axis: 2 offset: 1 } }
"""  # noqa: E501
FORMS = (NET, V1, V0, SOLVER, RECURRENT)

_TOKEN = re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|[A-Za-z_][\w]*|-?[0-9][\w.+-]*|\s+|#[^\n]*|.', re.S)
_EXTREMES = (
    "0", "-0", "1", "-1", "2", "3", "7", "255", "256", "65536", "1048577", "2147483647",
    "2147483648", "4294967295", "4294967296", "-2147483648", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "999999999999999999", "1e400", "-1e400",
    "1e-400", "nan", "inf", "-inf", "0x10", "017", "1.5", "1.", ".5f", "0.1f", "1e9", "1e38",
    "1e39", "3x3", "true", "TRAIN", '"1"', "[]", "[1, 2]", "{}",
)  # fmt: skip
_STRINGS = (
    '""', '"data"', '"label"', '"a/b"', '"../x"', '"x y"', '"é"', '"\\n"', '"\\x1b[31m"', '"\\000"',
    '"-"', '"in"', '"data_1"', '"TRAIN"', '"1x2"', '"' + "n" * 300 + '"', "'q'", '"a" "b"', '"."',
)  # fmt: skip


@cache
def words() -> tuple[str, ...]:
    """Every field, message and enum word of Caffe, and its layer types in quotes."""
    found = schema()
    fields = [field for message in found.messages.values() for field in message.fields]
    enums = [word for enum in found.enums.values() for word in enum.words]
    return tuple(dict.fromkeys([*fields, *enums, *(f'"{name}"' for name in layer_types())]))


@cache
def seeds() -> tuple[str, ...]:
    """The texts that are mutated, those of every form more often."""
    paths = sorted(_CORPUS.rglob("*.prototxt")) if _CORPUS.is_dir() else []
    texts = [path.read_text("utf-8", errors="replace") for path in paths]
    return (*FORMS * 20, *(text for text in texts if len(text) < _MAX_TEXT))


def mutate(text: str, chance: random.Random) -> str:
    """One to six things done to a text, most of which leave it well formed."""
    tokens = _TOKEN.findall(text)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 6))):
        if tokens:
            _damage(tokens, chance)
    return "".join(tokens)


def _damage(tokens: list[str], chance: random.Random) -> None:
    match chance.randrange(16):
        case 0 | 1 | 2:
            _replace(tokens, chance, r"-?[0-9]", _EXTREMES)
        case 3 | 4 | 5:
            _replace(tokens, chance, r"[\"']", [t for t in tokens if t[0] in "\"'"] or _STRINGS)
        case 6:
            _replace(tokens, chance, r"[\"']", _STRINGS)
        case 7 | 8:
            _replace(tokens, chance, r"[A-Za-z\"]", words())
        case 9:
            _replace(tokens, chance, r"[A-Za-z_]", [t for t in tokens if t[0].isalpha()])
        case 10:
            begin, end = _block(tokens, chance)
            del tokens[begin:end]
        case 11:
            begin, end = _block(tokens, chance)
            tokens[begin:begin] = tokens[begin:end] * chance.choice((1, 1, 1, 2, 40))
        case 12:
            begin, end = _block(tokens, chance)
            moved = tokens[begin:end]
            del tokens[begin:end]
            at = _block(tokens, chance)[0] if tokens else 0
            tokens[at:at] = moved
        case 13:
            other = _TOKEN.findall(chance.choice(seeds()))
            begin, end = _block(other, chance)
            at = _block(tokens, chance)[chance.randrange(2)]
            tokens[at:at] = [" ", *other[begin:end], " "]
        case 14:
            _field(tokens, chance)
        case _:
            _break(tokens, chance)


def _replace(tokens: list[str], chance: random.Random, kind: str, by: Any) -> None:
    """A token of a kind becomes another one."""
    places = [i for i, token in enumerate(tokens) if re.match(kind, token)]
    if places and by:
        tokens[chance.choice(places)] = chance.choice(by)


def _field(tokens: list[str], chance: random.Random) -> None:
    """A field of Caffe's, in a message that may not have it."""
    value = chance.choice([*_EXTREMES, *_STRINGS, chance.choice(words())])
    begin, end = _block(tokens, chance)
    opened = [i for i in range(begin, end) if tokens[i] == "{"]
    at = chance.choice(opened) + 1 if opened else end
    tokens[at:at] = [" ", chance.choice(words()).strip('"'), ": ", value, " "]


def _break(tokens: list[str], chance: random.Random) -> None:
    """What leaves the text hardly well formed."""
    at = chance.randrange(len(tokens))
    match chance.randrange(5):
        case 0:
            del tokens[at:]
        case 1:
            del tokens[at : at + chance.choice((1, 2, 10))]
        case 2:
            other = chance.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens.insert(at, chance.choice("{}<>[]:;,#\"'\0\\é-x"))
        case _:
            depth = chance.choice((1, 3, 70))
            tokens[at:at] = ["a { "] * depth + ["} "] * depth


def _block(tokens: list[str], chance: random.Random) -> tuple[int, int]:
    """A field, or a message with its braces, as a range of tokens."""
    places = [i for i, token in enumerate(tokens) if token[0].isalpha()]
    if not places:
        return 0, len(tokens)
    begin = end = chance.choice(places)
    depth = 0
    for end in range(begin + 1, len(tokens)):
        depth += (tokens[end] == "{") - (tokens[end] == "}")
        if depth < 0 or (depth == 0 and tokens[end][0].isspace() and tokens[end - 1] not in ": "):
            following = next((t for t in tokens[end:] if not t.isspace()), "")
            if following not in ("{", ":"):
                break
    return begin, max(begin + 1, end)


def texts(seed: int) -> Iterator[str]:
    """Endless texts, the same for the same seed."""
    chance = random.Random(seed)
    while True:
        text = mutate(chance.choice(seeds()), chance)
        if chance.random() < 0.05:  # forms mixed
            text += mutate(chance.choice(FORMS), chance)
        yield text[:50_000]


class Road:
    """The road of a Caffe file, in a folder of its own with the net that solvers name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mutant.prototxt"
        (folder / "small.prototxt").write_text(NET)

    def __call__(self, text: str) -> str:
        """Send a text down; the outcome: `net`, `lenient`, or the code of its first fault."""
        if re.search(r'net: *"(?!small)', text):  # few of the corpus's are found from here
            text = re.sub(r'net: *"[^"\n]*"', 'net: "small.prototxt"', text)
        self.path.write_bytes(text.encode("utf-8", "surrogatepass"))
        strict, outcome, whole = self._nets(Wishes())
        lenient, told, _ = self._nets(Wishes(lenient=True))
        if strict is not None and told != "UsageError":  # as a native spec is to a lenient reading
            assert lenient is not None, f"a lenient reading refuses what a strict one takes: {told}"
        if strict is not None and lenient is not None and whole:
            assert _reports(strict) == _reports(lenient), "a lenient reading makes another net"
            self._upgraded(strict, Wishes())
        elif lenient is not None:
            self._upgraded(lenient, Wishes(lenient=True))
            summarise(lenient, Phase.TEST, exact=False)
        return "lenient" if strict is None and lenient is not None else outcome

    def _nets(self, wishes: Wishes) -> tuple[Elaborated | None, str, bool]:
        """The nets, or the code of the first fault; and whether no phase was left out."""
        found = Diagnostics()
        nets, outcome, unplaced = None, "net", ""
        try:
            own = wishes if wishes.lenient else None
            nets = elaborate(read(str(self.path), wishes=own, diagnostics=found), diagnostics=found)
        except SpecErrors as errors:
            for fault in errors.faults:
                self._located(fault)
            outcome = str(errors.faults[0].code)
        except SpecError as error:
            self._located(error)
            outcome = error.code
        except NetspecError as error:
            unplaced = "" if self.path.name in str(error) else str(error)
            outcome = type(error).__name__
        assert not unplaced, f"names no file: {unplaced}"
        for lint in found.warnings:
            self._located(lint)
        left = any(re.match(r"phase \w+ is left out", lint.message) for lint in found.warnings)
        return nets, outcome, not left

    def _located(self, fault: SpecError) -> None:
        shown = fault.render()
        assert fault.span.source.path.endswith(".prototxt"), f"has no place: {shown}"
        assert len(shown) < 5_000, f"is long: {shown}"

    def _upgraded(self, nets: Elaborated, wishes: Wishes) -> None:
        """Native text is a fixed point of the formatter, and the same net."""
        text = upgrade(str(self.path), wishes=wishes)
        tree = parse(Source("upgraded.net", text))
        assert to_text(tree) == text, f"fmt changes the native text:\n{text}"
        spec = Spec(self.path, tree, Library(self.path.parent), lenient=wishes.lenient)
        try:
            again = elaborate(spec)
        except NetspecError as error:
            raise AssertionError(f"the native text is no net:\n{text}\n{error}") from None
        assert _reports(again) == _reports(nets), f"the native text is another net:\n{text}"


def _reports(nets: Elaborated) -> list[dict[str, Any]]:
    return [net_report(nets[phase].net) for phase in Phase]


def run(seed: int, count: int, seconds: float) -> Tally:
    """Fuzz with one seed until a count or a time is reached."""
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(texts(seed), Road(Path(folder)), count, seconds)


if __name__ == "__main__":
    sys.exit(main(run, __doc__ or ""))
