"""The GPU check: to its end without a GPU, and its parts on a fake one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.bundle import Bundle
from engines.cuda import driver_problem, open_cuda
from engines.tensorrt_versions import open_tensorrt
from export.bundle.writer import load_network
from tests.support.tensorrt_machine import fake_machine, tensorrt_bundle
from tools.gpu import parts as gpu_parts
from tools.gpu.report import PartResult, render_markdown, run_part

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _forget_the_machine() -> Iterator[None]:
    yield
    open_cuda.cache_clear()
    open_tensorrt.cache_clear()


def test_without_a_gpu_it_gives_the_reason_and_no_figures(tmp_path: Path) -> None:
    if driver_problem() is None:
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "tools.gpu", "--output", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 4, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    parts = report["parts"]
    assert json.loads(done.stdout.splitlines()[-1])["not run"] == len(parts) > 40
    assert all(part["status"] == "not run" and part["reason"] and not part["figures"] for part in parts)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "no NVIDIA driver" in text and " ms" not in text and "## " not in text
    assert all(f"| {part['name']} | not run | {part['reason']} |" in text for part in parts)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle on a machine with a fake GPU, where torch's network stays on the CPU."""
    made = tensorrt_bundle(tmp_path)
    fake_machine(monkeypatch, tmp_path, "10.3.0")
    monkeypatch.setattr(gpu_parts, "_reference", load_network)
    monkeypatch.setattr(gpu_parts, "torch_problem", lambda: None)
    monkeypatch.setattr(gpu_parts, "GRAPHS", ("sampler",))
    return made


def test_plans_are_built_once_and_compared(place: Path) -> None:
    built = gpu_parts.build_plans(place)
    assert built["sampler"]["kept"] and built["sampler"]["plan_bytes"] > 0
    compared = gpu_parts.measure_parity(place, "tensorrt", "fp32")
    assert "wrong" not in compared
    assert compared["sampler"]["max_abs_error"] < compared["sampler"]["tolerance"] == 1e-3


def test_a_graph_that_differs_fails_its_part(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another(bundle: Bundle):
        network = load_network(bundle)
        network.sampler.load_state_dict({k: 1.01 * v for k, v in network.sampler.state_dict().items()})
        return network

    monkeypatch.setattr(gpu_parts, "_reference", another)
    part = run_part("parity", None, gpu_parts.measure_parity, place, "tensorrt", "fp32")
    assert part.status == "failed" and part.reason is not None and part.reason.startswith("sampler: score")
    assert part.figures["sampler"]["max_abs_error"] > 1e-3


def test_drift_is_measured_on_the_backend(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "DRIFT_FRAMES", 6)
    figures = gpu_parts.measure_drift(place, "tensorrt")
    assert figures["frames"] == 6 and set(figures["errors"]) == {"backbone", "sampler", "reader"}
    assert figures["answers"] == figures["tokens"] == 1 and "wrong" not in figures


def test_engines_are_timed_and_those_that_cannot_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCompiler(gpu_parts.TorchEngine):
        def __init__(self, *arguments: object) -> None:
            raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(gpu_parts, "_Compiled", NoCompiler)
    figures = gpu_parts.measure_speed(place, "sampler", rounds=3)
    table = figures["batch 1"]
    assert set(table) == {"tensorrt", "torch eager fp32"}
    assert table["torch eager fp32"]["times_eager"] == 1 and table["tensorrt"]["median_ms"] > 0
    assert figures["lacking"]["torch.compile fp32"] == "RuntimeError: no compiler here"
    assert "onnxruntime" in figures["lacking"]["onnxruntime-cuda"]


def test_what_breaks_is_in_the_report_and_the_rest_goes_on() -> None:
    def broken() -> dict[str, object]:
        raise ValueError("two\nlines")

    parts = [
        run_part("one", None, broken),
        run_part("two", "no GPU", broken),
        run_part("three", None, lambda: {"x": {"ms": 1.5}, "wrong": "too slow"}),
    ]
    assert [part.status for part in parts] == ["failed", "not run", "failed"]
    machine = {"gpu": None, "no_gpu": "none", "system": "Linux", "python": "3", "packages": {}}
    text = render_markdown(machine, [*parts, PartResult("four", "ran", None, {"bytes": 3})])
    assert "| one | failed | ValueError: two lines |" in text and "| three | failed | too slow |" in text
    assert "- x: ms 1.5" in text and "- bytes: 3" in text
