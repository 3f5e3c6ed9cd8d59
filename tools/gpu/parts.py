"""What a GPU check does on each preset and precision: export, build, compare, time.

Figures are dictionaries for the report; times are of arrays of the host in and out.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle
from engines.cuda import driver_problem, open_cuda
from engines.manifest import GRAPHS, GraphName, Precision
from engines.select import find_backend_problems, load_engine
from engines.spec import Engine, Feeds
from engines.tensorrt_load import load_tensorrt
from engines.tensorrt_versions import tensorrt_problem
from export.bundle.writer import load_network
from export.gates.limits import GateSettings
from export.gates.run import describe_failure, run_bundle
from export.networks.model import LvmNet
from export.networks.torch_engine import TorchEngine
from export.parity import sample_inputs as feeds
from export.parity.check import compare, make_cases, max_error
from tools.gpu.report import Figures, attempt

ROOT = Path(__file__).parents[2]
BATCHES: dict[GraphName, tuple[int, ...]] = {"backbone": (1, 8), "sampler": (1,), "reader": (1, 16)}
TENSORRT, ORT, EAGER, COMPILED = "tensorrt", "onnxruntime-cuda", "torch eager fp32", "torch.compile fp32"
_PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "cuda-bindings", "pycuda", "numpy")
_WARM_CALLS = 3
DRIFT_FRAMES = 300


def torch_problem() -> str | None:
    """Why torch cannot use a GPU here, in words; None where it can."""
    if (reason := driver_problem()) is not None:
        return reason
    return None if torch.cuda.is_available() else f"torch {torch.__version__} cannot use the GPU here"


def ort_problem() -> str | None:
    """Why onnxruntime cannot use a GPU here, in words; None where it can."""
    return driver_problem() or find_backend_problems(Bundle.open(default_bundle()).manifest)[ORT]


def gpu_problem() -> str | None:
    """Why nothing at all can use a GPU here, in words; None where something can."""
    if (reason := driver_problem()) is not None:
        return reason
    reasons = [torch_problem(), ort_problem(), tensorrt_problem()]
    return None if None in reasons else "; ".join(str(reason) for reason in reasons)


def machine() -> Figures:
    """What the figures come from."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    name = None
    if torch_problem() is None:
        name = torch.cuda.get_device_name(0)
    elif tensorrt_problem() is None:
        with open_cuda().active():
            name = open_cuda().gpu().name
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "gpu": name,
        "no_gpu": driver_problem(),
    }


