"""Build the ONNX graphs of the three networks.

A graph holds no parameters. Each is an initialiser, named as in `weights.safetensors`, whose data lie in that
file exactly as torch stores them, or rounded to half precision. So all targets share one copy, and a backend
folds transposes and normalisations when it loads the graph.
"""

from __future__ import annotations

import warnings
from typing import Any

import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes
from torch.export import Dim, ExportedProgram

from engines.manifest import GRAPHS, GraphName, Target
from engines.network_config import NetworkConfig
from export.networks.model import LvmNet
from export.networks.signatures import BATCH, graph_inputs, graph_outputs
from export.onnx_graphs.attention_ops import OPSET, select_attention
from export.onnx_graphs.external_weights import WEIGHTS, ByteRange
from export.onnx_graphs.fp16 import HALF
from export.onnx_graphs.opset17 import to_opset17

_IR_VERSION = 10  # what opset 20 needs; onnxruntime 1.23 and OpenVINO 2025 read it
_MAX_CONSTANT_BYTES = 1 << 20


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
