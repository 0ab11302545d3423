"""The reference says what a spec may write."""

from __future__ import annotations

import pytest

from netspec.diagnostics import Source
from netspec.grammar.parser import parse
from netspec.layers import LAYERS
from netspec.report.reference import SECTIONS, reference, references, section_reference


def test_every_layer_has_a_page() -> None:
    assert [page.keyword for page in references(LAYERS)] == sorted(LAYERS)


def test_conv() -> None:
    page = reference(LAYERS["conv"])
    fields = {field.name: field for field in page.fields}
    assert page.caffe == "Convolution"
    assert fields["num_output"].default is None
    assert fields["stride"].default == "1"
    assert fields["bias_term"].default == "true"
    assert not [field.name for field in page.fields if not field.description]
    assert "conv" in page.example


@pytest.mark.parametrize("word", SECTIONS)
def test_every_field_of_a_section_is_documented(word: str) -> None:
    entry = section_reference(word)
    assert len(entry.fields) > 10
    for field in entry.fields:
        assert field.description, field.name
        assert field.takes, field.name
    assert parse(Source("example.net", entry.example)).items
