"""Convert a graph to half precision: what computes most takes and gives fp16, islands stay fp32.

Convolutions and matrix products become fp16, and so does whatever only moves, adds or clips their results.
Everything else is an island. LayerNorm, softmax, the tick code and masks lose answers in fp16 (their sums,
and ticks of ten hours, need more than eleven bits). The products that make scores stay fp32 too, because
comparing scores decides the memory. Inputs and outputs keep their types, so callers need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from engines.errors import LvmError
from export.onnx_graphs.fp32_islands import MOVES, find_score_products, find_users

HALF = ":fp16"
"""Suffix of a parameter that is stored in half precision."""

_PRODUCTS = {"Conv": (0, 1, 2), "MatMul": (0, 1), "Gemm": (0, 1, 2)}
"""Operators with most of the computation, and the inputs that become fp16."""
_FOLLOWERS = {
    "Add": (0, 1),
    "BatchNormalization": None,  # OpenVINO needs one type for all of them, and every engine folds it
    "Concat": None,
    "Expand": (0,),
    "Gather": (0,),
    "MaxPool": (0,),
    "Relu": (0,),
    "Reshape": (0,),
    "Slice": (0,),
    "Squeeze": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
}
"""Operators that are exact in fp16, or lose no more than a product does; None: all inputs."""
_MAX_FP16 = float(np.finfo(np.float16).max)
_FLOAT, _FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def convert_to_fp16(model: Any, keep: Sequence[str] = ()) -> None:
    """Convert `model`, an fp32 onnx_ir.Model with its parameters in memory, to half precision in place.

    `keep` are patterns (fnmatch) of parameter names whose operators stay fp32. Raises LvmError for a
    parameter that half precision cannot hold.
    """
    graph = model.graph
    _infer_types(model)
    islands = find_score_products(graph) | find_users(graph, keep)
    twins: dict[Any, Any] = {}  # fp32 value -> the fp16 value that it was cast from, or a cast of it
    exact: set[Any] = set()  # fp32 values that came out of fp16
    for node in list(graph):
        if node in islands or node.domain not in ("", "ai.onnx"):
            continue
        places = _select_inputs(node, exact)
        if places is None:
            continue
        inputs = [
            _cast_to_fp16(graph, value, node, twins) if place in places else value
            for place, value in enumerate(node.inputs)
        ]
        old = node.outputs[0]
        new = ir.Node(
            node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=1, name=node.name
        )
        new.outputs[0].dtype, new.outputs[0].shape = _FLOAT16, old.shape
        back = ir.node("Cast", [new.outputs[0]], {"to": int(_FLOAT)})
        back.outputs[0].dtype, back.outputs[0].shape = _FLOAT, old.shape
        graph.insert_before(node, [new, back])
        ir.convenience.replace_all_uses_with(old, back.outputs[0], replace_graph_outputs=True)
        back.outputs[0].name = old.name
        graph.remove(node, safe=True)
        twins[back.outputs[0]] = new.outputs[0]
        exact.add(back.outputs[0])
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)


def _infer_types(model: Any) -> None:
    """Infer missing types: torch's exporter types what torch knows, not what it expresses with several
    operators."""
    for node in model.graph:
        if node.op_type == "MultiHeadAttention" and node.outputs[0].type is None:  # not the standard's
            node.outputs[0].type = node.inputs[0].type or ir.TensorType(_FLOAT)
    passes.ShapeInferencePass()(model)


def _select_inputs(node: Any, exact: set[Any]) -> Sequence[int] | None:
    """Return which inputs of a node become fp16; None where it stays as it is."""
    if any(value is not None and value.dtype is None for value in (*node.inputs, *node.outputs)):
        return None
    floats = [place for place, value in enumerate(node.inputs) if value is not None and value.dtype == _FLOAT]
    if not floats or node.outputs[0].dtype != _FLOAT:
        return None
    if node.op_type in _PRODUCTS:
        return [place for place in floats if place in _PRODUCTS[node.op_type]]
    if node.op_type not in _FOLLOWERS:
        return None
    allowed = _FOLLOWERS[node.op_type]
    places = floats if allowed is None else [place for place in floats if place in allowed]
    from_half = [place for place in places if node.inputs[place] in exact]
    others = [node.inputs[place] for place in places if place not in from_half]
    return places if from_half and all(value.is_initializer() for value in others) else None


def _cast_to_fp16(graph: Any, value: Any, before: Any, twins: dict[Any, Any]) -> Any:
    if value in twins:
        return twins[value]
    made_by = value.producer()
    if value.is_initializer():
        array = value.const_value.numpy()
        largest = float(np.abs(array).max(initial=0.0))
        if not largest <= _MAX_FP16:
            raise LvmError(
                f"parameter {value.name} must be at most {_MAX_FP16:g} for half precision, got {largest:g}; "
                f"keep it with --keep-fp32 '{value.name}'"
            )
        name = f"{value.name}{HALF}"
        twin = ir.Value(name=name, shape=value.shape, type=ir.TensorType(_FLOAT16))
        twin.const_value = ir.tensor(array.astype(np.float16), name=name)
        graph.register_initializer(twin)
    elif made_by is not None and made_by.op_type in MOVES and made_by.inputs[0].is_initializer():
        # A weight that is transposed first: halved before, so that it is stored in half precision.
        rest = (_cast_to_fp16(graph, made_by.inputs[0], before, twins), *made_by.inputs[1:])
        moved = ir.Node("", made_by.op_type, rest, made_by.attributes.values(), num_outputs=1)
        twin = moved.outputs[0]
        twin.dtype, twin.shape = _FLOAT16, value.shape
        graph.insert_before(before, moved)
    else:
        cast = ir.node("Cast", [value], {"to": int(_FLOAT16)})
        twin = cast.outputs[0]
        twin.dtype, twin.shape = _FLOAT16, value.shape
        graph.insert_before(before, cast)
    twins[value] = twin
    return twin
