"""Eight-bit graphs: each engine's own quantiser, because none reads well what another has written.

onnxruntime gets Q/DQ pairs from its own static quantiser, OpenVINO its intermediate representation from nncf
(onnxruntime's Q/DQ file, read by OpenVINO, was wrong: cosine 0.93). Such graphs carry their weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from engines.errors import LvmError, Missing
from engines.manifest import GraphName
from engines.spec import Array
from export.islands import PRODUCTS, makers_of_scores, users_of

Feeds = Sequence[dict[str, Array]]


def quantised_for_onnxruntime(graph: Path, feeds: Feeds, keep: Sequence[str]) -> bytes:
    """`graph` (fp32, its weights beside it) with Q/DQ around products, ranges from `feeds`, as ONNX.

    Two files are left beside it.

    Weights get seven of the eight bits: without VNNI, sums of full ones overflow in a kernel's sixteen.
    """
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._feeds, None)

    # Beside the graph: what is folded still points at its weights.
    folded, done = graph.with_name("folded.onnx"), graph.with_name("done.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Normalisations are folded into convolutions, and transposed weights into products.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    kept, left = _islands(graph, keep), {node.name for node in ir.load(folded).graph}
    if lost := sorted(set(kept) - left):
        raise LvmError(f"{lost[0]} cannot stay fp32 in onnxruntime, which folds it; keep another parameter")
    quantize_static(
        str(folded),
        str(done),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(PRODUCTS),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
    )
    return bytes(onnx.load(str(done)).SerializeToString(deterministic=True))


def quantised_for_openvino(
    graph: Path, name: GraphName, feeds: Feeds, keep: Sequence[str]
) -> tuple[bytes, bytes]:
    """`graph` through nncf: OpenVINO's representation and its weights. Raises Missing without nncf."""
    try:
        import nncf
        import openvino as ov
    except ImportError as error:
        raise Missing('int8 for OpenVINO needs nncf; pip install "lvm-edge[export]"') from error
    nncf.set_log_level(40)
    model = ov.Core().read_model(graph, config={"ENABLE_MMAP": False})
    known = {operator.get_friendly_name() for operator in model.get_ops()}
    ignored = nncf.IgnoredScope(names=[one for one in _islands(graph, keep) if one in known], validate=False)
    quantised = nncf.quantize(
        model,
        nncf.Dataset(list(_single(feeds))),
        subset_size=sum(len(next(iter(one.values()))) for one in feeds),
        model_type=None if name == "backbone" else nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=ignored,
    )
    with tempfile.TemporaryDirectory(prefix="lvm-export-") as folder:
        path = Path(folder) / "graph.xml"
        ov.save_model(quantised, str(path), compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _single(feeds: Feeds) -> Iterator[dict[str, Array]]:
    """One sample after the other."""
    for one in feeds:
        for row in range(len(next(iter(one.values())))):
            yield {name: np.ascontiguousarray(array[row : row + 1]) for name, array in one.items()}


def _islands(graph: Path, keep: Sequence[str]) -> list[str]:
    """Names of the products that stay in full precision."""
    model = ir.load(graph)
    nodes = makers_of_scores(model.graph) | users_of(model.graph, keep)
    return sorted(str(node.name) for node in nodes if node.op_type in PRODUCTS)
