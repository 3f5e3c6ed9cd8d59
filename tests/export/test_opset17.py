"""TensorRT's dialect: graphs of opset 20 said in opset 17 compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.onnxruntime_engine import OnnxRuntimeEngine
from export.onnx_graphs.opset17 import to_opset17
from tests.support.tensorrt_machine import NAMES


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    inner = ir.from_proto(model)
    to_opset17(inner)
    out = ir.to_proto(inner)
    onnx.checker.check_model(out, full_check=True)
    assert [(one.domain, one.version) for one in out.opset_import] == [("", 17)]
    return out


def model_of(nodes: str, *, inputs: str, outputs: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_graphs_answer_the_same(name) -> None:
    from tests.engines.test_engines import _feeds

    bundle = Bundle.open(default_bundle())
    plain, _ = bundle.graph("openvino", name)
    model = ir.from_proto(onnx.load_model_from_string(bytes(plain)))
    to_opset17(model)
    ops = {node.op_type for node in model.graph}
    assert not ops & {"CastLike", "Gelu"}
    before = OnnxRuntimeEngine(bytes(plain), bundle.weights(), threads=1)
    after = OnnxRuntimeEngine(ir.to_proto(model).SerializeToString(), bundle.weights(), threads=1)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    feeds = _feeds(before, 0, 2)
    expected, got = before(feeds), after(feeds)
    for output in expected:
        np.testing.assert_allclose(got[output], expected[output], atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs"),
    [
        (
            "axes = Constant<value_ints = [1, -1]>() y = ReduceMean<keepdims = 0>(x, axes)",
            "float[2,3,4] x",
            "float[2] y",
        ),
        ("y = ReduceMax(x)", "float[2,3,4] x", "float[1,1,1] y"),
        ("y = Gelu(x)", "float[2,3] x", "float[2,3] y"),
        ("y = Gelu(x)", "float16[2,3] x", "float16[2,3] y"),
        ("y = CastLike(x, z)", "float[2,3] x, int32[1] z", "int32[2,3] y"),
        ("a = Exp(z) b = CastLike(x, a) y = Add(b, z)", "int32[3] x, float[3] z", "float[3] y"),
        ("y = Cast<to = 10, saturate = 1>(x)", "float[2,3] x", "float16[2,3] y"),
        ("t = Transpose<perm = [0, 2, 1]>(x) y = Cast<to = 1>(t)", "uint8[1,2,3] x", "float[1,3,2] y"),
        ("y = GatherElements<axis = 1>(x, i)", "bool[2,3] x, int64[2,2] i", "bool[2,2] y"),
    ],
)  # fmt: skip
def test_what_changed_since_opset_17_is_undone(nodes: str, inputs: str, outputs: str) -> None:
    model = model_of(nodes, inputs=inputs, outputs=outputs)
    rng = np.random.default_rng(0)
    feeds = {}
    for one in model.graph.input:
        kind = onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        feeds[one.name] = (np.abs(rng.normal(size=shape)) * 2).astype(kind)
    if "i" in feeds:
        feeds["i"] = feeds["i"] % 3
    for expected, got in zip(run(model, feeds), run(rewritten(model), feeds), strict=True):
        assert expected.dtype == got.dtype
        np.testing.assert_allclose(got, expected, atol=2e-3 if expected.dtype == np.float16 else 1e-6)


def test_gelu_is_torchs() -> None:
    model = rewritten(model_of("y = Gelu(x)", inputs="float[64] x", outputs="float[64] y"))
    x = torch.linspace(-4, 4, 64)
    np.testing.assert_allclose(run(model, {"x": x.numpy()})[0], nn.functional.gelu(x).numpy(), atol=1e-6)


def test_a_picture_is_cast_before_anything_else_is_done_with_it() -> None:
    model = rewritten(
        model_of(
            "t = Transpose<perm = [0, 2, 1]>(x) y = Cast<to = 1>(t)",
            inputs="uint8[1,2,3] x",
            outputs="float[1,3,2] y",
        )
    )
    assert [node.op_type for node in model.graph.node if "x" in node.input] == ["Cast"]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ('y = Gelu<approximate = "tanh">(x)', "Gelu must not be approximate"),
        ("y = ReduceMean(x, i)", "ReduceMean must have constant axes"),
        ("y, z = Split<axis = 0, num_outputs = 2>(x)", "opset 17.*does not know this Split"),
        ("y = com.microsoft.Gelu(x)", "TensorRT has no operator com.microsoft.Gelu"),
    ],
)
def test_what_opset_17_cannot_say_ends_in_a_sentence(nodes: str, says: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> '
        f"g (float[2,3] x, int64[1] i) => (float[2,3] y) {{ {nodes} }}"
    )
    with pytest.raises(LvmError, match=says) as caught:
        to_opset17(ir.from_proto(model))
    assert "\n" not in str(caught.value)
