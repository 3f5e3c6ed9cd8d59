"""Load a bundle's graph on TensorRT, with a plan from the cache, or built now and stored."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass

from engines.bundle import Bundle
from engines.cuda import open_cuda
from engines.errors import CannotBuild
from engines.manifest import GraphName
from engines.plans import Plan, PlanCache, PlanKey
from engines.tensorrt_builder import BATCHES, Recipe, build_plan
from engines.tensorrt_engine import ForeignPlan, TensorRTEngine
from engines.tensorrt_versions import open_tensorrt

log = logging.getLogger(__name__)

_BUILDER = 1
"""Increase it when the builder's settings change: earlier plans are then stale."""


@dataclass(frozen=True)
class Loaded:
    """An engine, its plan, and the seconds that building took (0: it was in the cache)."""

    engine: TensorRTEngine
    plan: Plan
    build_s: float


def load_tensorrt(bundle: Bundle, name: GraphName, *, workspace_bytes: int | None = None) -> Loaded:
    """Load one graph, building its plan where this device has none.

    Raises Unavailable where TensorRT cannot run here, CannotBuild where it cannot build this graph.
    """
    trt, cuda = open_tensorrt(), open_cuda()
    graph, precision = bundle.graph("tensorrt", name)
    weights, weights_name = bundle.weights(), bundle.manifest.weights or ""
    recipe = Recipe(precision, BATCHES[name], workspace_bytes)
    with cuda.active():
        # What the plan of this graph depends on, on this device.
        gpu = cuda.gpu()
        manifest = bundle.manifest
        files = [manifest.graphs["tensorrt"][name].path, *([manifest.weights] if manifest.weights else [])]
        hashes = "".join(manifest.files[file].sha256 for file in files)
        key = PlanKey(
            graph=name,
            digest=hashlib.sha256(hashes.encode()).hexdigest(),
            tensorrt=trt.version,
            gpu=gpu.name,
            compute_capability=gpu.compute_capability,
            precision=precision,
            shapes=" ".join(map(str, BATCHES[name])),
            builder=_BUILDER,
        )
    build_s = 0.0

    def build(timings: bytes) -> tuple[bytes, bytes]:
        nonlocal build_s
        log.warning("building the TensorRT plan of %s; this takes seconds to minutes, once", name)
        started = time.monotonic()
        try:
            with cuda.active():
                built = build_plan(trt, graph, weights, weights_name, recipe, timings)
        except CannotBuild as error:
            raise CannotBuild(f"{name}: {error}") from error
        build_s = time.monotonic() - started
        return built.plan, built.timings

    cache = PlanCache(bundle.path)
    plan = cache.get(key, build)
    try:
        return Loaded(TensorRTEngine(trt, cuda, plan.data, recipe.batches), plan, build_s)
    except ForeignPlan as error:
        if plan.built:
            raise CannotBuild(f"{name}: {error}") from error
        # Something that is not in the key has changed, such as the driver.
        log.warning("the stored plan of %s is not accepted (%s); building it again", name, error)
    plan = cache.get(key, build, fresh=True)
    try:
        return Loaded(TensorRTEngine(trt, cuda, plan.data, recipe.batches), plan, build_s)
    except ForeignPlan as error:
        raise CannotBuild(f"{name}: {error}") from error
