"""What the README shows is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from netspec import zoo
from netspec.cli import cli, main
from netspec.compiler import elaborate, read
from netspec.diagnostics import Source
from netspec.grammar.parser import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(?:python)?\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
INPUT = 'input "data" { shape: 3x224x224 }\n'


def block(start: str) -> str:
    """The one fenced block that begins so."""
    (found,) = (text for text in BLOCKS if text.startswith(start))
    assert isinstance(found, str)
    return found


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_lenet_is_the_bundled_spec(tmp_path: Path) -> None:
    shown = elaborate(read(write(tmp_path / "lenet.net", block('name: "LeNet"'))))
    bundled = elaborate(read("lenet"))
    assert shown.train.net == bundled.train.net
    assert shown.test.net == bundled.test.net


def test_the_blocks_of_resnet_build(tmp_path: Path) -> None:
    spec = read(write(tmp_path / "resnet.net", INPUT + block("let width")), sets=["width=32"])
    net = elaborate(spec).test.net
    assert net.nodes[-1].top_types[0].sample == (64, 56, 56)


def test_inception_and_head_build(tmp_path: Path) -> None:
    frame = 'input "data" { shape: 8x14x14 }\nfc "main" { num_output: 10 }\nsoftmax_loss\n'
    text = block("inception")
    spec = read(write(tmp_path / "x.net", frame.replace("fc", text + "fc", 1)))
    nets = elaborate(spec)
    assert [n.name for n in nets.train.net.nodes if n.name.startswith("aux")]
    assert not [n.name for n in nets.test.net.nodes if n.name.startswith("aux")]


def test_the_fault_is_shown_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = block("let width").splitlines(keepends=True)
    write(Path("resnet.net"), INPUT + "".join(x for x in lines if "shortcut" not in x))
    assert main(["check", "resnet.net"]) == 1
    assert capsys.readouterr().err == block("resnet.net:")


def test_every_verb_and_no_other() -> None:
    shown = re.findall(r"^netspec ([\w-]+)", block("netspec check SPEC     "), re.MULTILINE)
    assert list(dict.fromkeys(shown)) == cli.list_commands(click.Context(cli))


def test_every_option_exists() -> None:
    known = {word for command in commands(cli) for p in command.params for word in p.opts}
    shown = {
        word
        for line in re.findall(r"netspec ([^`\n]*)", README)
        for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)
    }
    assert len(shown) > 20
    assert shown <= known | {"--debug"}


def commands(group: click.Group) -> Iterator[click.Command]:
    """Every verb, and every verb of those that have verbs of their own."""
    context = click.Context(group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert command is not None
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_the_bundled_specs_are_named() -> None:
    sentence = re.search(r"name of a bundled spec: `([^`]*)`", README)
    assert sentence is not None
    assert tuple(sentence[1].split()) == zoo.names()
    assert set(zoo.names()) == {path.stem for path in (ROOT / "specs").iterdir() if path.is_file()}


def test_the_commands_are_shell_lines() -> None:
    shown = [text for text in BLOCKS if text.startswith("python3 -m venv")]
    assert len(shown) == 2
    assert f"<!-- test command -->\n```\n{shown[1]}```" in README
    for text in shown:
        assert text.count("\n") == 1
        words = shlex.split(text, posix=True)
        at = words.index(".venv/bin/netspec")
        assert words[at : at + 3] == [".venv/bin/netspec", "train", "lenet"]


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("import netspec").replace("max_iter=100", "max_iter=20"), {})
    assert (tmp_path / "runs/LeNet/1/model.onnx").exists()


@pytest.mark.parametrize("text", re.findall(r"`([a-z_]+ \{ [^`…]* \})`", README))
def test_what_is_quoted_parses(text: str) -> None:
    assert parse(Source("README.md", text)).items


def test_what_a_network_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows that are shown are those that are printed."""
    command, *shown = block("$ netspec check googlenet").splitlines()
    assert main(command.split()[2:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [row for row in shown if row != "…"] == [row for row in printed if row in shown]


def test_from_a_folder_of_pictures_to_a_tested_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The five commands as they stand, but for a shorter training."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 6)):
        for shade, label in enumerate(("cat", "dog")):
            place = tmp_path / "pictures" / split / label
            place.mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(100 * shade, 100 * shade + 100, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    Image.fromarray(pixels).save(tmp_path / "new.jpg")
    said = block("netspec init pets").splitlines()
    assert len(said) == 5
    for line in said:
        words = shlex.split(line, comments=True)[1:]
        short = ["--set", "solver.max_epoch=2"] if words[0] == "train" else []
        assert main([*words, *short]) == 0, capsys.readouterr().err
    assert "dog" in capsys.readouterr().out


def test_a_support_vector_machine_on_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The four commands as they stand, but for a shorter training of the features."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "svm.net", block('name: "SVM"'))
    said = block("netspec train lenet\nnetspec features").splitlines()
    assert len(said) == 4
    for line in said:
        words = shlex.split(line)[1:]
        short = ["--set", "solver.max_iter=100"] if "lenet" in words else []
        assert main([*words, *short]) == 0, capsys.readouterr().err
    reached = re.findall(r"done: loss \S+  accuracy ([0-9.]+)%", capsys.readouterr().out)
    assert len(reached) == 2
    assert min(map(float, reached)) > 80


def test_what_training_takes_builds(tmp_path: Path) -> None:
    """The data section with augmentation, and the solver, in a net."""
    data, solver = (
        block('data "train" {\n  source: "pictures"'),
        block("solver {\n  type: SGD  base_lr"),
    )
    (tmp_path / "pictures").mkdir()
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / label / "0.png")
    text = (
        f'{data}input "data" {{ shape: 3x32x32 }}\nfc {{ num_output: 2 }}\nsoftmax_loss\n{solver}'
    )
    net = elaborate(read(write(tmp_path / "x.net", text))).train.net
    assert net.solver is not None
    assert net.solver.early_stopping == 10
