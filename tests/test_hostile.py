"""Texts made to hurt: each ends soon, with a located error, and reads nothing it may not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import NetspecError, SpecErrors

INPUT = 'input "data" { shape: 8x8x8 }\n'


def blocks(count: int, body: Callable[[int], str]) -> str:
    """Blocks b0, b1, … with the bodies given."""
    return "".join(f"block b{i}() {{ {body(i)} }}\n" for i in range(count))


ENDLESS = {
    "repeat": "repeat 1000000000 { relu }",
    "empty repeat": "repeat 1000000000 {}",
    "nested repeats": "repeat 100 { " * 10 + "relu" + " }" * 10,
    "empty nested repeats": "repeat 100 { " * 10 + "}" * 10,
    "doubling blocks": blocks(59, lambda i: f"b{i + 1}() b{i + 1}()") + "block b59() { relu } b0()",
    "doubling for nothing": blocks(59, lambda i: f"b{i + 1}() b{i + 1}()") + "block b59() {} b0()",
    "mutual recursion": blocks(1000, lambda i: f"b{(i + 1) % 1000}()") + "b0()",
    "deep blocks": blocks(1000, lambda i: f"b{i + 1}()" if i < 999 else "relu") + "b0()",
    "faulty layers": "repeat 1000000 as i { conv { num_output: -i } }",
    "calls without end": "block b() {}\nrepeat 1000000 { b() }",
    "work in lets": "repeat 1000000 { let a = " + "1 + " * 150 + "1 }",
    "work in arguments": "block b(x) {}\nrepeat 1000000 { b([" + "1 * 2, " * 9000 + "1]) }",
    "long names": "".join(
        f'block b{i}() {{ b{i + 1}() "{"n" * 128}" }}\n' for i in range(100)
    ) + "block b100() { repeat 20000 { relu } }\nb0()",
}  # fmt: skip
FAULTY = {
    "unknown types": "".join(f'convv{i} "a{i}"\n' for i in range(50_000)),
    "unknown fields": "".join(f"conv {{ num_outputs{i}: 3 }}\n" for i in range(25_000)),
    "unknown bottoms": "".join(f'relu {{ bottom: "a{i}" }}\n' for i in range(35_000)),
    "one layer with many": "relu { " + "".join(f'bottom: "a{i}" ' for i in range(50_000)) + "}",
    "unknown names": "dropout { dropout_ratio: ["
    + ", ".join(f"a{i}" for i in range(99_000))
    + "] }",
    "equal fields": "conv { " + "num_output: n\n" * 60_000 + "}",
    "formals": "block b(" + ", ".join(f"a{i}" for i in range(90_000)) + ") { relu }\nb()",
    "equal arguments": "block b(x) {}\nb(" + "x: 1, " * 150_000 + ")",
    "stray fields": "x: 1\n" * 100_000,
    "semicolons and braces": "a: {} " * 100_000,
    "axes": f'input "x" {{ shape: [{"1, " * 300_000}1] }}',
    "a list of messages": "conv { weight_filler: [" + "{}, " * 200_000 + "{}] }",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text(INPUT + text)
    begin = time.process_time()
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert time.process_time() - begin < 8
    codes = {fault.code for fault in caught.value.faults}
    assert codes <= {"limit", "value", "field"}, str(caught.value)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("text", FAULTY.values(), ids=FAULTY)
def test_many_faults_cost_little(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.net"
    path.write_text(INPUT + text)
    begin = time.process_time()
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert time.process_time() - begin < 8
    assert len(caught.value.faults) <= 20
    assert len(str(caught.value)) < 30_000


def test_the_largest_flat_text(tmp_path: Path) -> None:
    """1 MiB of layers: as many as there may be, and then too many."""
    path = tmp_path / "x.net"
    path.write_text(INPUT + "relu\n" * 19_000)
    assert len(elaborate(read(str(path))).test.net.nodes) == 19_001
    path.write_text(INPUT + "relu\n" * 200_000)
    with pytest.raises(SpecErrors, match="more than 20,000 layers"):
        elaborate(read(str(path)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_the_largest_flat_text_fits_into_512_mb(tmp_path: Path) -> None:
    """In a process of its own: this one's peak is that of every test before."""
    path = tmp_path / "x.net"
    path.write_text(INPUT + "relu\n" * 19_000)
    code = (
        "import sys\nfrom netspec.compiler import elaborate, read\nelaborate(read(sys.argv[1]))\n"
        "print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 512 * 1024


def test_depth_that_is_allowed(tmp_path: Path) -> None:
    """Every limit of depth at once, and no RecursionError."""
    test = " and ".join(["not (1 < 0)"] * 90)
    text = (
        INPUT + "block b0() { " + "residual { " * 20 + f"when {test} {{ relu }}" + " }" * 20 + "}\n"
    )
    text += "".join(f"block b{i}() {{ b{i - 1}() }}\n" for i in range(1, 100)) + "b99()"
    path = tmp_path / "x.net"
    path.write_text(text)
    elaborate(read(str(path)))


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[31m.net"
    path.write_text('name: "a\\x1b[31m"\n' + INPUT + 'relu { bottom: "\\x1b]0;x\\x07" }\n\x1b\n')
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert "\x1b" not in str(caught.value)
    path.write_text('name: "a\\x1b[31m"\n' + INPUT + 'relu "\\x1b]" { bottom: "\\x1b]0;x\\x07" }')
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(path)))
    assert "\x1b" not in str(caught.value)
    assert "\\x1b" in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for specs, with a secret beside it and ways that lead there."""
    (tmp_path / "secret.net").write_text("let secret = 42\n")
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "fine.net").write_text("block fine() { relu }\n")
    (inside / "link.net").symlink_to(tmp_path / "secret.net")
    (inside / "good.net").symlink_to(inside / "fine.net")
    (inside / "up").symlink_to(tmp_path)
    (inside / "loop.net").symlink_to(inside / "loop.net")
    (inside / "null.net").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe.net")
    (inside / "bytes.net").write_bytes(b"relu \xff\xfe")
    (inside / "large.net").write_text("#" * (2**20 + 1))
    return inside


REFUSED = [
    "../secret.net", "sub/../../secret.net", "./../secret.net", "link.net", "up/secret.net",
    "/etc/passwd", "/dev/zero", "null.net", "pipe.net", "sub", ".", "", "loop.net", "bytes.net",
    "large.net", "missing.net", "sub/missing.net", "~/x.net", "$HOME/x.net", "a\\\\..\\\\x.net",
    "C:\\\\x.net", "fine.net/", "fine.net/x", "http://x/y.net", "netspec:../x.net",
    "netspec:/etc/x", "netspec:", "x" * 300, "sub/" * 300 + "x.net", "\\0.net", "fine.net\\0.txt",
    "//fine.net",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_includes_stay_in_the_folder(name: str, folder: Path) -> None:
    spec = folder / "x.net"
    spec.write_text(f'include "{name}"\n' + INPUT + "fc { num_output: secret }\n")
    with pytest.raises(SpecErrors) as caught:
        elaborate(read(str(spec)))
    first = caught.value.faults[0]
    assert first.code in ("include", "syntax") or name == "fine.net/", str(caught.value)
    assert "42" not in str(caught.value)


@pytest.mark.parametrize("name", ["fine.net", "./fine.net", "sub/../fine.net", "good.net"])
def test_includes_that_are_allowed(name: str, folder: Path) -> None:
    spec = folder / "x.net"
    spec.write_text(f'include "{name}"\n' + INPUT + "fine()\n")
    elaborate(read(str(spec)))


def test_another_folder_can_be_allowed(folder: Path) -> None:
    spec = folder / "x.net"
    spec.write_text('include "secret.net"\n' + INPUT + "fc { num_output: secret }\n")
    with pytest.raises(SpecErrors):
        elaborate(read(str(spec)))
    net = elaborate(read(str(spec), include_paths=[folder.parent])).test.net
    assert net.nodes[-1].top_types[0].shape == (1, 42)


@pytest.mark.parametrize(
    "name", ["pipe.net", "null.net", "sub", "bytes.net", "large.net", "loop.net"]
)
def test_files_that_are_no_specs(name: str, folder: Path) -> None:
    with pytest.raises(NetspecError):
        read(str(folder / name))


def test_files_that_include_files(folder: Path) -> None:
    """A chain of 100 files, and one that names itself by ever longer ways."""
    for i in range(100):
        (folder / f"f{i}.net").write_text(f'include "f{i + 1}.net"\n')
    (folder / "f100.net").write_text("let depth = 3\n")
    spec = folder / "x.net"
    spec.write_text('include "f0.net"\n' + INPUT + "relu\n")
    with pytest.raises(SpecErrors, match="at most 64 files"):
        elaborate(read(str(spec)))
    (folder / "self.net").write_text('include "sub/../self.net"\n')
    spec.write_text('include "self.net"\n' + INPUT + "relu\n")
    with pytest.raises(SpecErrors, match="include each other"):
        elaborate(read(str(spec)))
