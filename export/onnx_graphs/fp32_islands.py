"""Operators of a graph that keep full precision, whatever the rest is computed in."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

PRODUCTS = ("Conv", "MatMul", "Gemm")
"""Operators that compute most."""
MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that a parameter goes through before it is used."""

_OWNERS = ("backbone.", "sampler.", "reader.")
"""Begin the names of parameters."""


def users_of(graph: Any, patterns: Sequence[str]) -> set[Any]:
    """Nodes of an onnx_ir.Graph that take a parameter whose name fits a pattern (fnmatch)."""
    fitting = [
        value
        for name, value in graph.initializers.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    found: set[Any] = set()
    while fitting:
        for node, _ in fitting.pop().uses():
            found.add(node)
            if node.op_type in MOVES:
                fitting += node.outputs
    return found


def products_of(graph: Any) -> dict[str, tuple[str, ...]]:
    """Parameters of an onnx_ir.Graph that a product takes, in the graph's order, with the products' names.

    Products of two activations have none, and codes of cells and ticks are constants, not parameters.
    """
    found: dict[str, tuple[str, ...]] = {}
    for node in graph:
        if node.op_type not in PRODUCTS:
            continue
        value = node.inputs[1]
        while value.producer() is not None and value.producer().op_type in MOVES:
            value = value.producer().inputs[0]
        if value.is_initializer() and str(value.name).startswith(_OWNERS):
            found[value.name] = (*found.get(value.name, ()), str(node.name))
    return found


def settled(graph: Any) -> set[Any]:
    """Nodes of an onnx_ir.Graph that nothing it is fed has a part in, as those that make the kernels of
    state-space layers of their parameters: an engine runs them once, when it loads the graph."""
    fed, found = set(graph.inputs), set()
    for node in graph:  # in topological order
        if fed.isdisjoint(node.inputs):
            found.add(node)
        else:
            fed.update(node.outputs)
    return found


def makers_of_scores(graph: Any) -> set[Any]:
    """The last products before each output that is a score, a place or a span; features are none of these.

    The memory is what is left of comparing scores, so they need all their bits.
    """
    found: set[Any] = set()
    waiting = [value.producer() for value in graph.outputs]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node.op_type == "LayerNormalization":
            continue
        seen.add(node)
        if node.op_type in PRODUCTS:
            found.add(node)
        else:
            waiting += [value.producer() for value in node.inputs if value is not None]
    return found
