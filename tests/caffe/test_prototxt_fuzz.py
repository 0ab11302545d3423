"""A small part of what `python tests/caffe/fuzz_prototxt.py` does, in every run of the tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz_language import MAX_SECONDS, report
from fuzz_prototxt import FORMS, NET, V1, Road, run, texts

from netspec.caffe.upgrade import Wishes
from netspec.caffe_files import upgrade
from netspec.cli import main
from netspec.compiler import elaborate, read
from netspec.diagnostics import Diagnostics, NetspecError, SpecErrors


@pytest.mark.parametrize("seed", [1, 2])
def test_mutants_are_nets_or_located_faults(seed: int) -> None:
    tally = run(seed, 60, 60)
    lines: list[str] = []
    report(tally, 0, lines.append)
    assert not tally.failures, "\n".join(lines)
    assert tally.slowest < MAX_SECONDS
    assert tally.outcomes["net"] > 2
    assert tally.outcomes["lenient"] > 10


@pytest.mark.slow
def test_many_mutants() -> None:
    tally = run(3, 10_000, 3_000)
    lines: list[str] = []
    report(tally, 0, lines.append)
    assert not tally.failures, "\n".join(lines)


def test_what_is_mutated_is_a_net(tmp_path: Path) -> None:
    assert [Road(tmp_path)(text) for text in FORMS] == ["net"] * 4 + ["lenient"]


def test_a_seed_tells_the_texts() -> None:
    first, again = ([text for text, _ in zip(texts(5), range(50), strict=False)] for _ in "12")
    assert first == again


def written(folder: Path, text: str) -> str:
    (folder / "net.prototxt").write_text(text)
    return str(folder / "net.prototxt")


def test_a_param_with_an_empty_name_shares_nothing(tmp_path: Path) -> None:
    assert 'param: ""' in V1
    net = elaborate(read(written(tmp_path, V1))).test.net
    assert [p.name for p in net.parameters if p.name[0] in "iw"] == ["w", "i.bias"]


def test_a_text_that_is_no_word_stays_in_quotes(tmp_path: Path) -> None:
    text = NET.replace('type: "xavier"', 'type: "a/b"')
    assert 'weight_filler { type: "a/b" }' in upgrade(written(tmp_path, text))
    with pytest.raises(SpecErrors, match='not "a/b"'):
        elaborate(read(written(tmp_path, text)))


def test_extents_that_no_size_holds_are_a_list(tmp_path: Path) -> None:
    text = NET.replace("dim: 8 dim: 8", f"dim: 8 dim: {2**31}")
    assert f"shape: [3, 8, {2**31}]" in upgrade(written(tmp_path, text))


def test_a_lenient_reading_beyond_a_limit_is_refused(tmp_path: Path) -> None:
    faulty = "".join(
        f'layer {{ name: "x{i}" type: "Pooling" bottom: "data" top: "x{i}" '
        "pooling_param { kernel_size: 99 } }\n"
        for i in range(300)
    )
    with pytest.raises(SpecErrors, match=r"more errors"):
        elaborate(read(written(tmp_path, NET + faulty), wishes=Wishes(lenient=True)))


def test_a_fault_at_the_end_of_a_chain_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netspec.ir.construction.MAX_LAYERS", 20)
    inputs = "".join(f'input: "d{i}" input_dim: [1, 1, 1, 1]\n' for i in range(20))
    with pytest.raises(NetspecError, match=r"net.prototxt:1:.*more than 20 layers"):
        elaborate(read(written(tmp_path, inputs)))


def test_names_and_tops_by_the_thousand_cost_little(tmp_path: Path) -> None:
    same = 'layer { name: "a" type: "ReLU" bottom: "d0" top: "d0" }\n' * 4_000
    inputs = "".join(f'input: "d{i}" input_dim: [1, 1, 1, 1]\n' for i in range(4_000))
    for text in (inputs.splitlines()[0] + same, inputs):
        begin = time.process_time()
        read(written(tmp_path, text))
        assert time.process_time() - begin < MAX_SECONDS


def test_a_shape_that_nobody_asks_for_is_told(tmp_path: Path) -> None:
    found = Diagnostics()
    wishes = Wishes(shapes={"dta": (3, 8, 8), "ip": (5,)})
    read(written(tmp_path, NET), wishes=wishes, diagnostics=found)
    unknown, known = (lint.message for lint in found.warnings)
    assert unknown == "--shape dta=… is not used: there is no such blob; did you mean `data`?"
    assert known == "--shape ip=… is not used: the file tells its shape"
    hdf5 = NET.replace("MemoryData", "HDF5Data").replace("exclude", "include")
    with pytest.raises(SpecErrors, match="it is given for `dta`, `ip`"):
        elaborate(read(written(tmp_path, hdf5), wishes=wishes))


@pytest.mark.parametrize("verb", ["show", "expand"])
def test_other_verbs_take_the_options_of_caffes_files(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = NET.replace('type: "Input"', 'type: "HDF5Data"')
    assert main([verb, written(tmp_path, text), "--shape", "data=3x8x8"]) == 0
    assert main([verb, written(tmp_path, text), "--shape", "dat=3x8x8"]) == 1
    assert "it is given for `dat`" in capsys.readouterr().err


def test_a_lenient_reading_that_runs_into_a_limit_says_so(tmp_path: Path) -> None:
    """Even where the faults are those that the reading has told of, as warnings."""
    same = 'layer { name: "a" type: "Pooling" bottom: "data" top: "b" }\n' * 400
    found = Diagnostics()
    path = written(tmp_path, 'input: "data" input_dim: [1, 3, 8, 8]\n' + same)
    spec = read(path, wishes=Wishes(lenient=True), diagnostics=found)
    with pytest.raises(SpecErrors):
        elaborate(spec, diagnostics=found)
