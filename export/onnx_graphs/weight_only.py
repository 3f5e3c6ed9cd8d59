"""Store weights in eight bits: a bundle of a quarter of the bytes that computes in fp32.

Each parameter that a product takes, and that is large enough, is stored as int8 with an fp32 scale for each
entry of its first axis (torch's output channels); the graph multiplies them. Engines fold that when they load
the graph, so speed and memory at run time are those of fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from engines.spec import Array
from export.onnx_graphs.fp32_islands import find_products, find_score_products, find_users

ROUNDED, SCALE = ":int8", ":scale"
"""Suffixes of a parameter's int8 values and of their scales."""
_MIN_ENTRIES = 1024
"""Minimum number of entries for which rounding is worth another tensor."""
_MAX_INT8 = 127


def round_to_int8(array: Array) -> tuple[Array, Array]:
    """Return int8 values and fp32 scales that broadcast over them: symmetric, one scale for each entry of the
    first axis."""
    axes = tuple(range(1, array.ndim))
    scale = np.maximum(np.abs(array).max(axis=axes, keepdims=True) / _MAX_INT8, np.finfo(np.float32).tiny)
    values = np.clip(np.rint(array / scale), -_MAX_INT8, _MAX_INT8)
    return values.astype(np.int8), scale.astype(np.float32)


def restore_fp32(values: Array, scale: Array) -> Array:
    """Return the fp32 values that the graph computes from int8 values and scales."""
    return values.astype(np.float32) * scale


def round_weights(model: Any, keep: Sequence[str] = ()) -> None:
    """Round the parameters of products of `model`, an fp32 onnx_ir.Model with its parameters in memory.

    `keep` are patterns (fnmatch) of parameters that stay fp32, as those do whose products make scores.
    """
    graph = model.graph
    fixed = {str(node.name) for node in find_score_products(graph) | find_users(graph, keep)}
    for name, products in find_products(graph).items():
        value = graph.initializers[name]
        array = value.const_value.numpy()
        if array.size < _MIN_ENTRIES or array.dtype != np.float32 or fixed & set(products):
            continue
        parts = [
            _add_parameter(graph, name + end, part)
            for end, part in zip((ROUNDED, SCALE), round_to_int8(array), strict=True)
        ]
        cast = ir.node("Cast", [parts[0]], {"to": int(ir.DataType.FLOAT)})
        back = ir.node("Mul", [cast.outputs[0], parts[1]])
        for node in (cast, back):
            node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, value.shape
        first = next(node for node in graph if value in node.inputs)
        graph.insert_before(first, [cast, back])
        ir.convenience.replace_all_uses_with(value, back.outputs[0])
        del graph.initializers[name]
    passes.NameFixPass()(model)


def _add_parameter(graph: Any, name: str, array: Array) -> Any:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    graph.register_initializer(value)
    return value
