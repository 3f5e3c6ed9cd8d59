"""Express attention for each target so that no N x N matrix is ever materialised.

B batch, H heads, Q query tokens, K key tokens, E head size.

The functions take and return symbolic ONNX values: torch's exporter calls them in place of
`scaled_dot_product_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx.defs
from onnxscript import opset20, values

from engines.manifest import Target

OPSET = 20
MICROSOFT = "com.microsoft"
op: Any = opset20  # its own annotations refuse what its functions return


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
