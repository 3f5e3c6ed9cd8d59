"""Choose the backend that runs a bundle on this machine, and load it.

`auto` takes the best that the machine has: TensorRT, onnxruntime CUDA, OpenVINO, onnxruntime CPU. Where
TensorRT cannot build a bundle's plans, usually for lack of memory, `auto` goes on to the next.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engines.bundle import Bundle
from engines.errors import CannotBuild, LvmError, Unavailable
from engines.manifest import GRAPHS, GraphName, Manifest, Target
from engines.onnxruntime_engine import OnnxRuntimeEngine, providers
from engines.spec import Engine
from engines.tensorrt_versions import tensorrt_problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """A backend by name, and a sentence why it and not a better one."""

    backend: str
    why: str


@dataclass(frozen=True)
class _Backend:
    target: Target
    missing: Callable[[], str | None]
    load: Callable[[Bundle, GraphName, int], Engine]


def _tensorrt(bundle: Bundle, name: GraphName, threads: int) -> Engine:
    from engines.tensorrt_load import load_tensorrt

    return load_tensorrt(bundle, name).engine


def _onnxruntime(provider: str) -> Callable[[Bundle, GraphName, int], Engine]:
    def load(bundle: Bundle, name: GraphName, threads: int) -> Engine:
        graph, precision = bundle.graph("onnxruntime", name)
        weights = None if precision == "int8" else bundle.weights()  # int8 graphs carry their own
        return OnnxRuntimeEngine(graph, weights, provider=provider, threads=threads)

    return load


def _openvino(bundle: Bundle, name: GraphName, threads: int) -> Engine:
    from engines.openvino_engine import OpenVinoEngine

    graph, precision = bundle.graph("openvino", name)
    return OpenVinoEngine(
        graph,
        bundle.weights(),
        weights_name=bundle.manifest.weights or "",
        own=bundle.own_weights("openvino", name),
        precision=precision,
        threads=threads,
    )


def _no_cuda() -> str | None:
    if "CUDAExecutionProvider" in providers():
        return None
    return "the installed onnxruntime has no CUDA provider"


def _no_openvino() -> str | None:
    if importlib.util.find_spec("openvino") is not None:
        return None
    return 'OpenVINO is not installed (pip install "lvm-edge[openvino]")'


_BACKENDS = {  # best first
    "tensorrt": _Backend("tensorrt", tensorrt_problem, _tensorrt),
    "onnxruntime-cuda": _Backend("onnxruntime", _no_cuda, _onnxruntime("CUDAExecutionProvider")),
    "openvino": _Backend("openvino", _no_openvino, _openvino),
    "onnxruntime": _Backend("onnxruntime", lambda: None, _onnxruntime("CPUExecutionProvider")),
}

BACKENDS = tuple(_BACKENDS)


def find_target(backend: str) -> Target:
    """Return the target whose graphs of a bundle the backend runs."""
    return _BACKENDS[backend].target


def find_backend_problems(manifest: Manifest) -> dict[str, str | None]:
    """Return for each backend, best first, None if it can run the bundle here, else why not."""
    reasons: dict[str, str | None] = {}
    for name, backend in _BACKENDS.items():
        reasons[name] = backend.missing()
        if reasons[name] is None and backend.target not in manifest.graphs:
            reasons[name] = f"the bundle has no graphs for {backend.target}"
    return reasons


def choose(requested: str, manifest: Manifest, failed: Mapping[str, str] | None = None) -> Choice:
    """Choose the backend for `requested`, "auto" or a name. Raises Unavailable if it cannot run here.

    `failed` maps backends that were tried in vain to the reason.
    """
    if requested != "auto" and requested not in _BACKENDS:
        raise LvmError(f"--backend must be auto or one of {', '.join(BACKENDS)}, got {requested!r}")
    reasons = find_backend_problems(manifest) | dict(failed or {})
    if requested != "auto":
        if (reason := reasons[requested]) is not None:
            raise Unavailable(f"backend {requested} cannot run here: {reason}")
        return Choice(requested, "asked for")
    skipped: list[str] = []
    for name, reason in reasons.items():
        if reason is None:
            return Choice(name, "; ".join(skipped) or "the best there is")
        skipped.append(f"no {name}: {reason}")
    raise Unavailable(f"no backend can run this bundle here: {'; '.join(skipped)}")


def load_engines(
    bundle: Bundle, requested: str = "auto", *, threads: int | None = None
) -> tuple[Choice, dict[GraphName, Engine]]:
    """Load all graphs of the bundle on one backend. `auto` tries the next where one cannot build them."""
    failed: dict[str, str] = {}
    while True:
        choice = choose(requested, bundle.manifest, failed)
        loaded: dict[GraphName, Engine] = {}
        try:
            for name in GRAPHS:
                loaded[name] = load_engine(bundle, name, choice.backend, threads=threads)
        except CannotBuild as error:
            for engine in loaded.values():
                engine.close()
            if requested != "auto":
                raise
            log.warning("%s cannot be used: %s", choice.backend, error)
            failed[choice.backend] = str(error)
            continue
        return choice, loaded


def load_engine(bundle: Bundle, name: GraphName, backend: str, *, threads: int | None = None) -> Engine:
    """Load one graph of the bundle on a backend named by `choose`. `threads` defaults to the usable cores."""
    return _BACKENDS[backend].load(bundle, name, threads or usable_cores())


def usable_cores() -> int:
    """Count the cores that this process may run on (containers and taskset give fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
