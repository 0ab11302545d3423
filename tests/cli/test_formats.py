"""The forms of `netspec check`: Markdown, CSV, HTML, Netron's attachment and SARIF."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import onnx
import pytest

Netspec = Callable[..., Any]

FAULTY = 'input "x" { shape: 4 }\nblock b() { fc { num_outputs: 3 } }\nb() "one"\n'


class Page(HTMLParser):
    """The tables of a page, as text, and the tags that it uses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("td", "th", "button") and self.tables[-1][-1] and data.strip():
            self.tables[-1][-1][-1] += data


def test_markdown(netspec: Netspec) -> None:
    out = netspec("check", "lenet", "--md").out
    assert out.startswith("**LeNet**, phase TEST, batch 100\n\n| layer | type |")
    assert "| conv2 | conv | 50x8x8 | 5x5 | 25,050 | 1,600,000 |" in out
    assert "| parameters | 431,080 |" in out


def test_csv_has_raw_numbers(netspec: Netspec) -> None:
    rows = list(csv.DictReader(io.StringIO(netspec("check", "lenet", "--csv").out)))
    assert sum(int(row["parameters"]) for row in rows) == 431_080
    assert sum(int(row["macs"]) for row in rows) == 2_293_000
    assert rows[1]["output"] == "20x24x24"


def test_html_is_whole_in_itself(netspec: Netspec, tmp_path: Path) -> None:
    file = tmp_path / "net.html"
    shown = netspec("check", "lenet", "--html", file)
    assert shown.code == 0
    assert shown.out == netspec("check", "lenet").out
    text = file.read_text()
    page = Page(text)
    totals, layers = page.tables
    assert totals[0][:2] == ["parameters", "431,080"]
    assert layers[2][:6] == ["conv1", "conv", "20x24x24", "5x5", "520", "288,000"]
    assert "svg" in page.tags
    assert not page.sources
    assert not page.tags & {"link", "img", "iframe"}
    assert text.count("--part:100.0%") == 3  # the largest parameters, MACs and activations


def test_html_escapes_what_a_spec_says(netspec: Netspec, tmp_path: Path) -> None:
    spec, file = tmp_path / "x.net", tmp_path / "x.html"
    spec.write_text(
        'name: "</title><script>alert(1)</script>"\ninput "x" { shape: 3x4x4 }\n'
        "pool { pool: MAX  kernel_size: 3  stride: 2  round_mode: FLOOR }"
    )
    assert netspec("check", spec, "--html", file).code == 0
    text = file.read_text()
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_netron_names_operators_of_the_compiled_model(netspec: Netspec, tmp_path: Path) -> None:
    attachment, model = tmp_path / "net.json", tmp_path / "net.onnx"
    assert netspec("check", "resnet20", "--netron", attachment).code == 0
    assert netspec("compile", "resnet20", "-o", model).code == 0
    said = json.loads(attachment.read_text())
    assert said["signature"] == "netron:attachment"
    operators = {node.name for node in onnx.load(model).graph.node}
    metrics = [metric for metric in said["metrics"] if metric["kind"] == "node"]
    assert {metric["target"] for metric in metrics} <= operators
    totals = {m["name"]: m["value"] for m in said["metrics"] if m["kind"] == "model"}
    macs = sum(metric["value"] for metric in metrics if metric["name"] == "MACs")
    assert macs == totals["macs"] == netspec("check", "resnet20", "--json").json["totals"]["macs"]


def test_sarif_of_faults(netspec: Netspec, tmp_path: Path) -> None:
    spec, file = tmp_path / "a b.net", tmp_path / "x.sarif"
    spec.write_text(FAULTY)
    assert netspec("check", spec, "--sarif", file).code == 1
    log = json.loads(file.read_text())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    (fault, *_) = run["results"]
    assert fault["level"] == "error"
    assert "did you mean `num_output`?" in fault["message"]["text"]
    place = fault["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == spec.as_uri()
    region = place["region"]
    assert (region["startLine"], region["startColumn"]) == (2, 18)
    assert (region["endLine"], region["endColumn"]) == (2, 29)
    assert fault["relatedLocations"][0]["physicalLocation"]["region"]["startLine"] == 3
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert {result["ruleId"] for result in run["results"]} == set(rules)


def test_sarif_of_lints_and_of_nothing(netspec: Netspec, tmp_path: Path) -> None:
    spec, file = tmp_path / "x.net", tmp_path / "x.sarif"
    spec.write_text('input "x" { shape: 3x8x8 }\nconv { num_output: 2  kernel_size: 3  stride: 2 }')
    assert netspec("check", spec, "--sarif", file).code == 0
    (run,) = json.loads(file.read_text())["runs"]
    assert [result["level"] for result in run["results"]] == ["warning"]
    assert netspec("check", "lenet", "--sarif", file).code == 0
    (run,) = json.loads(file.read_text())["runs"]
    assert run["results"] == []


def test_sarif_of_a_file_that_is_no_text(netspec: Netspec, tmp_path: Path) -> None:
    spec, file = tmp_path / "x.net", tmp_path / "x.sarif"
    spec.write_bytes(b"\xff\xfe")
    assert netspec("check", spec, "--sarif", file).code == 1
    (result,) = json.loads(file.read_text())["runs"][0]["results"]
    assert result["ruleId"] == "file"
    assert "is not UTF-8" in result["message"]["text"]


@pytest.mark.parametrize("option", ["--html", "--netron", "--sarif"])
def test_a_path_that_cannot_be_written(netspec: Netspec, tmp_path: Path, option: str) -> None:
    refused = netspec("check", "lenet", option, tmp_path / "none" / "x")
    assert refused.code == 1
    assert "cannot be written: No such file or directory" in refused.err
    assert not list(tmp_path.iterdir())


def test_one_file_for_two_reports(netspec: Netspec, tmp_path: Path) -> None:
    refused = netspec("check", "lenet", "--html", tmp_path / "x", "--sarif", tmp_path / "x")
    assert refused.code == 2
    assert "each write a file of their own" in refused.err
    assert not list(tmp_path.iterdir())


def test_a_graph_too_large_writes_nothing(netspec: Netspec, tmp_path: Path) -> None:
    spec = tmp_path / "big.net"
    spec.write_text('input "x" { shape: 4 }\nrepeat 1000 { relu }')
    words = ["--html", tmp_path / "x.html", "--sarif", tmp_path / "x.sarif"]
    refused = netspec("check", spec, *words)
    assert refused.code == 2
    assert "a picture holds 1,000 nodes" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["big.net"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--md", "--csv"], "one of them"),
        (["--json", "--md"], "one of them"),
        (["--netron", "x.json", "--phase", "TRAIN"], "phase TEST"),
    ],
)
def test_forms_that_do_not_go_together(netspec: Netspec, words: list[str], said: str) -> None:
    refused = netspec("check", "lenet", *words)
    assert refused.code == 2
    assert said in refused.err
