"""Build the ONNX graphs of the three networks.

A graph holds no parameters. Each is an initialiser, named as in `weights.safetensors`, whose data lie in that
file exactly as torch stores them, or rounded to half precision. So all targets share one copy, and a backend
folds transposes and normalisations when it loads the graph.

Attention is expressed for each target so that no N x N matrix is ever materialised: torch's exporter calls
functions that take and return symbolic ONNX values in place of `scaled_dot_product_attention`. B batch, H
heads, Q query tokens, K key tokens, E head size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import onnx.defs
import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes
from onnxscript import opset20, values
from torch.export import Dim, ExportedProgram

from engines.manifest import GRAPHS, GraphName, Target
from engines.network_config import NetworkConfig
from export.networks.model import LvmNet
from export.networks.signatures import BATCH, graph_inputs, graph_outputs
from export.onnx_graphs.external_weights import WEIGHTS, ByteRange
from export.onnx_graphs.fp16 import HALF
from export.onnx_graphs.opset17 import to_opset17

_IR_VERSION = 10  # what opset 20 needs; onnxruntime 1.23 and OpenVINO 2025 read it
_MAX_CONSTANT_BYTES = 1 << 20
OPSET = 20
MICROSOFT = "com.microsoft"
op: Any = opset20  # its own annotations refuse what its functions return


def trace(network: LvmNet, name: GraphName) -> ExportedProgram:
    """Trace one network as a torch program with a free batch; the same program serves every target."""
    examples = _make_examples(network.config, name)
    batch = Dim(BATCH, min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        return torch.export.export(
            network.part(name).eval(),
            (),
            kwargs=examples,
            dynamic_shapes={key: {0: batch} for key in examples},
        )


def lower(program: ExportedProgram, config: NetworkConfig, name: GraphName, target: Target) -> Any:
    """Lower the program to an fp32 graph for `target`, an onnx_ir.Model: parameters in memory, named as in
    the weights file."""
    attention = torch.ops.aten.scaled_dot_product_attention.default
    table: dict[Any, Any] = {} if name == "backbone" else {attention: select_attention(target)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        exported = torch.onnx.export(
            program,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # its folding would copy transposed weights into the graph
            verbose=False,
            custom_translation_table=table,
        )
    assert exported is not None
    model = exported.model
    for value, spec in zip(model.graph.outputs, graph_outputs(config, name), strict=True):
        value.name = spec.name
    _name_batch(model)
    _simplify(model, set(program.state_dict))
    _name_parameters(model, name, set(program.state_dict))
    model.ir_version = _IR_VERSION
    if target == "tensorrt":
        to_opset17(model)
    model.producer_name, model.producer_version = "lvm-edge", None
    return model


def find_parameters(model: Any) -> dict[str, Any]:
    """Return the initialisers of a model that are parameters of a network, by their names in the weights
    file."""
    prefixes = tuple(f"{name}." for name in GRAPHS)
    return {name: value for name, value in model.graph.initializers.items() if name.startswith(prefixes)}


def serialise(model: Any, weights: dict[str, ByteRange]) -> bytes:
    """Serialise the graph with its parameters pointing into the weights file; equal models give
    equal bytes."""
    for name, value in find_parameters(model).items():
        # A parameter that no graph needs in full is stored in half precision under its own name.
        key = name if name in weights else name.removesuffix(HALF)
        tensor, place = value.const_value, weights[key]
        assert place.length == tensor.nbytes, f"{key}: {tensor.nbytes} bytes expected, got {place.length}"
        value.const_value = ir.ExternalTensor(
            WEIGHTS, place.offset, place.length, tensor.dtype, shape=tensor.shape, name=key
        )
        value.name = key
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _make_examples(config: NetworkConfig, name: GraphName) -> dict[str, torch.Tensor]:
    """Make zeros of the right shapes, batch 2: torch takes 1 for a constant."""
    return {
        spec.name: torch.zeros(
            [2 if isinstance(size, str) else size for size in spec.shape], dtype=getattr(torch, spec.dtype)
        )
        for spec in graph_inputs(config, name)
    }


def _name_batch(model: Any) -> None:
    """Name the free size: torch names it after a counter of its process, and ours must not change from run to
    run."""
    symbol = str(model.graph.inputs[0].shape[0])
    values = [value for node in model.graph for value in node.outputs]
    for value in (*model.graph.inputs, *values):
        if value.shape is not None:
            value.shape = ir.Shape(
                size if isinstance(size, int) else str(size).replace(symbol, BATCH) for size in value.shape
            )


def _simplify(model: Any, parameters: set[str]) -> None:
    """Fold what is constant without any parameter, and remove the nodes' source locations."""

    def without_parameters(node: Any) -> bool | None:
        touched = any(value is not None and value.name in parameters for value in node.inputs)
        return False if touched else None

    onnxscript.optimizer.fold_constants(model, should_fold=without_parameters)
    Sequential(
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),
    )(model)


