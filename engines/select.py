"""Which backend runs a bundle on this machine, and why.

`auto` takes the best that the machine has: TensorRT, onnxruntime CUDA, OpenVINO, onnxruntime CPU.
TensorRT has no engine in this version and is therefore never chosen; `Choice.why` says so.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass

from engines.bundle import Bundle
from engines.errors import LvmError, Missing
from engines.manifest import GraphName, Manifest, Target
from engines.onnxruntime_engine import OnnxRuntimeEngine, providers
from engines.spec import Engine


@dataclass(frozen=True)
class Choice:
    """A backend by name, and in words why it and not a better one."""

    backend: str
    why: str


@dataclass(frozen=True)
class _Backend:
    target: Target
    missing: Callable[[], str | None]
    load: Callable[[Bundle, GraphName, int], Engine]


def _onnxruntime(provider: str) -> Callable[[Bundle, GraphName, int], Engine]:
    def load(bundle: Bundle, name: GraphName, threads: int) -> Engine:
        graph, _ = bundle.graph("onnxruntime", name)
        return OnnxRuntimeEngine(graph, bundle.weights(), provider=provider, threads=threads)

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
    "onnxruntime-cuda": _Backend("onnxruntime", _no_cuda, _onnxruntime("CUDAExecutionProvider")),
    "openvino": _Backend("openvino", _no_openvino, _openvino),
    "onnxruntime": _Backend("onnxruntime", lambda: None, _onnxruntime("CPUExecutionProvider")),
}

BACKENDS = tuple(_BACKENDS)


def target_of(backend: str) -> Target:
    """Whose graphs of a bundle the backend runs."""
    return _BACKENDS[backend].target


def available(manifest: Manifest) -> dict[str, str | None]:
    """For each backend, best first: None if it can run the bundle here, else the reason why not."""
    reasons: dict[str, str | None] = {"tensorrt": "this version has no TensorRT engine yet"}
    for name, backend in _BACKENDS.items():
        reasons[name] = backend.missing()
        if reasons[name] is None and backend.target not in manifest.graphs:
            reasons[name] = f"the bundle has no graphs for {backend.target}"
    return reasons


def choose(wanted: str, manifest: Manifest) -> Choice:
    """The backend for `wanted`, "auto" or a name. Raises Missing if it cannot run here."""
    if wanted != "auto" and wanted not in _BACKENDS:
        raise LvmError(f"--backend must be auto or one of {', '.join(BACKENDS)}, got {wanted!r}")
    reasons = available(manifest)
    if wanted != "auto":
        if (reason := reasons[wanted]) is not None:
            raise Missing(f"backend {wanted} cannot run here: {reason}")
        return Choice(wanted, "asked for")
    skipped: list[str] = []
    for name, reason in reasons.items():
        if reason is None:
            return Choice(name, "; ".join(skipped) or "the best there is")
        skipped.append(f"no {name}: {reason}")
    raise Missing(f"no backend can run this bundle here: {'; '.join(skipped)}")


def load_engine(bundle: Bundle, name: GraphName, backend: str, *, threads: int | None = None) -> Engine:
    """Load one graph of the bundle on a backend named by `choose`. `threads` defaults to the usable cores."""
    return _BACKENDS[backend].load(bundle, name, threads or usable_cores())


def usable_cores() -> int:
    """Cores that this process may run on (containers and taskset give fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
