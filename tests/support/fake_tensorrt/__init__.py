"""The part of TensorRT's Python API that the engine uses, as in versions 8.6, 10 or 11.

Written after NVIDIA's API reference and bindings, without the library at hand. Calls in a wrong order, of a
wrong type or of another version fail as they do there: with None, False and a line in the log, or with a
TypeError or AttributeError. A "plan" carries the ONNX file with its weights; enqueueing it runs onnxruntime
when the fake GPU gets there, on what then lies in its memory.

    version.py   names and numbers that differ between versions; the logger
    network.py   networks, layers, profiles
    parser.py    ONNX files, and what of them a version reads
    builder.py   configurations, timings, building
    plan.py      bytes of a plan
    runtime.py   plans that run

Classes that the fake module shows need the fake's version and GPU, which no caller passes: each module gets
subclasses of its own, of which `fake` is a class attribute.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import engines.tensorrt_versions
from tests.support.fake_cuda import FakeGpu, importlib_spec
from tests.support.fake_tensorrt.builder import Builder
from tests.support.fake_tensorrt.parser import ErrorCode, OnnxParser
from tests.support.fake_tensorrt.plan import plan_head
from tests.support.fake_tensorrt.runtime import Runtime
from tests.support.fake_tensorrt.version import Fake, ILogger, LayerType, MemoryPoolType, TensorIOMode

__all__ = ["install_tensorrt", "make_tensorrt", "plan_head"]


def install_tensorrt(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, version: str) -> types.ModuleType:
    """Make `import tensorrt` give the fake of `version`."""
    module = make_tensorrt(gpu, version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    engines.tensorrt_versions.open_tensorrt.cache_clear()
    return module


def make_tensorrt(gpu: FakeGpu, version: str) -> types.ModuleType:
    """A module like tensorrt of `version` on `gpu`."""
    fake = Fake(gpu, version)
    module = types.ModuleType("tensorrt")
    module.__spec__ = importlib_spec("tensorrt")
    names: dict[str, Any] = {
        "__version__": version,
        "BuilderFlag": fake.BuilderFlag,
        "DataType": fake.DataType,
        "ErrorCode": ErrorCode,
        "ILogger": ILogger,
        "LayerType": LayerType,
        "MemoryPoolType": MemoryPoolType,
        "NetworkDefinitionCreationFlag": fake.NetworkDefinitionCreationFlag,
        "TensorIOMode": TensorIOMode,
        "nptype": fake.nptype,
    }
    for shown in (Builder, OnnxParser, Runtime):
        names[shown.__name__] = type(shown.__name__, (shown,), {"fake": fake})
    for name, value in names.items():
        setattr(module, name, value)
    return module
