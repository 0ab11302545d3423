"""Real Caffe files: which are read, what they count, and what becomes of them natively."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from netspec.caffe.upgrade import Wishes
from netspec.caffe_files import upgrade
from netspec.compiler import Spec, elaborate, read
from netspec.diagnostics import NetspecError, Source
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.analysis import cost
from netspec.ir.layer import Phase
from netspec.library import Library
from netspec.report.json import net_report
from netspec.report.summary import summarise

from .corpus import ROOT, Entry, entries, needs_corpus

pytestmark = needs_corpus

MISSING = "a net that is not in the corpus"
FORK = "its net has words of a fork"
STAGED = "its layers ask for a stage, and Caffe finds no blob without it"

FRAMES = "its Python layer alone says how many samples there are: --batch 384 does"

REFUSED = {
    "BVLC__caffe/examples/mnist/lenet_auto_solver.prototxt": ("there is no `", MISSING),
    "yihui-he__resnet-cifar10-caffe/vgg16/solver.prototxt": ("there is no `", MISSING),
    "NVIDIA__caffe/examples/solvers/adadelta/solver.prototxt": ("there is no `", MISSING),
    "NVIDIA__caffe/examples/solvers/adagrad/solver.prototxt": ("there is no `", MISSING),
    "intel__caffe/examples/LRCN_activity_recognition/lstm_solver_RGB.prototxt": (
        "there is no `", MISSING,
    ),
    "intel__caffe/models/intel_optimized_models/dcgan/solver_template.prototxt": (
        "there is no `@NET@", "a template",
    ),
    "lukeyeager__DIGITS/digits/standard-networks/alexnet.prototxt": (
        "fc needs `num_output`", "DIGITS fills it in; Caffe finds no weights to fill",
    ),
    "lukeyeager__DIGITS/digits/standard-networks/lenet.prototxt": (
        "fc needs `num_output`", "DIGITS fills it in; Caffe finds no weights to fill",
    ),
    "lukeyeager__DIGITS/digits/standard-networks/vgg-16.prototxt": (
        "fc needs `num_output`", "DIGITS fills it in; Caffe finds no weights to fill",
    ),
    "intel__caffe/models/intel_optimized_models/alexnet/solver_gabor_init.prototxt": (
        'not "gabor"', "a filler that Caffe does not have",
    ),
    "intel__caffe/models/intel_optimized_models/alexnet/train_val_gabor_init.prototxt": (
        'not "gabor"', "a filler that Caffe does not have",
    ),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/lstm_solver_RGB.prototxt": (
        "do not make 16x24x4096", FRAMES,
    ),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/lstm_solver_flow.prototxt": (
        "do not make 16x24x4096", FRAMES,
    ),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/train_test_lstm_RGB.prototxt": (
        "there is no blob", STAGED,
    ),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/train_test_lstm_flow.prototxt":
        ("there is no blob", STAGED),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/singleFrame_solver_RGB.prototxt":
        ("has no field `flow`", FORK),
    "LisaAnne__lisa-caffe-public/examples/LRCN_activity_recognition/"
    "singleFrame_solver_flow.prototxt": ("has no field `flow`", FORK),
    "daijifeng001__R-FCN/models/rfcn_prototxts/ResNet-50L_OHEM_res3a/"
    "solver_80k110k_lr1_3.prototxt": ("unknown layer type", FORK),
    "NVIDIA__caffe/examples/kitti/detectnet_solver.prototxt": ("unknown layer type", FORK),
}  # fmt: skip
"""Files that Caffe's own schema accepts and that are refused: what is said, and Caffe's reason."""

ALL = entries()


def test_every_file_of_bvlcs_is_read_or_refused_as_caffe_would(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: dict[str, str] = {}
    wanted = [entry for entry in ALL if entry.bvlc]
    for entry in wanted:
        try:
            elaborate(read(str(entry.path), wishes=entry.wishes))
        except NetspecError as error:
            told[entry.file] = str(error)
    with capsys.disabled():
        print(f"\n{len(wanted) - len(told)} of {len(wanted)} files are read; refused are:")
        for file in told:
            print(f"  {file[-70:]}: {REFUSED.get(file, ('', '?'))[1]}")
    assert told.keys() == REFUSED.keys() & {entry.file for entry in wanted}
    for file, text in told.items():
        assert REFUSED[file][0] in text, file


def test_a_stage_brings_the_layers_that_ask_for_it() -> None:
    (entry,) = [e for e in ALL if e.file.endswith("recognition/train_test_lstm_RGB.prototxt")
                and e.file.startswith("LisaAnne")]  # fmt: skip
    wishes = Wishes(shapes=entry.wishes.shapes, stages=("test-on-test",))
    net = elaborate(read(str(entry.path), wishes=wishes), batch=48).test.net
    assert "fc6-reshape" in {top for node in net.nodes for top in node.tops}


def test_a_lenient_reading_reports_nearly_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    refused = []
    for entry in ALL:
        try:
            spec = read(str(entry.path), wishes=Wishes(lenient=True))
            summarise(elaborate(spec), Phase.TEST, exact=False)
        except NetspecError as error:
            refused.append(f"{entry.file}: {error}")
    with capsys.disabled():
        print(f"\n--lenient: {len(ALL) - len(refused)} of {len(ALL)} files give a report")
    assert len(refused) <= 0.02 * len(ALL), "\n".join(refused)


@pytest.mark.parametrize("entry", ALL, ids=[entry.file[-60:] for entry in ALL])
def test_the_native_text_is_the_same_net(entry: Entry, tmp_path: Path) -> None:
    """Its `check --json` is that of the file, and the formatter leaves it as it is."""
    wishes = Wishes(shapes=entry.wishes.shapes, lenient=True)
    before = elaborate(read(str(entry.path), wishes=wishes))
    text = upgrade(str(entry.path), wishes=wishes)
    tree = parse(Source("new.net", text))
    assert to_text(tree) == text
    (tmp_path / "new.net").write_text(text)
    name = before.test.net.name  # which is that of the file where the text says none
    spec = Spec(tmp_path / "new.net", tree, Library(tmp_path), lenient=True, title=name)
    after = elaborate(spec)
    for phase in Phase:
        assert net_report(before[phase].net) == net_report(after[phase].net)


def truth() -> list[dict[str, str]]:
    """The published numbers that are to the unit."""
    if not ROOT.is_dir():
        return []
    exact = ("exact-published", "caffemodel", "caffe-log", "netscope-exec")
    with (ROOT / "truth.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in rows if row["kind"].startswith(exact)]


LRN = "netscope counts two parameters for each LRN, which has none"
NORM = "netscope counts two parameters for each channel of a BatchNorm, which learns none"

NOT_NETS = {"fcn-16s (netscope)": "it reads a blob that nothing makes; netscope passes over that"}
"""Rows of files that Caffe does not run, and that have no numbers of their own."""

WRONG: dict[str, dict[str, tuple[int, str]]] = {
    "ResNet50 (torchvision)": {
        "params": (25557096, "conv1 has a bias in Caffe's net: 64 more"),
    },
    "ResNet-50 (deepdetect)": {
        "params": (25557096, "deepdetect leaves out the biases of the last layer and of conv1"),
        "macs_per_image": (3857973248, "deepdetect counts the pooling of the last layer, too"),
    },
    "alexnet (netscope)": {"params": (60965224, LRN)},
    "caffenet (netscope)": {"params": (60965224, LRN)},
    "googlenet (netscope)": {"params": (6998552, LRN)},
    "fasterRCNN_AlexNet (netscope)": {"params": (59294751, LRN)},
    "inceptionv3 (netscope)": {"params": (23800136, NORM)},
    "inceptionv3_orig (netscope)": {"params": (23800136, NORM)},
}
"""Rows whose source is wrong: our number, and why theirs is another."""


@pytest.mark.parametrize("row", truth(), ids=lambda row: row["net"])
def test_published_numbers_to_the_unit(row: dict[str, Any]) -> None:
    file = row["prototxt_in_corpus"]
    (entry,) = [e for e in ALL if e.file == file]
    if row["net"] in NOT_NETS:
        with pytest.raises(NetspecError):
            elaborate(read(str(entry.path), wishes=entry.wishes))
        return
    wishes = Wishes(shapes=entry.wishes.shapes, lenient=True)
    nets = elaborate(read(str(entry.path), wishes=wishes))
    phase = Phase.TRAIN if "TRAIN" in row["net"] else Phase.TEST
    counted = cost(nets[phase].net, nets[phase].places)
    found = {"params": counted.parameters, "macs_per_image": counted.macs}
    wrong = WRONG.get(row["net"], {})
    for key, number in found.items():
        if row[key]:
            wanted = wrong[key][0] if key in wrong else int(row[key])
            assert number == wanted, key
    if "bytes" in row["activations"]:
        assert counted.caffe_bytes == int(row["activations"].split()[1])
