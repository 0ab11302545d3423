"""What `compile` refuses, and that it verifies before it writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netspec.cli import main
from netspec.codegen import inference
from netspec.codegen.inference import Inference, check_batch_free, inference_graph
from netspec.compiler import Spec, compile_spec, elaborate, read
from netspec.diagnostics import NetspecError
from netspec.ir.deploy import deploy

MakeSpec = Callable[[str], Spec]
HEAD = 'input "data" { shape: 1x8x8 }\n'


def outputs(model: onnx.ModelProto) -> list[str]:
    return [output.name for output in model.graph.output]


def test_any_blob_can_be_put_out() -> None:
    made = compile_spec(read("lenet"), outputs=["pool2", "ip1"])
    assert outputs(made.model) == ["pool2", "ip1"]
    assert "ip2" not in {node.name for node in made.net.nodes}


@pytest.mark.parametrize("name", ["data", "label"])
def test_an_input_is_no_output(name: str) -> None:
    with pytest.raises(NetspecError, match=f"`{name}` goes into the net"):
        compile_spec(read("lenet"), outputs=[name])


def test_a_copy_of_the_input_is_an_output(spec: MakeSpec) -> None:
    made = compile_spec(spec(HEAD + "dropout"))
    assert outputs(made.model) == ["dropout1"]
    onnx.checker.check_model(made.model, full_check=True)


@pytest.mark.parametrize("text", ["reduction", "reduction  relu"])
def test_one_number_for_the_whole_batch_is_an_output(text: str, spec: MakeSpec) -> None:
    made = compile_spec(spec(HEAD + text))
    assert not made.model.graph.output[0].type.tensor_type.shape.dim
    assert made.difference is not None
    assert made.difference < 1e-4


def test_unknown_blob(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    assert main(["compile", "lenet", "--output", "poool2", "-o", str(out)]) == 1
    said = "there is no blob `poool2` to put out; did you mean `pool2`?\n"
    assert capsys.readouterr().err == said
    assert not out.exists()


def test_a_net_without_loss_puts_out_what_nothing_reads(spec: MakeSpec) -> None:
    text = HEAD + 'slice "s" { top: "a"  top: "b"  axis: 2 }\nrelu "r" { bottom: "a" }'
    assert set(compile_spec(spec(text)).outputs) == {"r", "b"}


def test_two_losses_are_two_predictions(spec: MakeSpec) -> None:
    text = (
        HEAD + 'fc { num_output: 3 }\nhead "h" { fc { num_output: 2 } softmax_loss }\nsoftmax_loss'
    )
    assert compile_spec(spec(text)).outputs == ("prob", "prob2")


BOX = 'input "box" { shape: 4 }\nfc "fc_box" { bottom: "data"  num_output: 4 }\n'
SIDES = "".join(
    f'input "{x}" {{ shape: 4 }}\nfc "f{x}" {{ bottom: "{x}"  num_output: 2  '
    'param { name: "w" }  param { name: "b" } }\n'
    for x in "pqr"
)


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        ('fc { num_output: 3 } softmax_loss\n' + BOX
         + 'euclidean_loss { bottom: "fc_box"  bottom: "box" }', ["data"], ["prob", "fc_box"]),
        (BOX + 'euclidean_loss { bottom: "box"  bottom: "fc_box" }', ["data"], ["fc_box"]),
        (BOX + 'scale "b" { bottom: "box"  axis: 0  bottom: "box" }\n'
         'smooth_l1_loss { bottom: "b"  bottom: "fc_box" }', ["data"], ["fc_box"]),
        (BOX + 'euclidean_loss { bottom: "fc_box"  bottom: "box" }\n'
         'smooth_l1_loss { bottom: "fc_box"  bottom: "box" }', ["data"], ["fc_box"]),
        (BOX + 'euclidean_loss { bottom: "fc_box"  bottom: "box" }\n'
         'fc "more" { bottom: "fc_box"  num_output: 2 }\n'
         'hinge_loss { bottom: "more"  bottom: "label" }', ["data"], ["fc_box", "more"]),
        ('fc { num_output: 3 } softmax "p" multinomial_logistic_loss', ["data"], ["p"]),
        ('fc { num_output: 64 } reshape "r" { shape { dim: [0, 1, 8, 8] } }\n'
         'sigmoid_loss { bottom: "r"  bottom: "data" }', ["data"], ["prob"]),
        (SIDES + 'triplet_loss { bottom: "fp"  bottom: "fq"  bottom: "fr" }', ["p"], ["fp"]),
        (SIDES + 'contrastive_loss { bottom: "fq"  bottom: "fr"  bottom: "label" }\n'
         'euclidean_loss { bottom: "fp"  bottom: "fr" }', ["p", "q"], ["fq", "fp"]),
    ],
)  # fmt: skip
def test_what_only_targets_feed_is_gone(
    text: str, inputs: list[str], expected: list[str], spec: MakeSpec
) -> None:
    made = compile_spec(spec(HEAD + text))
    assert outputs(made.model) == expected
    assert [fed.name for fed in made.model.graph.input] == inputs


def test_a_blob_called_prob_keeps_its_name(spec: MakeSpec) -> None:
    made = compile_spec(spec(HEAD + 'fc "prob" { num_output: 3 }\nsoftmax_loss'))
    assert made.outputs == ("prob2",)


def test_training_heads_are_gone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "googlenet", "--output", "aux1/fc1", "-o", "no.onnx"]) == 1
    assert "there is no blob `aux1/fc1`" in capsys.readouterr().err


def test_weights_beyond_protobuf(spec: MakeSpec) -> None:
    huge = spec('input "data" { shape: 65536 }\nfc { num_output: 8192 }')
    with pytest.raises(NetspecError, match=r"2,147,516,416 bytes, and an ONNX file holds 2 GiB"):
        compile_spec(huge)


def inference_of(batch: int) -> Inference:
    return inference_graph(*deploy(elaborate(read("lenet"), batch=batch).test.net))


def test_operators_that_hang_on_the_batch_are_found() -> None:
    one, other = inference_of(2), inference_of(3)
    check_batch_free(one, other)
    said = r"layer `conv1` hangs on the batch size: fix it with --batch N"
    first, *rest = other.graph.ops
    assert first.name == "conv1/Conv"
    changed = replace(first, attrs={**first.attrs, "group": 3})
    spoilt = replace(other, graph=replace(other.graph, ops=(changed, *rest)))
    with pytest.raises(NetspecError, match=said):
        check_batch_free(one, spoilt)
    with pytest.raises(NetspecError, match="hangs on the batch size"):
        check_batch_free(one, replace(other, graph=replace(other.graph, ops=other.graph.ops[:-1])))
    assert other.graph.constants
    constants = {value: array + 1 for value, array in other.graph.constants.items()}
    with pytest.raises(NetspecError, match="hangs on the batch size"):
        check_batch_free(one, replace(other, graph=replace(other.graph, constants=constants)))


def test_weights_that_overflow_are_no_disagreement() -> None:
    spec = read("lenet")
    net = elaborate(spec).test.net
    huge = {p.name: np.full(p.shape, 1e30, np.float32) for p in net.parameters}
    huge["ip2.weight"][1] *= -1
    huge["ip1.weight"][1] *= -1
    with pytest.raises(NetspecError, match="nothing of `prob` is a number where the net is given"):
        compile_spec(spec, weights=huge)


@pytest.mark.parametrize("batch", [[], ["--batch", "4"]])
@pytest.mark.parametrize("weight", ["conv1.weight", "ip2.bias"])
def test_a_spoilt_model_is_not_written(
    batch: list[str],
    weight: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    true = inference.inference_model

    def spoilt(graph: Inference, weights: Any, *, simplified: bool = True, **given: Any) -> Any:
        if simplified:
            weights = {**weights, weight: weights[weight] + np.float32(0.01)}
        return true(graph, weights, simplified=simplified, **given)

    monkeypatch.setattr(inference, "inference_model", spoilt)
    out = tmp_path / "x.onnx"
    assert main(["compile", "lenet", "-o", str(out), *batch]) == 1
    said = capsys.readouterr().err
    assert said.startswith("the compiled model disagrees with the net: `")
    assert said.endswith("; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_gives_no_number_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.net"
    path.write_text(HEAD + "fc { num_output: 2  weight_filler { type: constant  value: 3e38 } }")
    assert main(["compile", str(path), "-o", str(tmp_path / "x.onnx")]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_an_unwritable_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "lenet", "-o", str(tmp_path / "no" / "x.onnx")]) == 1
    reason = "x.onnx: cannot be written: No such file or directory\n"
    assert capsys.readouterr().err.endswith(reason)
    assert main(["compile", "lenet", "-o", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