def tests_on_tensorrt() -> Figures:
    """The engine's own tests with the real library in the fake one's place."""
    files = ["tests/engines/test_tensorrt_engine.py", "tests/engines/test_tensorrt_builder.py"]
    command = [sys.executable, "-m", "pytest", "-k", "real", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    return {"pytest": last} | ({"wrong": last} if done.returncode else {})


def export(preset: str, precision: str, place: Path) -> Figures:
    """A bundle with graphs for onnxruntime and TensorRT, made as users make it."""
    command = [sys.executable, "-c", "from export.cli import main; main()", "--preset", preset, "--init", "0"]
    command += ["--precision", precision, "--target", "onnxruntime", "--target", "tensorrt"]
    # With the GPU in sight the export would build plans, compare and forget them; that is done here.
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--output", str(place)], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["lvm-export said nothing"])[-1])
    size = json.loads(done.stdout.splitlines()[-1])["bytes"]
    return {"seconds": time.monotonic() - started, "bytes": size}


def build(place: Path) -> Figures:
    """Seconds and bytes of each plan, and the seconds of loading it again."""
    figures = {}
    bundle = Bundle.open(place)
    for name in GRAPHS:
        first = load_tensorrt(bundle, name)
        first.engine.close()
        started = time.monotonic()
        again = load_tensorrt(bundle, name)
        again.engine.close()
        figures[name] = {
            "build_s": first.build_s,
            "load_s": time.monotonic() - started,
            "plan_bytes": len(first.plan.data),
            "kept": not again.plan.built,
        }
    return figures


def parity(place: Path, backend: str, precision: Precision) -> Figures:
    """Largest error of each graph against the fp32 network, over the cases of the export's own gate."""
    bundle = Bundle.open(place)
    network = _reference(bundle)
    figures: Figures = {}
    for name in GRAPHS:
        with load_engine(bundle, name, backend) as engine:
            found = compare(TorchEngine(network, name), engine, list(make_cases(network, name)))
        worst, allowed = max(found, key=lambda one: one.error), max_error(precision)
        figures[name] = {"max_abs_error": worst.error, "output": worst.output, "tolerance": allowed}
        if not worst.error <= allowed:
            figures["wrong"] = f"{name}: {worst.output} differs by {worst.error:.3g} ({worst.case})"
    return figures


def drift(place: Path, backend: str) -> Figures:
    """The gate of recurrent drift: the bundle on `backend` and its network watch the demo side by side.

    The network runs in fp32 on the CPU, as it does in an export.
    """
    settings = GateSettings(frames=DRIFT_FRAMES, every=DRIFT_FRAMES // 3, questions=300)
    result = run_bundle(Bundle.open(place), backend, settings)
    run = result.drift[0]
    figures: Figures = {"frames": run.frames, "seconds": result.seconds}
    if run.final is not None:
        figures |= {
            "answers": run.final.agreement.answers,
            "tokens": run.final.tokens,
            "errors": {name: one.error for name, one in run.final.alone.items()},
        }
    return figures if result.passed else figures | {"wrong": describe_failure(result)}


def speed(place: Path, name: GraphName, rounds: int) -> Figures:
    """Milliseconds of a call for each lane and batch size, and how many times faster than torch eager.

    In each round every lane is called once; the order rotates.
    """
    bundle = Bundle.open(place)
    ready, lacking = _lanes(bundle, name)
    figures: Figures = {"lacking": lacking}
    for batch in BATCHES[name]:
        given = _sample(bundle, name, batch)
        for lane in list(ready):
            warmed = attempt(lane, None, _warm, ready[lane], given)
            if warmed.reason is not None:
                lacking[f"{lane}, batch {batch}"] = warmed.reason
                ready.pop(lane).close()
        figures[f"batch {batch}"] = _timed(ready, given, rounds)
    for engine in ready.values():
        engine.close()
    if not ready:
        said = "; ".join(f"{lane}: {why}" for lane, why in lacking.items())
        figures["wrong"] = f"no lane could be timed: {said}"
    return figures


def _reference(bundle: Bundle) -> LvmNet:
    """The fp32 network on the GPU, without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return load_network(bundle).cuda()


class _Compiled(TorchEngine):
    def __init__(self, network: LvmNet, name: GraphName) -> None:
        super().__init__(network, name)
        self._part = torch.compile(self._part)  # type: ignore[assignment]


def _lanes(bundle: Bundle, name: GraphName) -> tuple[dict[str, Engine], dict[str, str]]:
    """Engines that are timed, and why the others are not."""
    problems = {
        TENSORRT: tensorrt_problem(),
        ORT: ort_problem(),
        EAGER: torch_problem(),
        COMPILED: torch_problem(),
    }
    ready: dict[str, Engine] = {}
    lacking: dict[str, str] = {}
    for lane, problem in problems.items():
        part = attempt(lane, problem, _load_lane, ready, lane, bundle, name)
        if part.reason is not None:
            lacking[lane] = part.reason
    return ready, lacking


def _load_lane(ready: dict[str, Engine], lane: str, bundle: Bundle, name: GraphName) -> Figures:
    if lane in (EAGER, COMPILED):
        ready[lane] = (TorchEngine if lane == EAGER else _Compiled)(_reference(bundle), name)
    else:
        ready[lane] = load_engine(bundle, name, lane)
    return {}


def _sample(bundle: Bundle, name: GraphName, batch: int) -> Feeds:
    """Feeds like a device's."""
    config, rng = bundle.manifest.network, np.random.default_rng(0)
    if name == "backbone":
        return {"image": feeds.draw_scenes(batch, config.image_size, rng)}
    pool = rng.normal(size=(256, config.d_backbone)).astype(np.float32)
    if name == "sampler":
        return feeds.draw_sampler_feeds(config, pool, batch, rng)
    return feeds.draw_reader_feeds(config, pool, [feeds.TIME] * batch, rng)


def _warm(engine: Engine, given: Feeds) -> Figures:
    for _ in range(_WARM_CALLS):
        engine(given)
    return {}


def _timed(ready: dict[str, Engine], given: Feeds, rounds: int) -> dict[str, dict[str, Any]]:
    times: dict[str, list[float]] = {lane: [] for lane in ready}
    order = list(ready)
    for _ in range(rounds):
        for lane in order:
            started = time.perf_counter()
            ready[lane](given)
            times[lane].append((time.perf_counter() - started) * 1e3)
        order = order[1:] + order[:1]
    table = {
        lane: {"median_ms": float(np.median(ms)), "p90_ms": float(np.percentile(ms, 90))}
        for lane, ms in times.items()
    }
    for one in table.values():
        if EAGER in table:
            one["times_eager"] = table[EAGER]["median_ms"] / one["median_ms"]
    return table
