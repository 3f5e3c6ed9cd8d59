"""Names and numbers that differ between versions of TensorRT, and what all of them have in common."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

import numpy as np
import onnx

from tests.support.fake_cuda import FakeGpu

OPSETS = {8: 17, 10: 22, 11: 24}
"""The newest ONNX opset that a major version reads."""
NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_, "UINT8": np.uint8,
}  # fmt: skip


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """To be derived from; a subclass has to call this `__init__`, or the C++ side was never made."""

    Severity = Severity

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError('Tried to call pure virtual function "ILogger::log"')


def a_logger(logger: Any) -> Any:
    """The logger itself; TypeError for anything else."""
    if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
        raise TypeError("__init__(): incompatible constructor arguments: logger must be an ILogger")
    return logger


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerType(Enum):
    CONSTANT = 0
    SOFTMAX = 1
    OTHER = 2


class MemoryPoolType(Enum):
    WORKSPACE = 0


class Fake:
    """One version on one GPU."""

    def __init__(self, gpu: FakeGpu, version: str) -> None:
        self.gpu, self.version = gpu, version
        self.major = int(version.split(".")[0])
        self.opset = OPSETS[self.major]
        self.DataType = _data_types(self.major)
        self.BuilderFlag = _builder_flags(self.major)
        self.NetworkDefinitionCreationFlag = _network_flags(self.major)
        self.kinds = _kinds(self.DataType)
        """DataType of each ONNX element type that there is one for."""

    def strongly_typed(self, flags: int) -> bool:
        """Whether a network made with `flags` takes its types from the graph alone."""
        if self.major == 10:
            return bool(flags & 1 << int(self.NetworkDefinitionCreationFlag["STRONGLY_TYPED"]))
        return self.major >= 11

    def nptype(self, trt_type: Any) -> Any:
        if self.major == 8:
            raise AttributeError("module 'numpy' has no attribute 'bool'")  # numpy 1.24 dropped it
        return NUMPY[trt_type.name]


def _data_types(major: int) -> Any:
    names = {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5}
    return Enum("DataType", names | ({"BF16": 7, "INT64": 8} if major >= 10 else {}))


def _kinds(data_types: Any) -> dict[int, Any]:
    names = {
        onnx.TensorProto.FLOAT: "FLOAT",
        onnx.TensorProto.FLOAT16: "HALF",
        onnx.TensorProto.INT8: "INT8",
        onnx.TensorProto.INT32: "INT32",
        # 8.6 reads 64-bit integers as 32-bit ones.
        onnx.TensorProto.INT64: "INT64" if "INT64" in data_types.__members__ else "INT32",
        onnx.TensorProto.BOOL: "BOOL",
        onnx.TensorProto.UINT8: "UINT8",
    }
    return {element: data_types[name] for element, name in names.items()}


def _builder_flags(major: int) -> Any:
    weak = {"FP16": 0, "INT8": 1, "OBEY_PRECISION_CONSTRAINTS": 12}
    return Enum("BuilderFlag", {"TF32": 7} | (weak if major < 11 else {}))


def _network_flags(major: int) -> Any:
    names = {"EXPLICIT_BATCH": 0} if major < 11 else {}
    names |= {"STRONGLY_TYPED": 1} if major == 10 else {}
    return IntEnum("NetworkDefinitionCreationFlag", names | {"PREFER_AOT_PYTHON_PLUGINS": 2})
