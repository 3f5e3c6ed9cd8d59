"""onnxruntime goes on with the CPU where a provider cannot start; an engine must not hide that."""

from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.config.paths import default_bundle
from engines import onnxruntime_engine
from engines.bundle import Bundle
from engines.errors import CannotBuild
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.select import load_engines

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime with CUDA on a machine that lacks a library of it: all it does is to warn in its log."""
    real = onnxruntime_engine.ort.InferenceSession

    def session(graph: bytes, options: Any, providers: list[str]) -> Any:
        return real(graph, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime_engine.ort, "InferenceSession", session)
    monkeypatch.setattr("engines.select.providers", lambda: (CUDA, CPU))
    monkeypatch.setattr("engines.select.tensorrt_problem", lambda: "no TensorRT")


def test_an_engine_that_fell_back_to_the_cpu_is_refused(without_cudnn: None) -> None:
    bundle = Bundle.open(default_bundle())
    graph, _ = bundle.graph("onnxruntime", "sampler")
    with pytest.raises(CannotBuild, match=f"onnxruntime has {CUDA} but cannot start it here"):
        OnnxRuntimeEngine(graph, bundle.weights(), provider=CUDA, threads=1)
    OnnxRuntimeEngine(graph, bundle.weights(), threads=1).close()


def test_auto_goes_on_to_the_next_backend_and_says_so(
    without_cudnn: None, caplog: pytest.LogCaptureFixture
) -> None:
    choice, engines = load_engines(Bundle.open(default_bundle()), threads=1)
    for engine in engines.values():
        engine.close()
    assert choice.backend in ("openvino", "onnxruntime")
    assert "onnxruntime-cuda" in choice.why and "cannot start it here" in choice.why
    assert "onnxruntime-cuda cannot be used" in caplog.text
