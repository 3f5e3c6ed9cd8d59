"""Run everything that needs a GPU: build, parity, drift, speed of each graph, tests on TensorRT.

    PYTHONPATH=. python tools/gpu/__main__.py --output gpu-check
    PYTHONPATH=. python tools/gpu/__main__.py --presets tiny --precisions fp32 --rounds 5

For each preset and precision a bundle is exported (untrained: speed and parity do not depend on training),
its TensorRT plans are built, every graph is compared with the fp32 network in torch, and timed beside
onnxruntime CUDA, torch eager and torch.compile. A round calls each once, in rotating order; times are medians
over rounds.

A part that cannot run has a reason instead of figures. The report is report.json and report.md in --output.
Exit status: 0 everything ran and passed, 3 something failed, 4 something could not run here. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.manifest import GRAPHS
from engines.tensorrt_versions import tensorrt_problem
from tools.console import finish, progress
from tools.gpu import parts
from tools.gpu.report import Figures, PartResult, render_markdown, run_part

PRESETS = ("tiny", "edge", "paper")
PRECISIONS = ("fp32", "fp16")
_STATES = ("ran", "failed", "not run")
_STEPS = 9

Report = Callable[[str], None]


def run_preset(preset: str, precision: str, folder: Path, rounds: int, report: Report) -> list[PartResult]:
    """Run all parts of one preset at one precision."""
    place = folder / f"{preset}-{precision}"
    no_gpu, no_trt = parts.gpu_problem(), tensorrt_problem()
    no_torch, no_ort = parts.torch_problem(), parts.ort_problem()
    done: list[PartResult] = []

    def do(name: str, missing: str | None, work: Callable[..., Figures], *arguments: Any) -> PartResult:
        report(f"{preset} {precision}: {name}")
        done.append(run_part(f"{preset} {precision}: {name}", missing, work, *arguments))
        return done[-1]

    exported = do("export", no_gpu, parts.export_bundle, preset, precision, place)
    missing_bundle = None if exported.status == "ran" else f"there is no bundle: {exported.reason}"
    do("build", no_trt or missing_bundle, parts.build_plans, place)
    for backend, missing in ((parts.TENSORRT, no_trt), (parts.ORT, no_ort)):
        do(
            f"parity, {backend}",
            missing or no_torch or missing_bundle,
            parts.measure_parity,
            place,
            backend,
            precision,
        )
    for backend, missing in ((parts.TENSORRT, no_trt), (parts.ORT, no_ort)):
        do(f"drift, {backend}", missing or no_torch or missing_bundle, parts.measure_drift, place, backend)
    for name in GRAPHS:
        do(f"speed, {name}", no_gpu or missing_bundle, parts.measure_speed, place, name, rounds)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), help="folder of the two reports")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), help="as of lvm-export")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args(arguments)
    machine = parts.describe_machine()
    steps = len(given.presets) * len(given.precisions) * _STEPS + 1
    with progress(steps) as step, tempfile.TemporaryDirectory() as folder:
        step("tests on TensorRT")
        done = [run_part("tests on TensorRT", tensorrt_problem(), parts.run_tests_on_tensorrt)]
        for preset in given.presets:
            for precision in given.precisions:
                done += run_preset(preset, precision, Path(folder), given.rounds, step)
    result = {"machine": machine, "rounds": given.rounds, "parts": [asdict(part) for part in done]}
    text = render_markdown(machine, done)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.output / "report.md").write_text(text)
    print(text)
    states = [part.status for part in done]
    finish({"report": str(given.output), **{state: states.count(state) for state in _STATES}})
    return 3 if "failed" in states else 4 if "not run" in states else 0


if __name__ == "__main__":
    sys.exit(main())
