"""What all verbs have in common: help, exit codes, faults of our own, terminals and pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest

import netspec as package
from netspec.cli import cli, main, reader
from netspec.layers import LAYERS
from netspec.report.reference import reference

Netspec = Callable[..., Any]
VERBS = tuple(cli.list_commands(click.Context(cli)))
ROOT = Path(__file__).parents[2]


def test_version(netspec: Netspec) -> None:
    assert netspec("--version").out == f"netspec, version {package.__version__}\n"


def test_every_verb_is_a_module_and_vice_versa() -> None:
    modules = {path.stem.removesuffix("_verb") for path in (ROOT / "netspec/cli").glob("*_verb.py")}
    assert modules == {verb.replace("-", "_") for verb in VERBS}


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str, netspec: Netspec) -> None:
    result = netspec(flag)
    assert result.code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S", result.out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str, netspec: Netspec) -> None:
    result = netspec(verb, "-h")
    assert result.code == 0
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert command.help
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        assert option.help, f"{verb} {option.opts[0]}"
        assert re.search(rf"^  .*{option.opts[-1]}\b", result.out, re.MULTILINE)
        if option.default not in (None, False, ()) and "Sentinel" not in repr(option.default):
            assert f"[default: {option.default}" in " ".join(result.out.split())


def test_usage(netspec: Netspec) -> None:
    result = netspec("chek", "lenet")
    assert result.code == 2
    assert "there is no verb `chek`; did you mean `check`?" in result.err
    assert netspec().code == 2
    assert netspec("--nothing").code == 2


def explode(*args: object, **named: object) -> None:
    raise ZeroDivisionError("division\x1b[31m\nby zero")


def test_a_fault_of_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reader, "read", explode)
    assert main(["check", "lenet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "internal error: ZeroDivisionError: division\\x1b[31m\\nby zero; --debug shows where\n"
    )


@pytest.mark.parametrize("words", [["--debug", "check", "lenet"], ["check", "lenet", "--debug"]])
def test_debug_raises(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "read", explode)
    with pytest.raises(ZeroDivisionError):
        main(words)


def test_debug_raises_the_user_s_faults_too() -> None:
    with pytest.raises(package.UsageError):
        main(["--debug", "check", "lennet"])
    assert main(["--debug", "check", "lenet"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize(
    "verb", ["expand googlenet", "check googlenet", "layers", "check lenet --json"]
)
def test_who_reads_may_leave(verb: str) -> None:
    line = f"set -o pipefail; {sys.executable} -m netspec {verb} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("verb", ["check lenet", "layers conv", "expand lenet"])
def test_no_codes_in_a_pipe(verb: str, process: Netspec) -> None:
    for env in ({}, {"FORCE_COLOR": "1"}, {"TERM": "xterm-256color"}):
        result = process(*verb.split(), env=env)
        assert result.code == 0
        assert "\x1b" not in result.out + result.err


def terminal(*words: str, width: int, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code of the command, and what it writes to a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    clean = {k: v for k, v in os.environ.items() if k not in names}
    process = subprocess.Popen(
        [sys.executable, "-m", "netspec", *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env={**clean, "TERM": "xterm-256color", **(env or {})},
    )
    os.close(follower)
    said = b""
    while True:
        try:
            said += (piece := os.read(leader, 65536))
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
    os.close(leader)
    return process.wait(), said.decode().replace("\r\n", "\n")


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
@pytest.mark.parametrize(
    ("verb", "width"), [("check resnet20", 80), ("layers conv", 60), ("layers", 60), ("-h", 60)]
)
def test_a_narrow_terminal(verb: str, width: int) -> None:
    code, said = terminal(*verb.split(), width=width)
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    conv = reference(LAYERS["conv"])
    written = [*conv.description.splitlines(), *conv.example.splitlines()]  # stand as they are
    tables = [line for line in lines if line not in written]
    assert max(map(len, tables)) <= width
    if verb == "check resnet20":
        assert "\x1b[1m" in said
        assert "…ual1/conv_bn1/conv1  conv          16x32x32       2,304" in "\n".join(lines)


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_no_color() -> None:
    for verb in ("check lenet", "layers conv"):
        _, said = terminal(*verb.split(), width=100, env={"NO_COLOR": "1"})
        assert not re.search(r"\x1b\[(3|4|9)\d", said)


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_training_on_a_terminal(tiny: Path, tmp_path: Path) -> None:
    code, said = terminal("train", str(tiny), "--runs", str(tmp_path / "runs"), width=60)
    assert code == 0
    plain = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", said)
    assert "training in " in plain
    assert "done: loss " in plain


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(5, "Input/output error", "a\x1b.net"), "a\\x1b.net: Input/output error"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("of ours"), "internal error: OSError: of ours"),
    ],
)
def test_a_fault_of_the_disk(
    fault: OSError,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(reader, "read", Mock(side_effect=fault))
    assert main(["check", "lenet"]) == 1
    assert capsys.readouterr().err == f"{said}; --debug shows where\n"


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize(("verb", "code"), [("check lenet", 1), ("chek", 2)])
def test_a_full_disk_under_what_is_said(verb: str, code: int) -> None:
    """The exit code tells; Python's own would be 120."""
    command = [sys.executable, "-m", "netspec", *verb.split()]
    with FULL.open("wb") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
        assert "No space left on device" in done.stderr or code == 2
        assert len(done.stderr.splitlines()) == 1 or code == 2
        assert done.returncode == code
        assert subprocess.run(command, cwd=ROOT, stdout=full, stderr=full).returncode == code
