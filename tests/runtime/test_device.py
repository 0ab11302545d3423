"""The choice of a device, on machines with and without CUDA."""

from __future__ import annotations

import pytest

from netspec.diagnostics import UsageError
from netspec.runtime.device import INSTALL, choose_device, cuda_fault


@pytest.fixture
def no_cuda() -> None:
    if cuda_fault() is None:
        pytest.skip("CUDA works here")


def test_auto_takes_what_works() -> None:
    assert choose_device("auto").cuda == (cuda_fault() is None)
    assert str(choose_device("cpu")) == "cpu"


@pytest.mark.usefixtures("no_cuda")
def test_cuda_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"CUDA is not at hand: .") as caught:
        choose_device("cuda")
    assert "\n" not in str(caught.value)
    assert INSTALL in str(caught.value) or "GPU" in str(caught.value)


def test_looking_for_cuda_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    cuda_fault.cache_clear()
    cuda_fault()
    assert capfd.readouterr() == ("", "")


def test_there_are_two_devices() -> None:
    with pytest.raises(UsageError, match="no device `tpu`"):
        choose_device("tpu")