def _name_parameters(model: Any, name: GraphName, names: set[str]) -> None:
    """Name parameters as in the weights file, which holds those of all three networks."""
    for old, value in list(model.graph.initializers.items()):
        if old in names:
            value.name = f"{name}.{old}"
        else:
            size = value.const_value.nbytes
            assert size <= _MAX_CONSTANT_BYTES, f"constant {old} has {size} bytes"


def select_attention(target: Target) -> Callable[..., Any]:
    """Return the form of attention that `target` runs fused."""
    table = {"onnxruntime": fused_attention, "openvino": plain_attention, "tensorrt": plain_attention}
    return table[target]


def fused_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Build onnxruntime's MultiHeadAttention: query (B, H, Q, E), key, value (B, H, K, E), attn_mask (B, 1,
    1, K).

    Its CPU kernel leaves the flash path for a materialised one as soon as it gets a mask (two layers of
    11,760 tokens, width 256: 4.7 GB instead of 0.2 GB). So the key bias travels as one more channel: 1 in
    every query, bias / scale in the key; their product, scaled, is the bias. Values keep their own head size.
    """
    _check_supported(attn_mask, is_causal, enable_gqa)
    heads, size = int(query.shape[1]), int(query.shape[3])
    scale = size**-0.5 if scale is None else scale
    q, k, v = (op.Transpose(x, perm=[0, 2, 1, 3]) for x in (query, key, value))  # (B, Q, H, E)
    if attn_mask is not None:
        unit = op.Constant(value_float=1.0)
        q = op.Pad(q, op.Constant(value_ints=[0, 0, 0, 0, 0, 0, 0, 1]), unit)  # (B, Q, H, E + 1)
        bias = op.Mul(op.Transpose(attn_mask, perm=[0, 3, 1, 2]), op.Constant(value_float=1 / scale))
        bias = op.Expand(bias, op.Constant(value_ints=[1, 1, heads, 1]))  # (B, K, H, 1)
        k = op.Concat(k, bias, axis=-1)  # (B, K, H, E + 1)
    flat = op.Constant(value_ints=[0, 0, -1])
    q, k, v = (op.Reshape(x, flat) for x in (q, k, v))  # (B, Q, H E)
    seen = _multi_head_attention()(q, k, v, num_heads=heads, scale=scale)  # (B, Q, H E)
    seen = op.Reshape(seen, op.Constant(value_ints=[0, 0, heads, size]))
    return op.Transpose(seen, perm=[0, 2, 1, 3])  # (B, H, Q, E)


def plain_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Build standard ONNX in the form that OpenVINO turns into one operator, mask included.

    Opset 20 is enough: the Attention operator of opset 23 ran at the same speed and size there (0.6 s and
    190 MB at 6,000 tokens, width 256).
    """
    _check_supported(attn_mask, is_causal, enable_gqa)
    scale = int(query.shape[3]) ** -0.5 if scale is None else scale
    scores = op.MatMul(
        op.Mul(query, op.Constant(value_float=scale)), op.Transpose(key, perm=[0, 1, 3, 2])
    )  # (B, H, Q, K)
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _multi_head_attention() -> Any:
    """Define onnxruntime's operator, with what we use of its schema: the onnx package knows only the
    standard."""
    define = onnx.defs.OpSchema
    kinds = onnx.defs.OpSchema.AttrType
    schema = define(
        "MultiHeadAttention",
        MICROSOFT,
        1,
        inputs=[define.FormalParameter(name, "T") for name in ("query", "key", "value")],
        outputs=[define.FormalParameter("output", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "")],
        attributes=[
            define.Attribute("num_heads", kinds.INT, required=True),
            define.Attribute("scale", kinds.FLOAT, required=False),
        ],
    )
    return values.Op(values.Opset(MICROSOFT, 1), "MultiHeadAttention", schema)


def _check_supported(mask: Any, is_causal: bool, enable_gqa: bool) -> None:
    assert not is_causal and not enable_gqa, "our networks use neither"
    assert mask is None or tuple(mask.shape)[1:3] == (1, 1), f"mask must be (B, 1, 1, K), got {mask.shape}"
