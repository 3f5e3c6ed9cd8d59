"""Machines with TensorRT: a fake one of each supported version, or this one. No test in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from engines.bundle import Bundle
from engines.manifest import GraphName
from engines.tensorrt_engine import TensorRTEngine
from engines.tensorrt_load import load_tensorrt
from engines.tensorrt_versions import tensorrt_problem
from export.onnx_graphs.opset17 import to_opset17
from tests.support.bundles import copied, edited, rewritten
from tests.support.fake_cuda import FakeDriver, FakeGpu, install_bindings, install_driver
from tests.support.fake_tensorrt import install_tensorrt

NAMES: tuple[GraphName, ...] = ("backbone", "sampler", "reader")
FAKES = ("8.6.1", "10.3.0", "11.4.1")
REAL_PROBLEM = tensorrt_problem()
"""Why no test can be run on the real TensorRT here; None where that can be."""
VERSIONS = FAKES if REAL_PROBLEM else (*FAKES, "real")


def tensorrt_bundle(folder: Path, precision: str = "fp32") -> Path:
    """The shipped bundle with graphs for TensorRT, spelt from its plain ones as the export spells them."""
    bundle = copied(folder)
    opened = Bundle.open(bundle)
    records = {}
    for name in NAMES:
        plain, _ = opened.graph("openvino", name)
        model = ir.from_proto(onnx.load_model_from_string(bytes(plain)))
        to_opset17(model)
        path = f"graphs/tensorrt/{name}.onnx"
        (bundle / path).parent.mkdir(exist_ok=True)
        rewritten(bundle, path, ir.to_proto(model).SerializeToString())
        records[name] = {"path": path, "precision": precision}
    return edited(bundle, lambda data: data["graphs"].update(tensorrt=records))


@dataclass(frozen=True)
class Machine:
    """Where a bundle with TensorRT graphs can be run; `gpu` is None where it is a real one."""

    bundle: Bundle
    gpu: FakeGpu | None
    version: str

    def load(self, name: GraphName) -> TensorRTEngine:
        return load_tensorrt(self.bundle, name).engine


def fake_machine(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> FakeGpu:
    """Put a fake GPU, its driver, cuda-bindings and TensorRT where imports find them."""
    gpu = FakeGpu()
    install_driver(monkeypatch, FakeDriver())
    install_bindings(monkeypatch, gpu)
    install_tensorrt(monkeypatch, gpu, version)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return gpu


def a_machine(monkeypatch: pytest.MonkeyPatch, folder: Path, bundle: Bundle, version: str) -> Machine:
    """Return a fake machine of `version`, or this one for "real"."""
    gpu = None if version == "real" else fake_machine(monkeypatch, folder, version)
    return Machine(bundle, gpu, version)
