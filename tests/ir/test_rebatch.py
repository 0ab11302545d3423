"""A net at another batch size is what its spec gives at that size."""

from __future__ import annotations

import pytest

from netspec import zoo
from netspec.compiler import elaborate, read
from netspec.ir.layer import Phase
from netspec.ir.rebatch import rebatched


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("phase", Phase)
def test_bundled_nets(name: str, phase: Phase) -> None:
    spec = read(name)
    small, large = (elaborate(spec, batch=batch)[phase].net for batch in (3, 8))
    if small.hung is not None:
        with pytest.raises(AssertionError, match="holds the batch size"):
            rebatched(small, 8)
        return
    found = rebatched(small, 8)
    assert found.batch == 8
    assert found.inputs == large.inputs
    for one, other in zip(found.nodes, large.nodes, strict=True):
        assert (one.bottom_types, one.top_types) == (other.bottom_types, other.top_types)
    assert found == large
    assert small.batch == 3
