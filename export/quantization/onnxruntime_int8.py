"""Eight bits for onnxruntime: Q/DQ around products, by its own static quantiser."""

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
from export.onnx_graphs.fp32_islands import PRODUCTS, settled
from export.quantization.int8 import Feeds, Operators, Quantised


class OnnxRuntimeQuantiser:
    """Ranges are the least and largest values that `feeds` reach, weights have a scale for each channel.

    Activations are U8 and weights S8 with seven of the eight bits: without VNNI, sums of full ones overflow
    in a kernel's sixteen. `graph` is the fp32 file with its weights beside it; others are left there too.
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
        self._operators = Operators.of(graph, keep)
        left = {str(node.name) for node in ir.load(self._folded).graph}
        left |= {str(node.name) for node in settled(ir.load(graph).graph)}  # computed in fp32 just now
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
        calibrator.collect_data(_Reader(feeds))
        self._ranges = calibrator.compute_data()

    @property
    def parameters(self) -> Sequence[str]:
        return list(self._operators.free)

    def quantised(self, keep: Collection[str] = ()) -> Quantised:
        quantizer = QDQQuantizer(
            load_model_with_shape_infer(self._folded),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=self._operators.kept(keep),
            extra_options={},
            op_types_to_quantize=list(PRODUCTS),
        )
        quantizer.quantize_model()
        return Quantised(bytes(quantizer.model.model.SerializeToString(deterministic=True)))

    def load(self, quantised: Quantised) -> Engine:
        return OnnxRuntimeEngine(quantised.graph, None, threads=usable_cores())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)
