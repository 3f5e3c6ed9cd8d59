"""TensorRT behind the `Engine` contract: runs a plan on the GPU that it was built for.

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
        """`batches` are those that the plan was built with.

        Raises ForeignPlan where TensorRT refuses the plan, CannotBuild where memory is short.
        """
        self._cuda = cuda
        self._lock = threading.Lock()
        held = ExitStack()
        try:
            with cuda.active():
                self._lanes = _lanes(trt, cuda, plan, batches, held)
        except CudaOutOfMemory as error:
            _release(cuda, held)
            raise CannotBuild(f"the GPU has too little memory for the engine ({error})") from error
        except BaseException:
            _release(cuda, held)
            raise
        self._release = weakref.finalize(self, _release, cuda, held)
        self._release.atexit = False  # the driver may be gone by then, and takes everything with it
        first = self._lanes[0]
        self.inputs, self.outputs = _specs(first.inputs), _specs(first.outputs)
        self.backend = f"TensorRT {trt.version}"

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        batch = next(iter(feeds.values())).shape[0]
        results = {spec.name: np.empty((batch, *spec.shape[1:]), spec.dtype) for spec in self.outputs}
        with self._lock, self._cuda.active():
            if not self._release.alive:
                raise EngineFault(f"{self.backend}: the engine was closed")
            for lane, start, count in _pieces(self._lanes, batch):
                lane.run(feeds, results, start, count)
        return results

    def close(self) -> None:
        with self._lock:
            self._lanes = ()
            self._release()


@dataclass(frozen=True)
class _Tensor:
    """One input or output of one lane: where its rows lie on the host and on the device."""

    name: str
    host: Array  # (most, ...), pinned
    raw: Bytes  # the same memory
    device: int

    def rows(self, count: int) -> Bytes:
        return self.raw[: count * (self.raw.size // len(self.host))]


class _Lane:
    """One optimisation profile: its context, its memory, and its CUDA graph where the batch is fixed."""

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
        """Rows `start` to `start + count` of the feeds into the same rows of the results."""
        for tensor in self.inputs:
            tensor.host[:count] = feeds[tensor.name][start : start + count]
        size = self.batch.most if self.batch.fixed else count  # what is left below are rows of earlier calls
        if self.graph is not None:
            self._cuda.replay(self.graph, self._stream)
        else:
            self.shape(size)
            self.enqueue(size)
        self._cuda.wait(self._stream)
        for tensor in self.outputs:
            results[tensor.name][start : start + count] = tensor.host[:count]

    def shape(self, size: int) -> None:
        """Tell TensorRT the batch that comes; it takes long, so only where it changes."""
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
        """One run on zeros: what TensorRT sets up late is done before the first frame and any capture."""
        size = self.batch.best
        self.shape(size)
        self.enqueue(size)
        self._cuda.wait(self._stream)

    def capture(self) -> None:
        """Keep a graph to replay. Some plans cannot be captured; they are enqueued each time."""
        try:
            self.graph = self._cuda.capture(self._stream, lambda: self.enqueue(self.batch.most))
        except EngineFault as error:
            log.info("no CUDA graph for a batch of %s: %s", self.batch, error)
            self.warm()  # whether the stream still works


def _lanes(
    trt: TensorRT, cuda: Cuda, plan: bytes, batches: tuple[BatchRange, ...], held: ExitStack
) -> tuple[_Lane, ...]:
    """Lanes of all profiles, warmed up. `held` gives back what they hold."""
    trt.journal.forget()
    runtime = trt.library.Runtime(trt.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ForeignPlan(f"TensorRT {trt.version} does not accept the plan: {trt.journal.last()}")
    _keep_until_released(held, runtime, engine)
    stream = cuda.stream()
    held.callback(cuda.free_stream, stream)
    lanes = []
    for index, batch in enumerate(batches):
        context = engine.create_execution_context()
        if context is None:
            raise CannotBuild(f"the GPU has too little memory for the engine ({trt.journal.last()})")
        if not context.set_optimization_profile_async(index, stream):
            raise ForeignPlan(f"the plan has no profile {index}: {trt.journal.last()}")
        tensors = _tensors(trt, cuda, engine, context, batch.most, held)
        _keep_until_released(held, context)
        cuda.wait(stream)
        lane = _Lane(cuda, context, stream, batch, *tensors)
        lane.warm()
        if batch.fixed and cuda.can_capture:
            lane.capture()
            if lane.graph is not None:
                held.callback(cuda.free_graph, lane.graph)
        lanes.append(lane)
    return tuple(lanes)


def _keep_until_released(held: ExitStack, *objects: Any) -> None:
    """Contexts go before their engine, and that before its runtime: as the stack unwinds."""
    for one in objects:
        held.callback(lambda _: None, one)


def _tensors(
    trt: TensorRT, cuda: Cuda, engine: Any, context: Any, most: int, held: ExitStack
) -> tuple[tuple[_Tensor, ...], tuple[_Tensor, ...]]:
    """Memory for every input and output, its device addresses told to the context."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.library.TensorIOMode.INPUT]
    for name in inputs:
        context.set_input_shape(name, (most, *tuple(engine.get_tensor_shape(name))[1:]))

    def tensor(name: str) -> _Tensor:
        # The context knows all sizes of an output once it knows those of the inputs.
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape) or shape[:1] != (most,):
            raise EngineFault(f"{name} must be free in its batch only, TensorRT makes it {shape}")
        dtype = np.dtype(trt.dtype_name(engine.get_tensor_dtype(name)))
        size = math.prod(shape) * dtype.itemsize
        device = cuda.allocate(size)
        held.callback(cuda.free, device)
        raw = cuda.pinned(size)
        held.callback(cuda.free_pinned, raw)
        raw[:] = 0
        if not context.set_tensor_address(name, device):
            raise EngineFault(f"TensorRT refuses memory for {name}")
        return _Tensor(name, raw.view(dtype).reshape(shape), raw, device)

    told = {name: tensor(name) for name in names}
    return tuple(told[name] for name in inputs), tuple(told[name] for name in names if name not in inputs)


def _pieces(lanes: tuple[_Lane, ...], batch: int) -> Iterator[tuple[_Lane, int, int]]:
    """Lane, first row and count of each piece: the least lane that holds the rest, else the largest one."""
    start = 0
    while start < batch:
        rest = batch - start
        lane = next((lane for lane in lanes if lane.batch.most >= rest), lanes[-1])
        count = min(rest, lane.batch.most)
        yield lane, start, count
        start += count


def _specs(tensors: tuple[_Tensor, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(one.name, one.host.dtype.name, ("batch", *one.host.shape[1:])) for one in tensors)


def _release(cuda: Cuda, held: ExitStack) -> None:
    with cuda.active():
        held.close()
