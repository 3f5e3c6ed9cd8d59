"""Run a TensorRT plan on the GPU that it was built for, behind the `Engine` contract.

Everything is allocated once: pinned host memory, device memory and one execution context for each
optimisation profile, all on one stream of the engine's own. Where a profile has one batch size, copies and
kernels are captured once as a CUDA graph and replayed.

A batch that fits no profile is cut into pieces that do, or padded: its rows do not depend on each other.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.cuda import Bytes, Cuda, CudaOutOfMemory
from engines.errors import CannotBuild, EngineFault
from engines.spec import Array, Engine, Feeds, TensorSpec
from engines.tensorrt_builder import BatchRange
from engines.tensorrt_versions import TensorRT

log = logging.getLogger(__name__)


class ForeignPlan(EngineFault):
    """TensorRT does not accept a plan: it was built by another driver or for another device."""


class TensorRTEngine(Engine):
    """One plan, ready to run. Calls from several threads run one after the other."""

    def __init__(self, trt: TensorRT, cuda: Cuda, plan: bytes, batches: tuple[BatchRange, ...]) -> None:
        """Load a plan; `batches` are those that it was built with.

        Raises ForeignPlan where TensorRT refuses the plan, CannotBuild where memory is short.
        """
        self._cuda = cuda
        self._lock = threading.Lock()
        resources = ExitStack()
        try:
            with cuda.active():
                self._profiles = _load_profiles(trt, cuda, plan, batches, resources)
        except CudaOutOfMemory as error:
            _release(cuda, resources)
            raise CannotBuild(f"the GPU has too little memory for the engine ({error})") from error
        except BaseException:
            _release(cuda, resources)
            raise
        self._release = weakref.finalize(self, _release, cuda, resources)
        self._release.atexit = False  # the driver may be gone by then, and takes everything with it
        first = self._profiles[0]
        self.inputs, self.outputs = _specs(first.inputs), _specs(first.outputs)
        self.backend = f"TensorRT {trt.version}"

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        batch = next(iter(feeds.values())).shape[0]
        results = {spec.name: np.empty((batch, *spec.shape[1:]), spec.dtype) for spec in self.outputs}
        with self._lock, self._cuda.active():
            if not self._release.alive:
                raise EngineFault(f"{self.backend}: the engine was closed")
            for profile, start, count in _pieces(self._profiles, batch):
                profile.run(feeds, results, start, count)
        return results

    def close(self) -> None:
        with self._lock:
            self._profiles = ()
            self._release()


@dataclass(frozen=True)
class _Tensor:
    """One input or output of one profile: where its rows lie on the host and on the device."""

    name: str
    host: Array  # (max, ...), pinned
    raw: Bytes  # the same memory
    device: int

    def rows(self, count: int) -> Bytes:
        return self.raw[: count * (self.raw.size // len(self.host))]


class _Profile:
    """One optimisation profile: its context, its memory, and its CUDA graph where the batch size is fixed."""

    def __init__(
        self,
        cuda: Cuda,
        context: Any,
        stream: int,
        batch: BatchRange,
        inputs: tuple[_Tensor, ...],
        outputs: tuple[_Tensor, ...],
    ) -> None:
        self.batch, self.inputs, self.outputs = batch, inputs, outputs
        self._cuda, self._context, self._stream = cuda, context, stream
        self._shaped = 0
        self.graph: Any = None

    def run(self, feeds: Feeds, results: dict[str, Array], start: int, count: int) -> None:
        """Run rows `start` to `start + count` of the feeds, into the same rows of the results."""
        for tensor in self.inputs:
            tensor.host[:count] = feeds[tensor.name][start : start + count]
        size = (
            self.batch.max if self.batch.fixed else count
        )  # the rows after `count` are those of earlier calls
        if self.graph is not None:
            self._cuda.replay(self.graph, self._stream)
        else:
            self.shape(size)
            self.enqueue(size)
        self._cuda.wait(self._stream)
        for tensor in self.outputs:
            results[tensor.name][start : start + count] = tensor.host[:count]

    def shape(self, size: int) -> None:
        """Set the batch size that comes; it takes long, so only where it changes."""
        if size == self._shaped:
            return
        for tensor in self.inputs:
            if not self._context.set_input_shape(tensor.name, (size, *tensor.host.shape[1:])):
                raise EngineFault(f"TensorRT refuses a batch of {size} for {tensor.name}")
        self._shaped = size

    def enqueue(self, size: int) -> None:
        for tensor in self.inputs:
            self._cuda.upload(tensor.device, tensor.rows(size), self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EngineFault("TensorRT could not enqueue the graph")
        for tensor in self.outputs:
            self._cuda.download(tensor.rows(size), tensor.device, self._stream)

    def warm(self) -> None:
        """Run once on zeros: TensorRT's late set-up is done before the first frame and any capture."""
        size = self.batch.opt
        self.shape(size)
        self.enqueue(size)
        self._cuda.wait(self._stream)

    def capture(self) -> None:
        """Capture a graph to replay. Some plans cannot be captured; they are enqueued each time."""
        try:
            self.graph = self._cuda.capture(self._stream, lambda: self.enqueue(self.batch.max))
        except EngineFault as error:
            log.info("no CUDA graph for a batch of %s: %s", self.batch, error)
            self.warm()  # whether the stream still works


