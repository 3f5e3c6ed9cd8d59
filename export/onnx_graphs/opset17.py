"""Rewrite a graph for TensorRT: ONNX opset 17, so that one bundle serves TensorRT 8.6 (JetPack 6.0) to 11.

torch exports opset 18 or later only. Between 17 and 20 our operators changed in few ways, which are undone
here; anything else that opset 17 lacks ends the export with a sentence.

Two changes are independent of the opset: TensorRT takes a uint8 input only if a cast comes first, and cannot
gather booleans.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from engines.errors import LvmError

OPSET = 17
IR_VERSION = 8
"""The IR version that came with opset 17, and that TensorRT 8.6 was built with."""

_AXES_ARE_ATTRIBUTES = {
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
}  # fmt: skip

_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Exp", "Log", "Neg", "Softplus", "Sigmoid", "Identity"}


def to_opset17(model: ir.Model) -> None:
    """Rewrite `model` in place. Raises LvmError, naming the operator, where opset 17 cannot express it."""
    for node in list(model.graph):
        if node.domain:
            raise LvmError(f"TensorRT has no operator {node.domain}.{node.op_type}; nothing was written")
        if node.op_type in _AXES_ARE_ATTRIBUTES:
            _axes_as_attribute(node)
        elif node.op_type == "CastLike":
            _replace(node, _make_node("Cast", [node.inputs[0]], to=int(_find_type(node.inputs[1]))))
        elif node.op_type == "Cast":
            node.attributes.pop("saturate", None)
        elif node.op_type == "Gelu":
            _expand_gelu(node)
        elif node.op_type == "GatherElements" and _find_type(node.inputs[0]) == ir.DataType.BOOL:
            _gather_flags_as_int32(node)
    _cast_pictures_first(model.graph)
    for node in model.graph:
        _check(node)
    model.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION


def _axes_as_attribute(node: ir.Node) -> None:
    """Turn the axes into an attribute: from opset 18 on these operators take them as an input."""
    node.attributes.pop("noop_with_empty_axes", None)
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return
    axes = ir.convenience.get_const_tensor(node.inputs[1])
    if axes is None:
        raise LvmError(f"{node.op_type} must have constant axes for TensorRT; nothing was written")
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.numpy().reshape(-1)])
    node.resize_inputs(1)


def _expand_gelu(node: ir.Node) -> None:
    """Expand Gelu, which came with opset 20: x / 2 (1 + erf(x / sqrt 2))."""
    approximate = node.attributes.get("approximate")
    if approximate is not None and approximate.as_string() != "none":
        raise LvmError("Gelu must not be approximate for TensorRT; nothing was written")
    x, dtype = node.inputs[0], node.outputs[0].dtype
    assert dtype is not None
    root, half, unit = (
        _make_node("Constant", [], value=ir.tensor(np.asarray(value, dtype.numpy()), dtype=dtype))
        for value in (0.5**0.5, 0.5, 1.0)
    )
    scaled = _make_node("Mul", [x, root.outputs[0]])
    erf = _make_node("Erf", [scaled.outputs[0]])
    raised = _make_node("Add", [erf.outputs[0], unit.outputs[0]])
    halved = _make_node("Mul", [x, half.outputs[0]])
    _replace(
        node,
        root,
        half,
        unit,
        scaled,
        erf,
        raised,
        halved,
        _make_node("Mul", [halved.outputs[0], raised.outputs[0]]),
    )


def _gather_flags_as_int32(node: ir.Node) -> None:
    """Gather booleans as int32: TensorRT's GatherElements takes no booleans."""
    numbers = _make_node("Cast", [node.inputs[0]], to=int(ir.DataType.INT32))
    gathered = ir.node("GatherElements", [numbers.outputs[0], node.inputs[1]], node.attributes)
    _replace(node, numbers, gathered, _make_node("Cast", [gathered.outputs[0]], to=int(ir.DataType.BOOL)))


def _find_type(value: ir.Value | None) -> ir.DataType:
    """Return the element type; where torch left none, that of the input of an elementwise operator."""
    assert value is not None
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return constant.dtype
    if value.dtype is not None:
        return value.dtype
    producer = value.producer()
    if producer is None or producer.op_type not in _ELEMENTWISE:
        raise LvmError(
            f"the type of {value.name} is not known, which TensorRT's graph needs; nothing was written"
        )
    return _find_type(producer.inputs[0])


def _cast_pictures_first(graph: ir.Graph) -> None:
    """Cast a uint8 input before it is transposed, not after; its shape is taken from the cast as well."""
    for value in graph.inputs:
        if value.dtype != ir.DataType.UINT8:
            continue
        users = list(value.uses())
        cast = _make_node("Cast", [value], to=int(ir.DataType.FLOAT))
        cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
        graph.insert_before(graph[0], cast)
        for user, index in users:
            if user.op_type not in ("Transpose", "Shape", "Cast"):
                raise LvmError(
                    f"graph input {value.name} must be cast before {user.op_type} for TensorRT; "
                    "nothing was written"
                )
            user.replace_input_with(index, cast.outputs[0])
            if user.op_type == "Transpose":
                user.outputs[0].dtype = ir.DataType.FLOAT


def _check(node: ir.Node) -> None:
    """Raise LvmError unless opset 17 has the operator, with these attributes and as many inputs."""
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError:
        schema = None
    if schema is None or set(node.attributes) - set(schema.attributes) or len(node.inputs) > schema.max_input:
        raise LvmError(
            f"ONNX opset {OPSET}, which TensorRT's graphs are written in, does not know this "
            f"{node.op_type}; nothing was written"
        )


def _make_node(op_type: str, inputs: list[ir.Value | None], **attributes: Any) -> ir.Node:
    return ir.node(op_type, inputs, attributes)


def _replace(old: ir.Node, *new: ir.Node) -> None:
    """Put `new` in the place of `old`; the last output takes over name, type, shape and users."""
    before, after = old.outputs[0], new[-1].outputs[0]
    graph = old.graph
    assert graph is not None
    after.name, after.shape = before.name, before.shape
    if before.type is not None and before.dtype is not None:
        after.type = before.type
    before.name = None
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    graph.remove(old, safe=True)
