"""Whether a parsed file is a Caffe net, a Caffe solver, or a native spec."""

from __future__ import annotations

from typing import Final, Literal

from netspec.grammar.ast import Element, Field, Item, Message

NET_MESSAGES: Final = frozenset({"input_shape", "state", "layer", "layers"})
SOLVER_MESSAGES: Final = frozenset(
    {"net_param", "train_net_param", "test_net_param", "train_state", "test_state"}
)
_LAYERS: Final = ("layer", "layers")


def recognise(tree: Message) -> Literal["net", "solver"] | None:
    """`"net"` or `"solver"` for a Caffe file, None for a native one, which an empty file is.

    A native spec has no field but `name` outside of braces, and calls no layer `layer`; a Caffe
    file has nothing else. So if both kinds stand in one file, it is faulty, and taken for what
    most of it is: one layer pasted from the other language is then the one that is reported.
    """
    caffes = [item for item in tree.items if isinstance(item, Field | Element) and _is_caffes(item)]
    natives = len(tree.items) - len(caffes) - sum(_is_name(item) for item in tree.items)
    if len(caffes) <= natives:
        return None
    words = [_word(item) for item in caffes]
    if any(word in _LAYERS for word in words):
        return "net"
    return _of_fields(words)


def _is_name(item: Item) -> bool:
    """Whether an item is `name: …`, which both languages have."""
    return isinstance(item, Field) and item.key == "name"


def _word(item: Field | Element) -> str:
    return item.key if isinstance(item, Field) else item.word


def _is_caffes(item: Field | Element) -> bool:
    """Whether an item may be Caffe's alone."""
    match item:
        case Field(key=key):
            return key != "name"
        case Element(word=word, body=Message()) if word in _LAYERS:
            return True
        case Element(word=word, label=None, body=Message()):
            return word in NET_MESSAGES or word in SOLVER_MESSAGES
    return False


def _of_fields(words: list[str]) -> Literal["net", "solver"] | None:
    """By what most of the words can be; none of them is a native file with a stray field."""
    from netspec.caffe.schema import schema  # read when a file may be Caffe's

    messages = schema().messages
    nets = sum(word in messages["NetParameter"].fields for word in words)
    solvers = sum(word in messages["SolverParameter"].fields for word in words)
    if not nets and not solvers:
        return None
    return "net" if nets >= solvers else "solver"
