"""The part of TensorRT's Python API that is used here, as 8.6, 10 or 11 has it: no test in here.

Written after NVIDIA's API reference and bindings, without the library at hand. Calls in a wrong order, of a
wrong type or of another version fail as they do there: with None, False and a line in the log, or with a
TypeError or AttributeError. A "plan" carries the ONNX file with its weights; enqueueing it runs onnxruntime
when the fake GPU gets there, on what then lies in its memory.
"""

from __future__ import annotations

import json
import sys
import types
import weakref
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fake_cuda import FakeGpu, importlib_spec

import engines.tensorrt_versions
from engines.onnxruntime_engine import session_options

_MAGIC = b"FAKE PLAN\n"
_TIMINGS = b"FAKE TIMINGS "
_MOST_TOP_K = 3840


def install_tensorrt(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, version: str) -> types.ModuleType:
    """Make `import tensorrt` give the fake of `version`."""
    module = make_tensorrt(gpu, version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    engines.tensorrt_versions.open_tensorrt.cache_clear()
    return module


def make_tensorrt(gpu: FakeGpu, version: str) -> types.ModuleType:
    major = int(version.split(".")[0])
    opset = {8: 17, 10: 22, 11: 24}[major]

    class DataType(Enum):
        FLOAT = 0
        HALF = 1
        INT8 = 2
        INT32 = 3
        BOOL = 4
        UINT8 = 5
        if major >= 10:
            BF16 = 7
            INT64 = 8

    kinds = {
        onnx.TensorProto.FLOAT: DataType.FLOAT,
        onnx.TensorProto.FLOAT16: DataType.HALF,
        onnx.TensorProto.INT8: DataType.INT8,
        onnx.TensorProto.INT32: DataType.INT32,
        onnx.TensorProto.INT64: DataType.INT32 if major == 8 else DataType.INT64,
        onnx.TensorProto.BOOL: DataType.BOOL,
        onnx.TensorProto.UINT8: DataType.UINT8,
    }

    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    class ILogger:
        def __init__(self) -> None:
            self._made = True

        def log(self, severity: Severity, msg: str) -> None:
            raise NotImplementedError('Tried to call pure virtual function "ILogger::log"')

    ILogger.Severity = Severity  # type: ignore[attr-defined]

    def a_logger(logger: Any) -> Any:
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

    class BuilderFlag(Enum):
        TF32 = 7
        if major < 11:
            FP16 = 0
            INT8 = 1
            OBEY_PRECISION_CONSTRAINTS = 12

    class NetworkDefinitionCreationFlag(IntEnum):
        if major < 11:
            EXPLICIT_BATCH = 0
        if major == 10:
            STRONGLY_TYPED = 1
        PREFER_AOT_PYTHON_PLUGINS = 2

    class Tensor:
        def __init__(self, name: str, shape: tuple[int, ...], dtype: DataType | None) -> None:
            self.name, self.shape, self.dtype = name, shape, dtype

    class Layer:
        def __init__(self, node: Any, outputs: list[Tensor]) -> None:
            self.name = node.name or node.output[0]
            self.type = {"Constant": LayerType.CONSTANT, "Softmax": LayerType.SOFTMAX}.get(
                node.op_type, LayerType.OTHER
            )
            self._outputs = outputs
            self.pinned: DataType | None = None
            self.pinned_outputs: dict[int, DataType] = {}

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_output(self, index: int) -> Tensor:
            return self._outputs[index]

        if major < 11:

            @property
            def precision(self) -> Any:
                return self.pinned

            @precision.setter
            def precision(self, dtype: DataType) -> None:
                if self.type is LayerType.CONSTANT:
                    raise AssertionError("the precision of a constant is that of its weights")
                self.pinned = dtype

            def set_output_type(self, index: int, dtype: DataType) -> None:
                if not isinstance(dtype, DataType):
                    raise TypeError("dtype must be a DataType")
                self.pinned_outputs[index] = dtype

    class NetworkDefinition:
        def __init__(self, flags: int, logger: Any) -> None:
            self.flags, self.logger = flags, logger
            self.model: Any = None
            self.parser: Any = None
            self._inputs: list[Tensor] = []
            self.layers: list[Layer] = []

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        def get_input(self, index: int) -> Tensor:
            return self._inputs[index]

        @property
        def num_layers(self) -> int:
            return len(self.layers)

        def get_layer(self, index: int) -> Layer:
            return self.layers[index]

    class OptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[list[int]]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            shapes = [list(min), list(opt), list(max)]
            if not all(type(size) is int for shape in shapes for size in shape):
                raise TypeError("shapes must be of int")
            if any(
                a > b
                for low, high in zip(shapes, shapes[1:], strict=False)
                for a, b in zip(low, high, strict=True)
            ):
                raise ValueError("Shape provided for min is inconsistent with other shapes")
            self.shapes[input] = shapes

    class HostMemory(bytes):
        """IHostMemory: what matters of it is that bytes() copies it."""

    class TimingCache:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> HostMemory:
            return HostMemory(self.data)

    class BuilderConfig:
        def __init__(self) -> None:
            self.flags = {BuilderFlag.TF32}
            self.profiles: list[OptimizationProfile] = []
            self.pools: dict[MemoryPoolType, int] = {}
            self.timings: TimingCache | None = None

        def set_flag(self, flag: BuilderFlag) -> None:
            self.flags.add(BuilderFlag(flag))

        def clear_flag(self, flag: BuilderFlag) -> None:
            self.flags.discard(BuilderFlag(flag))

        def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
            self.pools[MemoryPoolType(pool)] = int(pool_size)

        def add_optimization_profile(self, profile: OptimizationProfile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: Any) -> TimingCache:
            data = bytes(memoryview(serialized_timing_cache))
            if data and not data.startswith(_TIMINGS + version.encode()):
                raise AssertionError("TensorRT was given timings that are not its own")
            return TimingCache(data)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            if not isinstance(cache, TimingCache):
                raise TypeError("cache must be an ITimingCache")
            if cache.data and not cache.data.endswith(f" {gpu.driver}".encode()):
                return False
            self.timings = cache
            return True

        def get_timing_cache(self) -> TimingCache | None:
            return self.timings

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = a_logger(logger)

        def create_network(self, flags: int = 0) -> NetworkDefinition:
            known = sum(1 << int(flag) for flag in NetworkDefinitionCreationFlag)
            if flags & ~known:
                raise AssertionError(f"flags {flags:b} are unknown to TensorRT {version}")
            return NetworkDefinition(flags, self._logger)

        def create_builder_config(self) -> BuilderConfig:
            return BuilderConfig()

        def create_optimization_profile(self) -> OptimizationProfile:
            return OptimizationProfile()

        def build_serialized_network(
            self, network: NetworkDefinition, config: BuilderConfig
        ) -> HostMemory | None:
            problem = _problem(network, config)
            if problem is not None:
                self._logger.log(Severity.ERROR, problem)
                return None
            gpu.builds += 1
            timings = config.timings.data if config.timings is not None else b""
            if config.timings is not None:
                config.timings.data = timings or _TIMINGS + f"{version} {gpu.driver}".encode()
            head = {
                "version": version,
                "gpu": gpu.name,
                "driver": gpu.driver,
                "profiles": [profile.shapes for profile in config.profiles],
                "flags": sorted(flag.name for flag in config.flags),
                "workspace": config.pools.get(MemoryPoolType.WORKSPACE),
                "knew_timings": bool(timings),
                "pinned": {layer.name: layer.pinned.name for layer in network.layers if layer.pinned},
            }
            return HostMemory(_MAGIC + json.dumps(head).encode() + b"\n" + network.model.SerializeToString())

    def _problem(network: NetworkDefinition, config: BuilderConfig) -> str | None:
        if network.model is None:
            return "Error Code 4: Network must have at least one output"
        if network.parser() is None:
            return "Error Code 1: weights were freed before the network was built"
        if gpu.out_of_memory_at_build:
            return "Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)"
        strong = major >= 11 or (
            major == 10 and network.flags & 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        if strong and major < 11 and config.flags & {
            BuilderFlag.FP16, BuilderFlag.INT8, BuilderFlag.OBEY_PRECISION_CONSTRAINTS,
        }:  # fmt: skip
            return "Error Code 4: precision flags are not allowed in a strongly typed network"
        if not config.profiles:
            return "Error Code 4: Network has dynamic inputs, but no optimization profile has been defined"
        for profile in config.profiles:
            for tensor in network._inputs:
                if tensor.name not in profile.shapes:
                    return f"Error Code 4: {tensor.name} has no shape in a profile"
                for shape in profile.shapes[tensor.name]:
                    if any(want not in (-1, got) for want, got in zip(tensor.shape, shape, strict=True)):
                        return f"Error Code 4: {tensor.name} cannot be {shape}"
        return None

    class ErrorCode(Enum):
        MODEL_DESERIALIZE_FAILED = 3
        UNSUPPORTED_NODE = 8

    class ParserError:
        def __init__(self, words: str) -> None:
            self._words = words

        def code(self) -> ErrorCode:
            no_model = self._words.startswith("Failed to parse ONNX model")
            return ErrorCode.MODEL_DESERIALIZE_FAILED if no_model else ErrorCode.UNSUPPORTED_NODE

        def desc(self) -> str:
            return self._words

    class OnnxParser:
        def __init__(self, network: NetworkDefinition, logger: Any) -> None:
            a_logger(logger)
            if major == 8 and not network.flags & 1 << int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH):
                raise AssertionError("This version of the ONNX parser only supports explicit batch networks")
            self._network = network
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

        def parse_from_file(self, model: str) -> bool:
            if not isinstance(model, str):
                raise TypeError("parse_from_file(): incompatible function arguments")
            words = self._parse(Path(model))
            if words is not None and major == 8 and words.startswith("Failed to parse ONNX model"):
                self._network.logger.log(Severity.ERROR, words)
            elif words is not None:
                self._errors.append(ParserError(words))
            return words is None

        def _parse(self, path: Path) -> str | None:
            try:
                proto = onnx.load(path)  # with the weights that it names
                onnx.checker.check_model(proto)
            except Exception as error:  # protobuf's and onnx's own, without a common base
                return f"Failed to parse ONNX model from file: {path}\n{type(error).__name__}"
            if not proto.graph.node:
                return f"Failed to parse ONNX model from file: {path}\nno nodes"
            wrong = _unreadable(proto)
            if wrong is not None:
                return wrong
            network = self._network
            network.model, network.parser = proto, weakref.ref(self)
            network._inputs = [
                Tensor(one.name, _dims(one), kinds[one.type.tensor_type.elem_type])
                for one in proto.graph.input
            ]
            inferred = onnx.shape_inference.infer_shapes(proto).graph
            known = {
                one.name: kinds.get(one.type.tensor_type.elem_type)
                for one in (*inferred.value_info, *inferred.output)
            }
            network.layers = [
                Layer(node, [Tensor(name, (), known.get(name)) for name in node.output])
                for node in proto.graph.node
            ]
            return None

    def _unreadable(proto: Any) -> str | None:
        version_of = {one.domain: one.version for one in proto.opset_import}
        if version_of[""] > opset:
            return f"opset {version_of['']} is newer than {opset}"
        pictures = {
            one.name for one in proto.graph.input if one.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        }
        flags = {
            one.name for one in proto.graph.input if one.type.tensor_type.elem_type == onnx.TensorProto.BOOL
        }
        constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
        for node in proto.graph.node:
            if node.domain:
                return f"No importer registered for op: {node.op_type}"
            if pictures & set(node.input) and node.op_type != "Cast":
                return f"{node.op_type}: UINT8 is not supported, cast the input first"
            if node.op_type == "GatherElements" and node.input[0] in flags:
                return "GatherElements: BOOL is not supported"
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
            if node.op_type == "TopK" and int(constants[node.input[1]].reshape(-1)[0]) > _MOST_TOP_K:
                return f"TopK: K exceeds {_MOST_TOP_K}"
        return None

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = a_logger(logger)

        def deserialize_cuda_engine(self, serialized_engine: Any) -> CudaEngine | None:
            data = bytes(memoryview(serialized_engine))
            head, _, model = data.removeprefix(_MAGIC).partition(b"\n")
            if not data.startswith(_MAGIC) or json.loads(head)["version"] != version:
                self._logger.log(Severity.ERROR, "Error Code 1: Serialization (Version tag does not match)")
                return None
            if (json.loads(head)["gpu"], json.loads(head)["driver"]) != (gpu.name, gpu.driver):
                self._logger.log(Severity.ERROR, "Error Code 6: the plan is of an incompatible device")
                return None
            return CudaEngine(json.loads(head), model, self._logger)

    class CudaEngine:
        def __init__(self, head: dict[str, Any], model: bytes, logger: Any) -> None:
            self.head, self.logger = head, logger
            self.session = ort.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
            proto = onnx.load_model_from_string(model)
            values = [(one, TensorIOMode.INPUT) for one in proto.graph.input]
            values += [(one, TensorIOMode.OUTPUT) for one in proto.graph.output]
            self.tensors = {
                one.name: (_dims(one), kinds[one.type.tensor_type.elem_type], mode) for one, mode in values
            }
            self.profiles_in_use: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

        @property
        def num_io_tensors(self) -> int:
            return len(self.tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self.tensors)[index]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.tensors[name][0]

        def get_tensor_dtype(self, name: str) -> DataType:
            return self.tensors[name][1]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return self.tensors[name][2]

        def create_execution_context(self) -> ExecutionContext | None:
            if gpu.free_bytes < 1 << 20:
                self.logger.log(Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")
                return None
            return ExecutionContext(self)

    class ExecutionContext:
        def __init__(self, engine: CudaEngine) -> None:
            self._engine = engine
            self._profile: dict[str, Any] | None = None
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._ran: set[tuple[Any, ...]] = set()

        def _refuse(self, words: str) -> bool:
            self._engine.logger.log(Severity.ERROR, f"Error Code 3: API Usage Error ({words})")
            return False

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            profiles = self._engine.head["profiles"]
            if not 0 <= profile_index < len(profiles):
                return self._refuse(f"profile {profile_index} does not exist")
            if self._engine.profiles_in_use.get(profile_index, self) is not self:
                return self._refuse(f"profile {profile_index} is used by another context")
            gpu.enqueue(stream_handle, lambda: None)
            self._engine.profiles_in_use[profile_index] = self
            self._profile, self._shapes = profiles[profile_index], {}
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            if self._profile is None:
                return self._refuse("no optimization profile was chosen")
            low, _, high = self._profile[name]
            if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
                return self._refuse(f"{name}: {shape} is outside of the profile")
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            dims = self._engine.tensors[name][0]
            if name in self._shapes:
                return self._shapes[name]
            known = [shape[0] for shape in self._shapes.values()]
            inputs = [mode for _, _, mode in self._engine.tensors.values() if mode is TensorIOMode.INPUT]
            return (known[0], *dims[1:]) if len(known) == len(inputs) else dims

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if type(memory) is not int:
                raise TypeError("set_tensor_address(): incompatible function arguments")
            if name not in self._engine.tensors or memory % 256:
                return self._refuse(f"{name}: address {memory}")
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            if type(stream_handle) is not int:
                raise TypeError("execute_async_v3(): incompatible function arguments")
            inputs = [
                name for name, (_, _, mode) in self._engine.tensors.items() if mode is TensorIOMode.INPUT
            ]
            if missing := [name for name in inputs if name not in self._shapes]:
                return self._refuse(f"the shapes of {missing} were not set")
            if missing := [name for name in self._engine.tensors if name not in self._addresses]:
                return self._refuse(f"the addresses of {missing} were not set")
            shapes, addresses = dict(self._shapes), dict(self._addresses)
            told = tuple(sorted(shapes.items()))
            if gpu.capturing(stream_handle) and told not in self._ran:
                return self._refuse("a capture must follow a run of the same shapes")
            self._ran.add(told)
            gpu.enqueue(stream_handle, lambda: self._compute(inputs, shapes, addresses))
            return True

        def _compute(self, inputs: list[str], shapes: dict[str, Any], addresses: dict[str, int]) -> None:
            session = self._engine.session
            feeds = {}
            for name in inputs:
                dtype = _NUMPY[self._engine.tensors[name][1].name]
                size = int(np.prod(shapes[name])) * np.dtype(dtype).itemsize
                raw = bytes(gpu.device_bytes(addresses[name], size))
                feeds[name] = np.frombuffer(raw, dtype).reshape(shapes[name])
            names = [one.name for one in session.get_outputs()]
            for name, array in zip(names, session.run(names, feeds), strict=True):
                gpu.device_bytes(addresses[name], array.nbytes)[:] = np.ascontiguousarray(array).tobytes()

    def nptype(trt_type: DataType) -> Any:
        if major == 8:
            raise AttributeError("module 'numpy' has no attribute 'bool'")  # numpy 1.24 dropped it
        return _NUMPY[trt_type.name]

    module = types.ModuleType("tensorrt")
    module.__spec__ = importlib_spec("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    for one in (
        BuilderFlag, Builder, DataType, ErrorCode, ILogger, LayerType, MemoryPoolType,
        NetworkDefinitionCreationFlag, OnnxParser, Runtime, TensorIOMode, nptype,
    ):  # fmt: skip
        setattr(module, one.__name__, one)
    return module


_NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_, "UINT8": np.uint8,
}  # fmt: skip


def _dims(value: Any) -> tuple[int, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim
    )


def plan_head(plan: bytes) -> dict[str, Any]:
    """What a fake plan was built with."""
    head: dict[str, Any] = json.loads(plan.removeprefix(_MAGIC).partition(b"\n")[0])
    return head
