"""What a model says of its preprocessing, and one that does it itself."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.blob import mean_file
from netspec.compiler import compile_spec, read
from netspec.diagnostics import DataError
from netspec.runtime.classifier import Classifier
from netspec.runtime.device import choose_device

RNG = np.random.default_rng(3)
MEAN = (RNG.random((3, 10, 12)) * 100).astype(np.float32)
IMAGES = RNG.integers(0, 256, (5, 3, 10, 12)).astype(np.uint8)
CROPPED = (IMAGES - MEAN)[:, :, 2:8, 3:9] * np.float32(0.5)


def written(folder: Path, transform: str, *, source: str = "gone", shape: str = "3x6x6") -> Any:
    """A spec whose images are cut, with a mean file beside it."""
    (folder / "mean.binaryproto").write_bytes(b"".join(bytes(c) for c in mean_file(MEAN)))
    np.save(folder / "mean.npy", MEAN.astype(np.float64))
    path = folder / "net.net"
    path.write_text(
        f'data "test" {{ source: "{source}"  backend: LMDB  batch_size: 4  '
        f"transform {{ {transform} }} }}\n"
        f'input "data" {{ shape: {shape} }}\nconv {{ num_output: 4  kernel_size: 3 }}\nrelu\n'
        "fc { num_output: 3 }\nsoftmax\n"
    )
    return read(str(path))


def session(model: Any) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def metadata(model: Any) -> dict[str, Any]:
    return {p.key.removeprefix("dev.netspec."): p.value for p in model.metadata_props}


@pytest.mark.parametrize("file", ["mean.binaryproto", "mean.npy"])
@pytest.mark.parametrize("batch", [None, 5])
def test_a_model_that_prepares_its_images(tmp_path: Path, file: str, batch: int | None) -> None:
    spec = written(tmp_path, f'crop_size: 6  mirror: true  scale: 1/2  mean_file: "{file}"')
    plain = session(compile_spec(spec, batch=batch).model)
    whole = session(compile_spec(spec, batch=batch, embed_preprocessing=True).model)
    (port,) = whole.get_inputs()
    assert (port.name, port.type, port.shape[1:]) == ("data", "tensor(uint8)", [3, 10, 12])
    (expected,) = plain.run(None, {"data": CROPPED})
    (found,) = whole.run(None, {"data": IMAGES})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [o.name for o in whole.get_outputs()] == [o.name for o in plain.get_outputs()]


def test_images_are_of_the_size_and_kind_of_those_there(tmp_path: Path) -> None:
    stored = (IMAGES / 255).astype(np.float32)
    np.savez(tmp_path / "set.npz", data=stored)
    spec = written(tmp_path, "crop_size: 6  mean_value: [1, 2, 3]", source="set.npz")
    whole = session(compile_spec(spec, embed_preprocessing=True).model)
    (port,) = whole.get_inputs()
    assert (port.type, port.shape[1:]) == ("tensor(float)", [3, 10, 12])
    plain = session(compile_spec(spec).model)
    cut = stored[:, :, 2:8, 3:9] - np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    (expected,), (found,) = plain.run(None, {"data": cut}), whole.run(None, {"data": stored})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_without_images_they_are_as_large_as_the_crop(tmp_path: Path) -> None:
    spec = written(tmp_path, "crop_size: 6  scale: 1/255")
    (port,) = session(compile_spec(spec, embed_preprocessing=True).model).get_inputs()
    assert port.shape[1:] == [3, 6, 6]


def test_metadata_say_what_is_left_to_do(tmp_path: Path) -> None:
    spec = written(tmp_path, 'crop_size: 6  mirror: true  mean_file: "mean.npy"  scale: 1/2')
    said = {"crop_size": 6, "mirror": True, "mean_file": "mean.npy", "scale": 0.5}
    digest = sha256(MEAN.tobytes()).hexdigest()
    plain = metadata(compile_spec(spec).model)
    assert json.loads(plain["preprocessing"]) == {**said, "channel_order": "BGR"}
    assert "embedded_preprocessing" not in plain
    whole = metadata(compile_spec(spec, embed_preprocessing=True).model)
    assert json.loads(whole["preprocessing"]) == {"channel_order": "BGR"}
    assert json.loads(whole["embedded_preprocessing"]) == said
    assert plain["mean_sha256"] == whole["mean_sha256"] == digest


def test_images_are_prepared_for_prediction(tmp_path: Path) -> None:
    """Pictures come as RGB; the net has learned BGR."""
    picture = RNG.integers(0, 256, (3, 6, 6)).astype(np.uint8)
    spec = written(tmp_path, "crop_size: 6  mirror: true  scale: 1/2  mean_value: [1, 2, 3]")
    plain, whole = (compile_spec(spec, embed_preprocessing=e).model for e in (False, True))
    fed = (picture[::-1] - np.array([1, 2, 3], np.float32).reshape(3, 1, 1)) * np.float32(0.5)
    (expected,) = session(plain).run(None, {"data": fed[np.newaxis]})
    for model in (plain, whole):
        classifier = Classifier(model.SerializeToString(), "m.onnx", choose_device("cpu"))
        assert classifier.image_shape == (3, 6, 6)
        np.testing.assert_allclose(classifier.probabilities(picture), expected[0], rtol=1e-5)


def test_a_mean_image_must_be_in_the_model_that_predicts(tmp_path: Path) -> None:
    spec = written(tmp_path, 'mean_file: "mean.npy"', shape="3x10x12")
    model = compile_spec(spec).model.SerializeToString()
    with pytest.raises(DataError, match=r"m\.onnx: a mean image .* --embed-preprocessing"):
        Classifier(model, "m.onnx", choose_device("cpu"))
    model = compile_spec(spec, embed_preprocessing=True).model.SerializeToString()
    found = Classifier(model, "m.onnx", choose_device("cpu"))
    assert found.image_shape == (3, 10, 12)
    assert found.probabilities(IMAGES[0]).shape == (3,)


def test_a_mean_file_must_be_there_only_for_a_model_that_holds_it(tmp_path: Path) -> None:
    spec = written(tmp_path, 'mean_file: "none.binaryproto"', shape="3x10x12")
    assert "mean_sha256" not in metadata(compile_spec(spec).model)
    with pytest.raises(DataError, match=r"none\.binaryproto: cannot be read: No such file"):
        compile_spec(spec, embed_preprocessing=True)


def test_a_mean_of_another_size(tmp_path: Path) -> None:
    spec = written(tmp_path, 'mean_file: "mean.npy"', shape="3x9x12")
    with pytest.raises(DataError, match=r"mean.npy: a mean of 3x10x12 for images of 3x9x12"):
        compile_spec(spec, embed_preprocessing=True)
    spec = written(tmp_path, 'crop_size: 11  mean_file: "mean.npy"', shape="3x11x11")
    with pytest.raises(DataError, match="crop_size 11 is more than the images of `data` have"):
        compile_spec(spec, embed_preprocessing=True)


@pytest.mark.parametrize(
    ("said", "outside"),
    [("border: EDGE", {"mode": "edge"}), ("border: REFLECT", {"mode": "reflect"}),
     ("fill: 9", {"constant_values": 9})],
)  # fmt: skip
def test_prediction_pads_as_training_does(
    tmp_path: Path, said: str, outside: dict[str, Any]
) -> None:
    picture = RNG.integers(0, 256, (3, 4, 4)).astype(np.uint8)
    spec = written(tmp_path, f"pad: 1  channel_order: RGB  {said}")
    plain, whole = (compile_spec(spec, embed_preprocessing=e).model for e in (False, True))
    padded = np.pad(picture.astype(np.float32), ((0, 0), (1, 1), (1, 1)), **outside)
    (expected,) = session(plain).run(None, {"data": padded[np.newaxis]})
    (found,) = session(whole).run(None, {"data": picture[np.newaxis]})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    classifier = Classifier(plain.SerializeToString(), "m.onnx", choose_device("cpu"))
    np.testing.assert_allclose(classifier.probabilities(picture), expected[0], rtol=1e-5)


def test_a_model_resizes_and_cuts_as_tests_do(tmp_path: Path) -> None:
    """Whatever the batch; nothing that training draws is in it or told of it."""
    transform = "resize: [6, 14]  crop_size: 6  rotation: 9  hue: 0.1  mean_value: 3"
    np.savez(tmp_path / "set.npz", data=IMAGES)
    spec = written(tmp_path, transform, source="set.npz")
    model = compile_spec(spec, embed_preprocessing=True).model
    said = json.loads(metadata(model)["embedded_preprocessing"])
    assert said == {"resize": [6, 14], "crop_size": 6, "mean_value": [3.0]}
    assert [port.shape[1:] for port in session(model).get_inputs()] == [[3, 10, 12]]
    assert "Resize" not in {node.op_type for node in model.graph.node}, "10 is the middle"
    (one,) = session(model).run(None, {"data": IMAGES[:1]})
    (all_of_them,) = session(model).run(None, {"data": IMAGES})
    np.testing.assert_allclose(all_of_them[:1], one, rtol=1e-5)