def _load_profiles(
    trt: TensorRT, cuda: Cuda, plan: bytes, batches: tuple[BatchRange, ...], resources: ExitStack
) -> tuple[_Profile, ...]:
    """Lanes of all profiles, warmed up. `resources` gives back what they hold."""
    trt.messages.clear()
    runtime = trt.library.Runtime(trt.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ForeignPlan(f"TensorRT {trt.version} does not accept the plan: {trt.messages.last()}")
    _keep_until_released(resources, runtime, engine)
    stream = cuda.stream()
    resources.callback(cuda.free_stream, stream)
    profiles = []
    for index, batch in enumerate(batches):
        context = engine.create_execution_context()
        if context is None:
            raise CannotBuild(f"the GPU has too little memory for the engine ({trt.messages.last()})")
        if not context.set_optimization_profile_async(index, stream):
            raise ForeignPlan(f"the plan has no profile {index}: {trt.messages.last()}")
        tensors = _tensors(trt, cuda, engine, context, batch.max, resources)
        _keep_until_released(resources, context)
        cuda.wait(stream)
        profile = _Profile(cuda, context, stream, batch, *tensors)
        profile.warm()
        if batch.fixed and cuda.can_capture:
            profile.capture()
            if profile.graph is not None:
                resources.callback(cuda.free_graph, profile.graph)
        profiles.append(profile)
    return tuple(profiles)


def _keep_until_released(resources: ExitStack, *objects: Any) -> None:
    """Contexts go before their engine, and that before its runtime: as the stack unwinds."""
    for item in objects:
        resources.callback(lambda _: None, item)


def _tensors(
    trt: TensorRT, cuda: Cuda, engine: Any, context: Any, max_batch: int, resources: ExitStack
) -> tuple[tuple[_Tensor, ...], tuple[_Tensor, ...]]:
    """Allocate memory for every input and output, and set its device addresses in the context."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.library.TensorIOMode.INPUT]
    for name in inputs:
        context.set_input_shape(name, (max_batch, *tuple(engine.get_tensor_shape(name))[1:]))

    def tensor(name: str) -> _Tensor:
        # The context knows all sizes of an output once it knows those of the inputs.
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape) or shape[:1] != (max_batch,):
            raise EngineFault(f"{name} must be free in its batch only, TensorRT makes it {shape}")
        dtype = np.dtype(trt.dtype_name(engine.get_tensor_dtype(name)))
        size = math.prod(shape) * dtype.itemsize
        device = cuda.allocate(size)
        resources.callback(cuda.free, device)
        raw = cuda.pinned(size)
        resources.callback(cuda.free_pinned, raw)
        raw[:] = 0
        if not context.set_tensor_address(name, device):
            raise EngineFault(f"TensorRT refuses memory for {name}")
        return _Tensor(name, raw.view(dtype).reshape(shape), raw, device)

    tensors = {name: tensor(name) for name in names}
    outputs = [name for name in names if name not in inputs]
    return tuple(tensors[name] for name in inputs), tuple(tensors[name] for name in outputs)


def _pieces(profiles: tuple[_Profile, ...], batch: int) -> Iterator[tuple[_Profile, int, int]]:
    """Cut a batch into pieces: yields the smallest profile that holds the rest, first row and count."""
    start = 0
    while start < batch:
        rest = batch - start
        profile = next((profile for profile in profiles if profile.batch.max >= rest), profiles[-1])
        count = min(rest, profile.batch.max)
        yield profile, start, count
        start += count


def _specs(tensors: tuple[_Tensor, ...]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(tensor.name, tensor.host.dtype.name, ("batch", *tensor.host.shape[1:]))
        for tensor in tensors
    )


def _release(cuda: Cuda, resources: ExitStack) -> None:
    with cuda.active():
        resources.close()
