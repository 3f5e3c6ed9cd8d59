"""Machines with TensorRT: a fake one of each supported version, or the real one."""

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
from tests.support.bundles import copy_bundle, edit_manifest, replace_file
from tests.support.fake_cuda import FakeDriver, FakeGpu, install_bindings, install_driver
from tests.support.fake_tensorrt import install_tensorrt

NAMES: tuple[GraphName, ...] = ("backbone", "sampler", "reader")
FAKES = ("8.6.1", "10.3.0", "11.4.1")
REAL_PROBLEM = tensorrt_problem()
"""Why the real TensorRT cannot be used here; None if it can."""
VERSIONS = FAKES if REAL_PROBLEM else (*FAKES, "real")


def tensorrt_bundle(folder: Path, precision: str = "fp32") -> Path:
    """Return the shipped bundle with graphs for TensorRT, made of its plain ones as the export does."""
    bundle = copy_bundle(folder)
    opened = Bundle.open(bundle)
    records = {}
    for name in NAMES:
        plain, _ = opened.graph("openvino", name)
        model = ir.from_proto(onnx.load_model_from_string(bytes(plain)))
        to_opset17(model)
        path = f"graphs/tensorrt/{name}.onnx"
        (bundle / path).parent.mkdir(exist_ok=True)
        replace_file(bundle, path, ir.to_proto(model).SerializeToString())
        records[name] = {"path": path, "precision": precision}
    return edit_manifest(bundle, lambda data: data["graphs"].update(tensorrt=records))


@dataclass(frozen=True)
class Machine:
    """A machine that runs a bundle with TensorRT graphs; `gpu` is None for the real one."""

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


def make_machine(monkeypatch: pytest.MonkeyPatch, folder: Path, bundle: Bundle, version: str) -> Machine:
    """Return a fake machine of `version`, or this one for "real"."""
    gpu = None if version == "real" else fake_machine(monkeypatch, folder, version)
    return Machine(bundle, gpu, version)
