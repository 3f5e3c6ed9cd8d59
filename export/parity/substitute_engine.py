"""Load the engine that an exported graph is compared through, also where its target cannot run."""

from __future__ import annotations

from engines.bundle import Bundle
from engines.manifest import GraphName, Target
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.select import load_engine, usable_cores
from engines.spec import Engine
from engines.tensorrt_versions import tensorrt_problem


def load_for_comparison(bundle: Bundle, name: GraphName, target: Target) -> tuple[Engine, str | None]:
    """Load an engine for the graph. Return also its name where it is not the target's own.

    TensorRT's graphs are standard ONNX, so where there is no GPU onnxruntime on the CPU runs the same file.
    That proves the graph, not what TensorRT makes of it.
    """
    if target != "tensorrt" or tensorrt_problem() is None:
        return load_engine(bundle, name, target), None
    graph, _ = bundle.graph(target, name)
    engine = OnnxRuntimeEngine(graph, bundle.weights(), threads=usable_cores())
    return engine, engine.backend
