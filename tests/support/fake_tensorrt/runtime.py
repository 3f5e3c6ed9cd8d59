"""Plans that run: onnxruntime computes when the fake GPU gets there, on what then lies in its memory."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort

from engines.onnxruntime_engine import session_options
from tests.support.fake_tensorrt.network import dims
from tests.support.fake_tensorrt.plan import unpacked
from tests.support.fake_tensorrt.version import NUMPY, Fake, Severity, TensorIOMode, a_logger


class Runtime:
    fake: ClassVar[Fake]

    def __init__(self, logger: Any) -> None:
        self._logger = a_logger(logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> CudaEngine | None:
        fake, found = self.fake, unpacked(bytes(memoryview(serialized_engine)))
        if found is None or found[0]["version"] != fake.version:
            self._logger.log(Severity.ERROR, "Error Code 1: Serialization (Version tag does not match)")
            return None
        head, model = found
        if (head["gpu"], head["driver"]) != (fake.gpu.name, fake.gpu.driver):
            self._logger.log(Severity.ERROR, "Error Code 6: the plan is of an incompatible device")
            return None
        return CudaEngine(fake, head, model, self._logger)


class CudaEngine:
    def __init__(self, fake: Fake, head: dict[str, Any], model: bytes, logger: Any) -> None:
        self.fake, self.head, self.logger = fake, head, logger
        self.session = ort.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(model).graph
        values = [(one, TensorIOMode.INPUT) for one in graph.input]
        values += [(one, TensorIOMode.OUTPUT) for one in graph.output]
        self.tensors = {
            one.name: (dims(one), fake.kinds[one.type.tensor_type.elem_type], mode) for one, mode in values
        }
        self.profiles_in_use: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    @property
    def inputs(self) -> list[str]:
        return [name for name, (_, _, mode) in self.tensors.items() if mode is TensorIOMode.INPUT]

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name][1]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self.tensors[name][2]

    def create_execution_context(self) -> ExecutionContext | None:
        if self.fake.gpu.free_bytes < 1 << 20:
            self.logger.log(Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")
            return None
        return ExecutionContext(self)


class ExecutionContext:
    """Told a profile, then shapes and addresses, then run: each only after what it needs."""

    def __init__(self, engine: CudaEngine) -> None:
        self._engine, self._gpu = engine, engine.fake.gpu
        self._profile: dict[str, Any] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._ran: set[tuple[Any, ...]] = set()

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        profiles = self._engine.head["profiles"]
        if not 0 <= profile_index < len(profiles):
            return self._refuse(f"profile {profile_index} does not exist")
        if self._engine.profiles_in_use.get(profile_index, self) is not self:
            return self._refuse(f"profile {profile_index} is used by another context")
        self._gpu.enqueue(stream_handle, lambda: None)
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
        shape = self._engine.get_tensor_shape(name)
        if name in self._shapes:
            return self._shapes[name]
        known = [one[0] for one in self._shapes.values()]
        return (known[0], *shape[1:]) if len(known) == len(self._engine.inputs) else shape

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
        if missing := [name for name in self._engine.inputs if name not in self._shapes]:
            return self._refuse(f"the shapes of {missing} were not set")
        if missing := [name for name in self._engine.tensors if name not in self._addresses]:
            return self._refuse(f"the addresses of {missing} were not set")
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        told = tuple(sorted(shapes.items()))
        if self._gpu.capturing(stream_handle) and told not in self._ran:
            return self._refuse("a capture must follow a run of the same shapes")
        self._ran.add(told)
        self._gpu.enqueue(stream_handle, lambda: self._compute(shapes, addresses))
        return True

    def _refuse(self, words: str) -> bool:
        self._engine.logger.log(Severity.ERROR, f"Error Code 3: API Usage Error ({words})")
        return False

    def _compute(self, shapes: dict[str, Any], addresses: dict[str, int]) -> None:
        session = self._engine.session
        feeds = {}
        for name in self._engine.inputs:
            dtype = NUMPY[self._engine.get_tensor_dtype(name).name]
            size = int(np.prod(shapes[name])) * np.dtype(dtype).itemsize
            raw = bytes(self._gpu.device_bytes(addresses[name], size))
            feeds[name] = np.frombuffer(raw, dtype).reshape(shapes[name])
        names = [one.name for one in session.get_outputs()]
        for name, array in zip(names, session.run(names, feeds), strict=True):
            self._gpu.device_bytes(addresses[name], array.nbytes)[:] = np.ascontiguousarray(array).tobytes()
