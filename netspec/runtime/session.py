"""Sessions: models loaded so that they run in the order in which they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnxruntime as ort

from netspec.diagnostics import NetspecError, UsageError
from netspec.runtime.device import FATAL, INSTALL, Device, quiet

_NO_MEMORY = (
    "Failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""How onnxruntime, CUDA and cuBLAS say that memory is full."""


_WANTED = re.compile(r"buffer of size (\d{1,18})")


class OutOfMemory(NetspecError):
    """A device's memory does not hold what is to run on it."""

    def __init__(self, said: str) -> None:
        super().__init__(
            "the device's memory does not hold a training step; a smaller batch_size will do"
        )
        found = _WANTED.search(said)
        self.wanted = int(found[1]) if found else None
        """The bytes that were asked for at once, if that is known."""


def make_session(model: onnx.ModelProto, device: Device) -> ort.InferenceSession:
    """Load a model for a device; a NetspecError where the machine cannot carry it."""
    with translated_errors(), quiet():
        return ort.InferenceSession(
            model.SerializeToString(), session_options(device), providers=device.providers
        )


def quiet_options() -> ort.SessionOptions:
    """What every session is told: to keep silent, and to leave the cores when its run ends.

    Else an idle session's threads take the cores from the one that works, and a step of 40 ms takes
    73. onnxruntime's global pool cures that too, but a process that has one refuses every session
    made with default options, so that a notebook which trains here could no longer load any other
    model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def session_options(device: Device) -> ort.SessionOptions:
    """What the sessions of a training are told.

    The order of execution is the order of the file: an update in place is only right so, and the
    peak of memory is then ours. onnxruntime's own fusions move operators to the end, where they
    keep everything alive (a small VGG trained in 583 MB for 165), fold padding where that is wrong,
    and gain nothing while weights are inputs. Memory patterns are off since the first run's memory
    stays taken beside the pattern. So is the reuse of dead values' buffers, as each is held
    until the next value of its shape comes: without, it is the arena's again at once (a step of
    DenseNet-121 took 312 MiB for 388, and no longer).
    """
    options = quiet_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    options.intra_op_num_threads = device.threads
    if device.cuda:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


@contextmanager
def translated_errors() -> Iterator[None]:
    """Faults of onnxruntime's that a user can act on, as NetspecErrors; others pass."""
    try:
        yield
    except Exception as error:
        message = str(error)
        if isinstance(error, MemoryError) or any(sign in message for sign in _NO_MEMORY):
            raise OutOfMemory(message) from error
        if "cuDNN is unavailable" in message:
            raise UsageError(f"CUDA is at hand, but not cuDNN; {INSTALL}") from error
        raise
