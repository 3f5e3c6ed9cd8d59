"""Offer the part of CUDA that an engine needs, through whichever package is installed.

cuda-bindings (also as cuda-python) is preferred, as it can capture graphs; pycuda, which some Jetson images
bring, works without. The driver is checked through ctypes before either is imported: a machine without a
driver gets a sentence.

Device 0 of this process is used; CUDA_VISIBLE_DEVICES says which one that is.
"""

from __future__ import annotations

import ctypes
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineFault, Unavailable

_NO_DEVICE = 100
_OUT_OF_MEMORY = 2

Bytes = NDArray[np.uint8]


class CudaFault(EngineFault):
    """A call of CUDA failed."""


class CudaOutOfMemory(CudaFault):
    """The device, or the host's memory that can be pinned, has too little left."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that a plan is tied to: name and compute capability, as "8.7"."""

    name: str
    compute_capability: str


class Cuda(ABC):
    """Device memory, pinned host memory, one stream's copies and graphs. Addresses and streams are integers.

    Every method raises CudaFault where the driver refuses, CudaOutOfMemory where memory is short.
    """

    package: str
    can_capture: bool

    @abstractmethod
    def gpu(self) -> Gpu: ...

    @abstractmethod
    def active(self) -> AbstractContextManager[None]:
        """Let the calling thread use the device inside `with`. All other methods but `gpu` need it."""

    @abstractmethod
    def stream(self) -> int:
        """Create a stream."""

    @abstractmethod
    def free_stream(self, stream: int) -> None: ...

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Allocate `size` bytes on the device."""

    @abstractmethod
    def free(self, address: int) -> None: ...

    @abstractmethod
    def pinned(self, size: int) -> Bytes:
        """Allocate `size` bytes of host memory that the device reads and writes by itself."""

    @abstractmethod
    def free_pinned(self, memory: Bytes) -> None: ...

    @abstractmethod
    def upload(self, device: int, host: Bytes, stream: int) -> None:
        """Enqueue a copy of all of `host` (pinned)."""

    @abstractmethod
    def download(self, host: Bytes, device: int, stream: int) -> None:
        """Enqueue a copy into all of `host` (pinned); it may be read after `wait`."""

    @abstractmethod
    def wait(self, stream: int) -> None:
        """Wait until everything that was enqueued is done."""

    @abstractmethod
    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """Capture what `enqueue` puts into the stream as a graph to replay; nothing runs now."""

    @abstractmethod
    def replay(self, graph: Any, stream: int) -> None:
        """Enqueue a captured graph."""

    @abstractmethod
    def free_graph(self, graph: Any) -> None: ...


def driver_problem() -> str | None:
    """Return why no GPU can be used here; None where it can.

    TensorRT may end the process where there is no driver, so this calls the driver itself.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        return "the NVIDIA driver finds no GPU"
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit gives error {status})"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value < 1:
        return "the NVIDIA driver finds no GPU"
    return None


def package_problem() -> str | None:
    """Return why device memory cannot be reached from Python; None where it can. Imports nothing."""
    if any(_installed(name) for name in ("cuda.bindings", "cuda.cudart", "pycuda")):
        return None
    return "neither cuda-bindings nor pycuda is installed (pip install cuda-bindings)"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@cache
def open_cuda() -> Cuda:
    """Return the process's CUDA, through the installed package. Raises Unavailable in one sentence."""
    reason = driver_problem() or package_problem()
    if reason is not None:
        raise Unavailable(f"CUDA cannot be used here: {reason}")
    runtime = _runtime_bindings()
    if runtime is not None:
        return _Bindings(runtime)
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise Unavailable(
            f"CUDA cannot be used here: neither cuda-bindings nor pycuda can be imported ({error})"
        ) from error
    return _PyCuda(driver)


def _runtime_bindings() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime  # before cuda-python 12.6
        except ImportError:
            return None
    return runtime


