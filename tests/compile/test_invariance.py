"""What specs promise of their outputs, tried on the compiled models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort

from netspec.compiler import Compiled


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_turned_image_has_the_same_scores(compiled: Callable[[str], Compiled]) -> None:
    model = compiled("rotation_invariant").model
    session = session_of(model)
    image = np.random.default_rng(0).random((1, 1, 28, 28)).astype(np.float32)
    (upright,) = session.run(None, {"data": image})
    (shifted,) = session.run(None, {"data": np.roll(image, 3, axis=3)})
    assert np.abs(upright - shifted).max() > 1e-3
    for quarters in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(image, quarters, axes=(2, 3)))
        (scores,) = session.run(None, {"data": turned})
        np.testing.assert_allclose(scores, upright, rtol=1e-4)
    (mirrored,) = session.run(None, {"data": np.ascontiguousarray(image[..., ::-1])})
    assert np.abs(upright - mirrored).max() > 1e-3


def test_embeddings_have_length_one(compiled: Callable[[str], Compiled]) -> None:
    made = compiled("triplet")
    session = session_of(made.model)
    x = np.random.default_rng(0).normal(size=(3, *made.net.inputs["data"].sample))
    (y,) = session.run(None, {"data": x.astype(np.float32)})
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, rtol=1e-5)
