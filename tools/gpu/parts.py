"""The parts of a GPU check for each preset and precision: export, build, compare, time.

Figures are dictionaries for the report. Times include the copies from and to the host's arrays.
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
from export.networks.model import LvmNet, TorchEngine
from export.parity import sample_inputs
from export.parity.check import compare, make_cases, max_error
from tools.gpu.report import Figures, run_part

ROOT = Path(__file__).parents[2]
BATCHES: dict[GraphName, tuple[int, ...]] = {"backbone": (1, 8), "sampler": (1,), "reader": (1, 16)}
TENSORRT, ORT, EAGER, COMPILED = "tensorrt", "onnxruntime-cuda", "torch eager fp32", "torch.compile fp32"
_PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "cuda-bindings", "pycuda", "numpy")
_WARM_CALLS = 3
DRIFT_FRAMES = 300


def torch_problem() -> str | None:
    """Return why torch cannot use a GPU here; None if it can."""
    if (reason := driver_problem()) is not None:
        return reason
    return None if torch.cuda.is_available() else f"torch {torch.__version__} cannot use the GPU here"


def ort_problem() -> str | None:
    """Return why onnxruntime cannot use a GPU here; None if it can."""
    return driver_problem() or find_backend_problems(Bundle.open(default_bundle()).manifest)[ORT]


def gpu_problem() -> str | None:
    """Return why no backend can use a GPU here; None if one can."""
    if (reason := driver_problem()) is not None:
        return reason
    reasons = [torch_problem(), ort_problem(), tensorrt_problem()]
    return None if None in reasons else "; ".join(str(reason) for reason in reasons)


def describe_machine() -> Figures:
    """Return what the figures were measured on: Python, system, packages, GPU."""
    versions: dict[str, str | None] = {}
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


def run_tests_on_tensorrt() -> Figures:
    """Run the engine's own tests on the real library instead of the fake one."""
    files = ["tests/engines/test_tensorrt_engine.py", "tests/engines/test_tensorrt_builder.py"]
    command = [sys.executable, "-m", "pytest", "-k", "real", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    return {"pytest": last} | ({"wrong": last} if done.returncode else {})


def export_bundle(preset: str, precision: str, place: Path) -> Figures:
    """Export a bundle with graphs for onnxruntime and TensorRT by the command line."""
    command = [sys.executable, "-c", "from export.cli import main; main()", "--preset", preset, "--init", "0"]
    command += ["--precision", precision, "--target", "onnxruntime", "--target", "tensorrt"]
    # If it saw the GPU, the export would build plans, compare and discard them; other parts do that.
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--output", str(place)], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["lvm-export said nothing"])[-1])
    size = json.loads(done.stdout.splitlines()[-1])["bytes"]
    return {"seconds": time.monotonic() - started, "bytes": size}


def build_plans(place: Path) -> Figures:
    """Build each plan; return its seconds and bytes, and the seconds of loading it again."""
    figures: Figures = {}
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


def measure_parity(place: Path, backend: str, precision: Precision) -> Figures:
    """Return the largest error of each graph against the fp32 network, over the export gate's cases."""
    bundle = Bundle.open(place)
    network = _reference(bundle)
    figures: Figures = {}
    for name in GRAPHS:
        with load_engine(bundle, name, backend) as engine:
            errors = compare(TorchEngine(network, name), engine, list(make_cases(network, name)))
        worst, allowed = max(errors, key=lambda result: result.error), max_error(precision)
        figures[name] = {"max_abs_error": worst.error, "output": worst.output, "tolerance": allowed}
        if not worst.error <= allowed:
            figures["wrong"] = f"{name}: {worst.output} differs by {worst.error:.3g} ({worst.case})"
    return figures


def measure_drift(place: Path, backend: str) -> Figures:
    """Run the gate of recurrent drift: the bundle on `backend` and its network ingest the demo side by side.

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
            "errors": {name: relative.error for name, relative in run.final.alone.items()},
        }
    return figures if result.passed else figures | {"wrong": describe_failure(result)}


def measure_speed(place: Path, name: GraphName, rounds: int) -> Figures:
    """Return milliseconds of a call for each engine and batch size, and the speed-up over torch eager.

    In each round every engine is called once; the order rotates.
    """
    bundle = Bundle.open(place)
    engines, problems = _load_engines(bundle, name)
    figures: Figures = {"lacking": problems}
    for batch in BATCHES[name]:
        feeds = _sample(bundle, name, batch)
        for engine_name in list(engines):
            warmed = run_part(engine_name, None, _warm_up, engines[engine_name], feeds)
            if warmed.reason is not None:
                problems[f"{engine_name}, batch {batch}"] = warmed.reason
                engines.pop(engine_name).close()
        figures[f"batch {batch}"] = _time_calls(engines, feeds, rounds)
    for engine in engines.values():
        engine.close()
    if not engines:
        reasons = "; ".join(f"{engine_name}: {why}" for engine_name, why in problems.items())
        figures["wrong"] = f"no engine could be timed: {reasons}"
    return figures


def _reference(bundle: Bundle) -> LvmNet:
    """Load the fp32 network on the GPU, without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return load_network(bundle).cuda()


class _Compiled(TorchEngine):
    def __init__(self, network: LvmNet, name: GraphName) -> None:
        super().__init__(network, name)
        self._part = torch.compile(self._part)  # type: ignore[assignment]


def _load_engines(bundle: Bundle, name: GraphName) -> tuple[dict[str, Engine], dict[str, str]]:
    """Load the engines that are timed; also return why the others are not."""
    known_problems = {
        TENSORRT: tensorrt_problem(),
        ORT: ort_problem(),
        EAGER: torch_problem(),
        COMPILED: torch_problem(),
    }
    engines: dict[str, Engine] = {}
    problems: dict[str, str] = {}
    for engine_name, problem in known_problems.items():
        part = run_part(engine_name, problem, _load_engine, engines, engine_name, bundle, name)
        if part.reason is not None:
            problems[engine_name] = part.reason
    return engines, problems


def _load_engine(engines: dict[str, Engine], engine_name: str, bundle: Bundle, name: GraphName) -> Figures:
    if engine_name in (EAGER, COMPILED):
        engines[engine_name] = (TorchEngine if engine_name == EAGER else _Compiled)(_reference(bundle), name)
    else:
        engines[engine_name] = load_engine(bundle, name, engine_name)
    return {}


def _sample(bundle: Bundle, name: GraphName, batch: int) -> Feeds:
    """Draw feeds as on a device."""
    config, rng = bundle.manifest.network, np.random.default_rng(0)
    if name == "backbone":
        return {"image": sample_inputs.draw_scenes(batch, config.image_size, rng)}
    pool = rng.normal(size=(256, config.d_backbone)).astype(np.float32)
    if name == "sampler":
        return sample_inputs.draw_sampler_feeds(config, pool, batch, rng)
    return sample_inputs.draw_reader_feeds(config, pool, [sample_inputs.TIME] * batch, rng)


def _warm_up(engine: Engine, feeds: Feeds) -> Figures:
    for _ in range(_WARM_CALLS):
        engine(feeds)
    return {}


def _time_calls(engines: dict[str, Engine], feeds: Feeds, rounds: int) -> dict[str, dict[str, Any]]:
    times: dict[str, list[float]] = {engine_name: [] for engine_name in engines}
    order = list(engines)
    for _ in range(rounds):
        for engine_name in order:
            started = time.perf_counter()
            engines[engine_name](feeds)
            times[engine_name].append((time.perf_counter() - started) * 1e3)
        order = order[1:] + order[:1]
    table = {
        engine_name: {"median_ms": float(np.median(ms)), "p90_ms": float(np.percentile(ms, 90))}
        for engine_name, ms in times.items()
    }
    for row in table.values():
        if EAGER in table:
            row["times_eager"] = table[EAGER]["median_ms"] / row["median_ms"]
    return table