class _Bindings(Cuda):
    """CUDA's runtime API: every thread has the device's primary context already."""

    can_capture = True

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.package = "cuda-bindings"

    def gpu(self) -> Gpu:
        (properties,) = self._call(self._runtime.cudaGetDeviceProperties(0))
        name = properties.name
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return Gpu(text.rstrip("\0"), f"{properties.major}.{properties.minor}")

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stream(self) -> int:
        # A blocking stream would wait for the process's other work on the default stream.
        flags = self._runtime.cudaStreamNonBlocking
        (stream,) = self._call(self._runtime.cudaStreamCreateWithFlags(flags))
        return int(stream)

    def free_stream(self, stream: int) -> None:
        self._call(self._runtime.cudaStreamDestroy(stream))

    def allocate(self, size: int) -> int:
        (address,) = self._call(self._runtime.cudaMalloc(size))
        return int(address)

    def free(self, address: int) -> None:
        self._call(self._runtime.cudaFree(address))

    def pinned(self, size: int) -> Bytes:
        (address,) = self._call(self._runtime.cudaMallocHost(size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def free_pinned(self, memory: Bytes) -> None:
        self._call(self._runtime.cudaFreeHost(memory.ctypes.data))

    def upload(self, device: int, host: Bytes, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync(device, host.ctypes.data, host.nbytes, kind, stream))

    def download(self, host: Bytes, device: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._runtime.cudaMemcpyAsync(host.ctypes.data, device, host.nbytes, kind, stream))

    def wait(self, stream: int) -> None:
        self._call(self._runtime.cudaStreamSynchronize(stream))

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        # Thread-local: other engines may allocate and run in their own threads meanwhile.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._runtime.cudaStreamBeginCapture(stream, mode))
        try:
            enqueue()
        except BaseException:
            # The stream must leave the capture in any case; the first error is the one to raise.
            ended = self._runtime.cudaStreamEndCapture(stream)
            if int(ended[0]) == 0:
                self._call(self._runtime.cudaGraphDestroy(ended[1]))
            raise
        (graph,) = self._call(self._runtime.cudaStreamEndCapture(stream))
        try:
            (executable,) = self._call(self._runtime.cudaGraphInstantiate(graph, 0))
        finally:
            self._call(self._runtime.cudaGraphDestroy(graph))
        return executable

    def replay(self, graph: Any, stream: int) -> None:
        self._call(self._runtime.cudaGraphLaunch(graph, stream))

    def free_graph(self, graph: Any) -> None:
        self._call(self._runtime.cudaGraphExecDestroy(graph))

    def _call(self, result: Sequence[Any]) -> tuple[Any, ...]:
        """Return the values that follow a call's status. Raises CudaFault."""
        status, values = result[0], tuple(result[1:])
        if int(status) == 0:
            return values
        text = self._runtime.cudaGetErrorString(status)[1]
        message = text.decode() if isinstance(text, bytes) else str(text)
        if int(status) == _OUT_OF_MEMORY:
            raise CudaOutOfMemory(f"CUDA: {message}")
        raise CudaFault(f"CUDA: {message} (error {int(status)})")


class _PyCuda(Cuda):
    """CUDA's driver API through pycuda: a thread must enter the context of TensorRT, the primary one."""

    can_capture = False  # pycuda has no graphs

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        driver.init()
        self._device = driver.Device(0)
        self._context = self._device.retain_primary_context()
        self._allocations: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self.package = "pycuda"

    def gpu(self) -> Gpu:
        major, minor = self._device.compute_capability()
        return Gpu(str(self._device.name()), f"{major}.{minor}")

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def stream(self) -> int:
        stream = self._call(self._driver.Stream)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def free_stream(self, stream: int) -> None:
        del self._streams[stream]

    def allocate(self, size: int) -> int:
        allocation = self._call(self._driver.mem_alloc, size)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        self._call(self._allocations.pop(address).free)

    def pinned(self, size: int) -> Bytes:
        memory: Bytes = self._call(self._driver.pagelocked_empty, size, np.uint8)
        return memory

    def free_pinned(self, memory: Bytes) -> None:
        self._call(memory.base.free)  # type: ignore[union-attr]

    def upload(self, device: int, host: Bytes, stream: int) -> None:
        self._call(self._driver.memcpy_htod_async, device, host, self._streams[stream])

    def download(self, host: Bytes, device: int, stream: int) -> None:
        self._call(self._driver.memcpy_dtoh_async, host, device, self._streams[stream])

    def wait(self, stream: int) -> None:
        self._call(self._streams[stream].synchronize)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        raise CudaFault("pycuda cannot capture CUDA graphs; install cuda-bindings")

    def replay(self, graph: Any, stream: int) -> None:
        raise CudaFault("pycuda cannot replay CUDA graphs; install cuda-bindings")

    def free_graph(self, graph: Any) -> None:
        raise CudaFault("pycuda has no CUDA graphs; install cuda-bindings")

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._driver.MemoryError as error:
            raise CudaOutOfMemory(f"CUDA: {error}") from error
        except self._driver.Error as error:
            raise CudaFault(f"CUDA: {error}") from error
