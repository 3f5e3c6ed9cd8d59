"""Quantise for onnxruntime: Q/DQ around products, by its own static quantiser."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from engines.errors import LvmError
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.select import usable_cores
from engines.spec import Array, Engine
from export.onnx_graphs.fp32_islands import PRODUCTS, find_constant_nodes
from export.quantization.int8 import Feeds, Operators, QuantisedGraph


class OnnxRuntimeQuantiser:
    """Ranges are the minimum and maximum that `feeds` reach; weights have a scale for each channel.

    Activations are U8 and weights S8 with seven of the eight bits: without VNNI, full sums overflow in a
    kernel's sixteen. `graph` is the fp32 file with its weights beside it; temporary files are left there too.
    """

    def __init__(self, graph: Path, feeds: Feeds, keep: Sequence[str]) -> None:
        # Beside the graph: what is folded still points at its weights.
        self._folded = graph.with_name("folded.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Normalisations are folded into convolutions, and transposed weights into products.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(self._folded)
        ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._operators = Operators.from_graph(graph, keep)
        left = {str(node.name) for node in ir.load(self._folded).graph}
        left |= {
            str(node.name) for node in find_constant_nodes(ir.load(graph).graph)
        }  # computed in fp32 just now
        if lost := sorted(set(self._operators.fixed) - left):
            raise LvmError(
                f"{lost[0]} cannot stay fp32 in onnxruntime, which folds it; keep another parameter"
            )
        calibrator = create_calibrator(
            self._folded,
            list(PRODUCTS),
            augmented_model_path=str(graph.with_name("augmented.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_FeedReader(feeds))
        self._ranges = calibrator.compute_data()

    @property
    def parameters(self) -> Sequence[str]:
        return list(self._operators.free)

    def quantise(self, keep: Collection[str] = ()) -> QuantisedGraph:
        quantizer = QDQQuantizer(
            load_model_with_shape_infer(self._folded),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=self._operators.list_fp32(keep),
            extra_options={},
            op_types_to_quantize=list(PRODUCTS),
        )
        quantizer.quantize_model()
        return QuantisedGraph(bytes(quantizer.model.model.SerializeToString(deterministic=True)))

    def load(self, quantised: QuantisedGraph) -> Engine:
        return OnnxRuntimeEngine(quantised.graph, None, threads=usable_cores())


class _FeedReader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)
