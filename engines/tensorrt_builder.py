"""Build a plan, TensorRT's form of a graph for one kind of GPU, from an ONNX graph and its weights."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.bundle import Buffer
from engines.errors import BundleError, CannotBuild
from engines.manifest import GraphName, Precision
from engines.tensorrt_versions import TensorRT


@dataclass(frozen=True)
class BatchRange:
    """Batch sizes that one optimisation profile allows, and the one that it is tuned for."""

    min: int
    opt: int
    max: int

    @property
    def fixed(self) -> bool:
        return self.min == self.max

    def __str__(self) -> str:
        return str(self.opt) if self.fixed else f"{self.min}..{self.opt}..{self.max}"


BATCHES: dict[GraphName, tuple[BatchRange, ...]] = {
    # Ingest sends eight frames, fewer at the end of a clip; a photo's mosaic has its own number.
    "backbone": (BatchRange(1, 8, 16),),
    # One clip is scored at a time.
    "sampler": (BatchRange(1, 1, 1),),
    # A person asks one question; programs send up to sixteen, which are padded to the next size.
    "reader": (BatchRange(1, 1, 1), BatchRange(4, 4, 4), BatchRange(16, 16, 16)),
}


@dataclass(frozen=True)
class Recipe:
    """What a plan is built from besides graph and weights."""

    precision: Precision
    batches: tuple[BatchRange, ...]
    workspace_bytes: int | None = None
    """Scratch memory that kernels may use; None: whatever the device has."""


@dataclass(frozen=True)
class Built:
    """A serialised plan, and the timings of kernels that the next build need not measure again."""

    plan: bytes
    timings: bytes


def build_plan(
    trt: TensorRT, graph: Buffer, weights: Buffer | None, weights_name: str, recipe: Recipe, timings: bytes
) -> Built:
    """Build a plan. `timings` are those of earlier builds, or empty.

    Raises BundleError where the graph is none, CannotBuild where TensorRT or this machine cannot do it.
    """
    if not trt.supports(recipe.precision):
        raise CannotBuild(f"TensorRT {trt.version} has no {recipe.precision}; export with --precision fp16")
    trt.messages.clear()
    builder = trt.library.Builder(trt.logger)
    network = builder.create_network(trt.network_flags())
    parser = trt.library.OnnxParser(network, trt.logger)
    # Parser and folder outlive the build: the network points into what they hold.
    with tempfile.TemporaryDirectory(prefix="lvm-edge-") as folder:
        _parse(trt, parser, Path(folder), graph, weights, weights_name)
        config = builder.create_builder_config()
        if recipe.workspace_bytes is not None:
            pool = trt.library.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, recipe.workspace_bytes)
        trt.set_precision(config, network, recipe.precision)
        _add_profiles(builder, config, network, recipe.batches)
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            # Timings that TensorRT does not accept are no reason to fail: it measures again.
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _failed(trt)
        return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _parse(
    trt: TensorRT, parser: Any, folder: Path, graph: Buffer, weights: Buffer | None, weights_name: str
) -> None:
    """Parse the graph. TensorRT looks for external weights beside it only, so both go to one folder."""
    path = folder / "graph.onnx"
    path.write_bytes(graph)
    if weights is not None:
        (folder / weights_name).write_bytes(weights)
    if parser.parse_from_file(str(path)):
        return
    if parser.num_errors == 0:  # some versions only log that a file is no ONNX at all
        raise BundleError(f"TensorRT cannot read the graph: {trt.messages.last()}")
    error = parser.get_error(0)
    message = " ".join(error.desc().split())[:300]
    if error.code() == trt.library.ErrorCode.MODEL_DESERIALIZE_FAILED:
        raise BundleError(f"TensorRT cannot read the graph: {message}")
    raise CannotBuild(f"TensorRT {trt.version} cannot convert the graph: {message}")


def _add_profiles(builder: Any, config: Any, network: Any, batches: tuple[BatchRange, ...]) -> None:
    """Add a profile for each range; in all of a graph's inputs only the first axis, the batch, is free."""
    for batch in batches:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            rest = tuple(tensor.shape)[1:]
            if any(size < 0 for size in rest):
                raise BundleError(f"graph input {tensor.name} must be free in its batch only, got {rest}")
            shapes = ((size, *rest) for size in (batch.min, batch.opt, batch.max))
            profile.set_shape(tensor.name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise CannotBuild(f"TensorRT refuses a batch of {batch}")


def _failed(trt: TensorRT) -> CannotBuild:
    if trt.messages.out_of_memory:
        return CannotBuild(
            f"out of memory while TensorRT built its plan ({trt.messages.last()}); end other programs, "
            "or give it less with lvm-edge warmup --workspace-mib"
        )
    return CannotBuild(f"TensorRT cannot build a plan: {trt.messages.last()}")
