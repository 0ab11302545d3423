"""The command line: one module per verb, loaded when it is called."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from netspec.cli.streams import silence
from netspec.cli.verbs import Verbs
from netspec.diagnostics import NetspecError, printable
from netspec.version import __version__

_VERBS = {
    "check": "Shapes, parameters, arithmetic and memory of a spec, or its errors.",
    "compile": "Write the inference network as ONNX.",
    "train": "Train a spec on its data.",
    "overfit": "Whether a spec can learn one batch by heart.",
    "lr-range": "The learning rates at which a spec learns.",
    "test": "Accuracy and loss of a run on its test data.",
    "report": "Write the page of a run: curves, classes, mistakes, filters.",
    "predict": "Classes of images, with probabilities.",
    "features": "What a layer gives for every sample, as a data set to train on.",
    "time": "Time of every layer, forward and backward, beside what the machine can do.",
    "show": "Draw the graph of a spec as SVG or HTML.",
    "expand": "Print the network flat: blocks, repeats and names resolved.",
    "diff": "What changed from one spec to another: layers, parameters, arithmetic.",
    "fmt": "Format specs.",
    "upgrade": "Print a Caffe net, and its solver, as a native spec.",
    "layers": "The reference of every layer type.",
    "init": "Begin a spec from one of the zoo.",
    "init-check": "How a net begins: means and deviations of every layer, the first loss.",
    "data": "Data before a network sees them.",
    "doctor": "Versions, devices that really work, a short training.",
}


@click.group(
    cls=Verbs,
    modules="netspec.cli.{verb}_verb",
    verbs=_VERBS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="netspec")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Networks as text: know their cost, train them on onnxruntime, get ONNX.

    SPEC is a file or the name of a bundled spec, such as lenet.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code of the process.

    0 fine, 1 the spec, the data or a disk is wrong, 2 usage, 3 a budget is exceeded, 75 stopped
    with a checkpoint, 130 interrupted. `--debug` is taken before the verb and after it.
    """
    code = _ended(arguments)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the process would end with a code of its own
            silence(stream)
    return code


def _ended(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        code = _run([word for word in given if word != "--debug"])
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        silence(sys.stdout)
        return 0
    except click.ClickException as error:
        with suppress(OSError):  # the code tells as well
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except NetspecError as error:
        if debug:
            raise
        if str(error):
            _complain("\n".join(map(printable, str(error).split("\n"))))
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        message = f"internal error: {type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.strerror:  # of a disk, not ours
            message = ": ".join(str(word) for word in (error.filename, error.strerror) if word)
        _complain(f"{printable(message)}; --debug shows where")
        return 1


def _complain(message: str) -> None:
    with suppress(OSError):  # the code tells as well
        click.echo(message, err=True)


def _run(arguments: list[str]) -> int:
    with cli.make_context("netspec", arguments) as context:
        result = cli.invoke(context)
    return result if isinstance(result, int) else 0
