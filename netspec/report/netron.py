"""What `netspec check` counts, as an attachment that Netron shows beside a compiled model.

Netron takes a JSON file that is dropped onto an open model: `signature` is `netron:attachment`, and
each entry of `metrics` names a `kind` (node, value, model), its `target` by name, and a name and a
value (`metadata.Attachment` in Netron's view.js, seen in 9.3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netspec.codegen.inference import inference_graph
from netspec.codegen.simplify import simplify
from netspec.ir.analysis import Cost
from netspec.ir.deploy import deploy
from netspec.ir.net import Net
from netspec.report.columns import COLUMNS

_SHOWN = ("parameters", "weights", "biases", "macs", "flops", "backward_macs", "activations",
          "activation_bytes", "kept_bytes", "units", "connections")  # fmt: skip
_TOTALS = ("parameters", "trained", "frozen", "statistics", "macs", "flops", "activations",
           "activation_bytes", "forward_bytes")  # fmt: skip


def netron_attachment(net: Net, counted: Cost) -> dict[str, Any]:
    """The metrics of the model that `netspec compile` writes of a net in phase TEST.

    A layer's numbers stand with the operator that makes its top. UsageError or NetspecError for a
    net that cannot be deployed.
    """
    return {"signature": "netron:attachment", "metrics": [*_nodes(net, counted), *_model(counted)]}


def _nodes(net: Net, counted: Cost) -> Iterator[dict[str, Any]]:
    made = _operators(net)
    for layer in counted.layers:
        if layer.name not in made:
            continue
        for column in (COLUMNS[key] for key in _SHOWN):
            if value := column.value(layer, counted):
                yield _metric("node", made[layer.name], column.title, value)
        field = COLUMNS["receptive_field"]
        if shown := field.shown(layer, counted):
            yield _metric("node", made[layer.name], "receptive field", shown)


def _model(counted: Cost) -> Iterator[dict[str, Any]]:
    for name in _TOTALS:
        yield _metric("model", "", name.replace("_", " "), getattr(counted, name))


def _operators(net: Net) -> dict[str, str]:
    """The last operator of each layer in the compiled model, by layer."""
    deployed, outputs = deploy(net)
    graph = simplify(inference_graph(deployed, outputs).graph)
    return {op.scope: op.name for op in graph.ops}


def _metric(kind: str, target: str, name: str, value: Any) -> dict[str, Any]:
    return {"kind": kind, "target": target, "name": name, "value": value}
