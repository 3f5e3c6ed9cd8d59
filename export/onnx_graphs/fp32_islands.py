"""Find the operators of a graph that need full precision, whatever the rest is computed in."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

PRODUCTS = ("Conv", "MatMul", "Gemm")
"""Operators with most of the computation."""
MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only move a parameter before it is used."""

_PARAMETER_PREFIXES = ("backbone.", "sampler.", "reader.")
"""Beginnings of parameters' names."""


def find_users(graph: Any, patterns: Sequence[str]) -> set[Any]:
    """Find the nodes of an onnx_ir.Graph that take a parameter whose name matches a pattern (fnmatch)."""
    fitting = [
        value
        for name, value in graph.initializers.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    users: set[Any] = set()
    while fitting:
        for node, _ in fitting.pop().uses():
            users.add(node)
            if node.op_type in MOVES:
                fitting += node.outputs
    return users


def find_products(graph: Any) -> dict[str, tuple[str, ...]]:
    """Find the parameters of an onnx_ir.Graph that a product takes, in the graph's order, with the products'
    names.

    Products of two activations have none, and codes of cells and ticks are constants, not parameters.
    """
    products: dict[str, tuple[str, ...]] = {}
    for node in graph:
        if node.op_type not in PRODUCTS:
            continue
        value = node.inputs[1]
        while value.producer() is not None and value.producer().op_type in MOVES:
            value = value.producer().inputs[0]
        if value.is_initializer() and str(value.name).startswith(_PARAMETER_PREFIXES):
            products[value.name] = (*products.get(value.name, ()), str(node.name))
    return products


def find_constant_nodes(graph: Any) -> set[Any]:
    """Find the nodes of an onnx_ir.Graph that do not depend on its inputs, such as those that make the
    kernels of state-space layers from parameters: an engine runs them once, when it loads the graph."""
    fed, constant = set(graph.inputs), set()
    for node in graph:  # in topological order
        if fed.isdisjoint(node.inputs):
            constant.add(node)
        else:
            fed.update(node.outputs)
    return constant


def find_score_products(graph: Any) -> set[Any]:
    """Find the last products before each output that is a score, a position or a span; features do not count.

    The memory is decided by comparing scores, so they need all their bits.
    """
    products: set[Any] = set()
    waiting = [value.producer() for value in graph.outputs]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node.op_type == "LayerNormalization":
            continue
        seen.add(node)
        if node.op_type in PRODUCTS:
            products.add(node)
        else:
            waiting += [value.producer() for value in node.inputs if value is not None]
    return products
