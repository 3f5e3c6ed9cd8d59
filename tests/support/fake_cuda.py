"""A GPU simulated in Python, behind the two packages through which the engine uses one.

It is strict where a real one is silent or ends the process. What is enqueued runs when the stream is waited
for and not before, so a host buffer that is read too early holds what it held; host memory that is not
pinned, addresses that were never allocated and copies beyond an allocation are errors.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

import engines.cuda

Work = Callable[[], None]


class Refused(Exception):
    """What a driver answers with a status; the fakes turn it into one."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class FakeGpu:
    """Memory, streams and graphs of one device."""

    def __init__(self, name: str = "Fake Orin", capability: tuple[int, int] = (8, 7)) -> None:
        self.name, self.capability = name, capability
        self.free_bytes = 1 << 34
        self.can_capture = True
        self.launches = 0
        """CUDA graphs replayed so far."""
        self.driver = 1
        self.out_of_memory_at_build = False
        self.builds = 0
        self._memory: dict[int, bytearray] = {}
        self._pinned: dict[int, Any] = {}
        self._streams: dict[int, list[Work]] = {}
        self._capturing: dict[int, int] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._next = 1 << 48

    @property
    def held(self) -> int:
        """Things that were not given back."""
        return len(self._memory) + len(self._pinned) + len(self._streams) + len(self._graphs)

    def _handle(self, room: int = 1) -> int:
        handle = self._next
        self._next += -(-room // 256) * 256 + 256  # never adjacent: nothing runs over into a neighbour
        return handle

    def allocate(self, size: int) -> int:
        if size > self.free_bytes:
            raise Refused(2, "out of memory")
        address = self._handle(size)
        self._memory[address] = bytearray(size)
        return address

    def free(self, address: int) -> None:
        if self._memory.pop(address, None) is None:
            raise Refused(1, "invalid argument")

    def pinned(self, size: int) -> int:
        memory = (ctypes.c_uint8 * size)()
        ctypes.memset(memory, 0xA5, size)  # nobody promises zeros
        self._pinned[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free_pinned(self, address: int) -> None:
        if self._pinned.pop(address, None) is None:
            raise Refused(1, "invalid argument")

    def device_bytes(self, address: int, size: int) -> memoryview:
        """What lies at an address inside of one allocation."""
        for base, memory in self._memory.items():
            if base <= address and address + size <= base + len(memory):
                return memoryview(memory)[address - base : address - base + size]
        raise Refused(700, "an illegal memory access was encountered")

    def _host_bytes(self, address: int, size: int) -> Any:
        for base, memory in self._pinned.items():
            if base <= address and address + size <= base + len(memory):
                return memoryview(memory).cast("B")[address - base : address - base + size]
        raise Refused(1, "host memory is not pinned")

    def stream(self) -> int:
        stream = self._handle()
        self._streams[stream] = []
        return stream

    def free_stream(self, stream: int) -> None:
        if self._streams.pop(stream, None) is None:
            raise Refused(400, "invalid resource handle")

    def capturing(self, stream: int) -> bool:
        return stream in self._capturing

    def enqueue(self, stream: int, work: Work) -> None:
        if type(stream) is not int or stream not in self._streams:
            raise Refused(400, "invalid resource handle")
        self._streams[stream].append(work)

    def copy(self, target: int, source: int, size: int, to_device: bool, stream: int) -> None:
        host = self._host_bytes(source if to_device else target, size)
        device = self.device_bytes(target if to_device else source, size)

        def work() -> None:
            if to_device:
                device[:] = host
            else:
                host[:] = device

        self.enqueue(stream, work)

    def wait(self, stream: int) -> None:
        if stream in self._capturing:
            raise Refused(906, "operation not permitted when stream is capturing")
        queue = self._streams[stream]
        while queue:
            queue.pop(0)()

    def begin_capture(self, stream: int) -> None:
        if self._streams[stream]:
            raise AssertionError("the stream was not waited for before its capture")
        self._capturing[stream] = threading.get_ident()

    def end_capture(self, stream: int) -> int:
        if self._capturing.pop(stream, None) != threading.get_ident():
            raise Refused(901, "operation failed due to a previous error during capture")
        work, self._streams[stream] = self._streams[stream], []
        if not self.can_capture:
            raise Refused(901, "operation failed due to a previous error during capture")
        graph = self._handle()
        self._graphs[graph] = work
        return graph

    def instantiate(self, graph: int) -> int:
        executable = self._handle()
        self._graphs[executable] = list(self._graphs[graph])
        return executable

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        for work in self._graphs[graph]:
            self.enqueue(stream, work)

    def free_graph(self, graph: int) -> None:
        if self._graphs.pop(graph, None) is None:
            raise Refused(1, "invalid argument")


class FakeDriver:
    """libcuda.so.1 as ctypes shows it."""

    def __init__(self, status: int = 0, devices: int = 1) -> None:
        self._status, self._devices = status, devices

    def cuInit(self, flags: int) -> int:
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._devices
        return 0


def install_driver(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> None:
    """Let ctypes find `driver` as libcuda.so.1."""
    found = ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, *a, **k: driver if name == "libcuda.so.1" else found(name, *a, **k)
    )


def install_bindings(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> None:
    """cuda-bindings over `gpu`."""
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    runtime = _runtime(gpu)
    package.__path__, bindings.__path__ = [], []  # type: ignore[attr-defined]
    package.bindings, bindings.runtime = bindings, runtime  # type: ignore[attr-defined]
    for module in (package, bindings, runtime):
        module.__spec__ = importlib_spec(module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    engines.cuda.open_cuda.cache_clear()


def install_pycuda(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> None:
    """pycuda, and nothing else, over `gpu`."""
    package, driver = types.ModuleType("pycuda"), _pycuda_driver(gpu)
    package.__path__ = []  # type: ignore[attr-defined]
    package.driver = driver  # type: ignore[attr-defined]
    for module in (package, driver):
        module.__spec__ = importlib_spec(module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "cuda", None)  # type: ignore[arg-type]
    engines.cuda.open_cuda.cache_clear()


def importlib_spec(name: str) -> Any:
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, None)


def _runtime(gpu: FakeGpu) -> types.ModuleType:
    """cuda.bindings.runtime: every function returns its status first."""

    class cudaError_t(IntEnum):
        cudaSuccess = 0
        cudaErrorInvalidValue = 1
        cudaErrorMemoryAllocation = 2
        cudaErrorInvalidResourceHandle = 400
        cudaErrorIllegalAddress = 700
        cudaErrorStreamCaptureInvalidated = 901
        cudaErrorStreamCaptureImplicit = 906

    class cudaMemcpyKind(IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode(IntEnum):
        cudaStreamCaptureModeThreadLocal = 1

    class Handle:
        """Streams and graphs are objects that can be made an int, or an int."""

        def __init__(self, value: int) -> None:
            self._value = value

        def __int__(self) -> int:
            return self._value

    said: dict[int, str] = {}

    def answered(function: Callable[..., Any], handle: bool = False) -> Callable[..., tuple[Any, ...]]:
        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                value = function(*(int(a) if isinstance(a, Handle) else a for a in arguments))
            except Refused as error:
                said[error.status] = str(error)
                return (cudaError_t(error.status), None) if handle else (cudaError_t(error.status),)
            if value is None:
                return (cudaError_t.cudaSuccess,)
            return (cudaError_t.cudaSuccess, Handle(value) if handle else value)

        return call

    def copy(target: int, source: int, size: int, kind: cudaMemcpyKind, stream: int) -> None:
        if not isinstance(kind, cudaMemcpyKind):
            raise TypeError("kind must be a cudaMemcpyKind")
        gpu.copy(target, source, size, kind == cudaMemcpyKind.cudaMemcpyHostToDevice, int(stream))

    def begin(stream: int, mode: cudaStreamCaptureMode) -> None:
        if not isinstance(mode, cudaStreamCaptureMode):
            raise TypeError("mode must be a cudaStreamCaptureMode")
        gpu.begin_capture(stream)

    properties = types.SimpleNamespace(
        name=gpu.name.encode() + b"\0\0", major=gpu.capability[0], minor=gpu.capability[1]
    )
    runtime = types.ModuleType("cuda.bindings.runtime")
    functions: dict[str, Any] = {
        "cudaError_t": cudaError_t,
        "cudaMemcpyKind": cudaMemcpyKind,
        "cudaStreamCaptureMode": cudaStreamCaptureMode,
        "cudaStreamNonBlocking": 1,
        "cudaGetDeviceProperties": answered(lambda device: properties),
        "cudaGetErrorString": lambda status: (cudaError_t.cudaSuccess, said[int(status)].encode()),
        "cudaStreamCreateWithFlags": answered(lambda flags: gpu.stream(), handle=True),
        "cudaStreamDestroy": answered(gpu.free_stream),
        "cudaMalloc": answered(gpu.allocate),
        "cudaFree": answered(gpu.free),
        "cudaMallocHost": answered(gpu.pinned),
        "cudaFreeHost": answered(gpu.free_pinned),
        "cudaMemcpyAsync": answered(copy),
        "cudaStreamSynchronize": answered(gpu.wait),
        "cudaStreamBeginCapture": answered(begin),
        "cudaStreamEndCapture": answered(gpu.end_capture, handle=True),
        "cudaGraphInstantiate": answered(lambda graph, flags: gpu.instantiate(graph), handle=True),
        "cudaGraphLaunch": answered(gpu.launch),
        "cudaGraphDestroy": answered(gpu.free_graph),
        "cudaGraphExecDestroy": answered(gpu.free_graph),
    }
    for name, function in functions.items():
        setattr(runtime, name, function)
    return runtime


def _pycuda_driver(gpu: FakeGpu) -> types.ModuleType:
    """pycuda.driver: everything but init and Device needs a current context in the calling thread."""
    current = threading.local()

    class Error(Exception):
        pass

    class MemoryError_(Error):
        pass

    def needs_context(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not getattr(current, "depth", 0):
                raise Error("invalid device context")
            try:
                return function(*arguments)
            except Refused as error:
                raise (MemoryError_ if error.status == 2 else Error)(str(error)) from error

        return call

    class Context:
        def push(self) -> None:
            current.depth = getattr(current, "depth", 0) + 1

        @staticmethod
        def pop() -> None:
            current.depth -= 1

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return gpu.capability

        def retain_primary_context(self) -> Context:
            return Context()

    class Stream:
        @needs_context
        def __init__(self) -> None:
            self.handle = gpu.stream()

        @needs_context
        def synchronize(self) -> None:
            gpu.wait(self.handle)

        def __del__(self) -> None:
            gpu.free_stream(self.handle)

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self._address = gpu.allocate(size)

        def __int__(self) -> int:
            return self._address

        @needs_context
        def free(self) -> None:
            gpu.free(self._address)

    class PagelockedHostAllocation:
        def __init__(self, size: int) -> None:
            self._address = gpu.pinned(size)
            self.__array_interface__ = {
                "shape": (size,), "typestr": "|u1", "data": (self._address, False), "version": 3,
            }  # fmt: skip

        @needs_context
        def free(self) -> None:
            gpu.free_pinned(self._address)

    def upload(device: int, host: Any, stream: Stream) -> None:
        gpu.copy(device, host.ctypes.data, host.nbytes, True, stream.handle)

    def download(host: Any, device: int, stream: Stream) -> None:
        gpu.copy(host.ctypes.data, device, host.nbytes, False, stream.handle)

    driver = types.ModuleType("pycuda.driver")
    names: dict[str, Any] = {
        "Error": Error,
        "MemoryError": MemoryError_,
        "init": lambda: None,
        "Device": Device,
        "Context": Context,
        "Stream": Stream,
        "mem_alloc": needs_context(DeviceAllocation),
        "pagelocked_empty": needs_context(lambda size, dtype: np.asarray(PagelockedHostAllocation(size))),
        "memcpy_htod_async": needs_context(upload),
        "memcpy_dtoh_async": needs_context(download),
    }
    for name, value in names.items():
        setattr(driver, name, value)
    return driver
