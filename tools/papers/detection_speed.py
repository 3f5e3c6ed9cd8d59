"""Measure what the heads of MeMSVD and of attention to a bank cost, by the length of their window.

    python -m tools.papers.detection_speed --output speed.json

Six regions every two seconds, as many as MeMSVD's three actors a second. Each head answers one clip. All
heads and windows are timed in turns within one run, in an order that changes with every round. Offline, the
window's SVD is computed anew for each clip, as a moving window needs it; online, the basis is updated. The
network is the default bundle's backbone on a clip's two frames, and a head. FLOPs (two for each
multiply-accumulate) and parameters are those of the head without its classifier, which all heads have. The
last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edge_runtime.config.paths import default_bundle
from edge_runtime.memory.online_svd import OnlineSVD
from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from export.papers.detection.bank import BankAttention, make_newest_rows
from export.papers.detection.clips import RegionVideo
from export.papers.detection.head import DetectionHead, MemoryPart, ReadPast
from export.papers.detection.memsvd import (
    Basis,
    ForgettingSVD,
    ProbedProjection,
    make_exact_basis,
    make_randomised_basis,
)
from export.papers.detection.past import Rows
from tools.console import finish, progress, run_tool, show

REGIONS, ROWS_A_SECOND, COMPONENTS, ACTIVITIES, CLIP_FRAMES = 6, 3, 10, 10, 2
PUBLISHED, FOLDED = "attention, as printed", "attention, regions taken to the bank"
READ, ONLINE = "MeMSVD, basis known", "oMeMSVD, with its update"
PROBED, PROBED_ONLINE = "MeMSVD's basis known, probed", "oMeMSVD's basis, probed, with its update"
EXACT, RANDOMISED = "MeMSVD, with an exact SVD", "MeMSVD, with a randomised SVD"
NONE, BACKBONE = "no memory", "backbone"
Call = Callable[[], object]


class AttentionAsPublished(MemoryPart):
    """Attention to a bank that projects every row of the bank, as the papers describe and count it."""

    def __init__(self, part: BankAttention) -> None:
        super().__init__()
        self.part = part

    def watch(self, video: RegionVideo) -> ReadPast:
        return self.part.watch(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Rows) -> Tensor:
        return self.part.forward_as_published(regions, past)


def make_heads(width: int, inner: int, seconds: float, rng: np.random.Generator) -> dict[str, Call]:
    """Return a call for each head that answers one clip. Widths are those of the bundle or of the paper."""
    bank = rng.normal(size=(round(ROWS_A_SECOND * seconds), width)).astype(np.float32)
    new = rng.normal(size=(REGIONS, width)).astype(np.float32)
    regions, valid = torch.from_numpy(new)[None], torch.ones(1, REGIONS, dtype=torch.bool)
    rows = Rows(torch.from_numpy(bank)[None], torch.ones(1, len(bank), dtype=torch.bool))
    attention = BankAttention(width, make_newest_rows(len(bank)), inner=inner)
    svd = OnlineSVD.empty(COMPONENTS, width, forgetting=0.95, dtype=np.float32)
    for at in range(0, min(len(bank), 60), REGIONS):
        svd = svd.update(bank[at : at + REGIONS])

    def make_call(part: MemoryPart | None, past: Callable[[], Any] = lambda: None) -> Call:
        head = DetectionHead(width, ACTIVITIES, [] if part is None else [part]).eval()
        return lambda: head(regions, valid, [] if part is None else [past()])

    def basis(compute: Callable[[], Any]) -> Callable[[], Basis]:
        return lambda: Basis(torch.from_numpy(np.ascontiguousarray(compute()))[None])

    projection = ForgettingSVD(COMPONENTS)
    probed = ProbedProjection(projection, width)
    return {
        NONE: make_call(None),
        PUBLISHED: make_call(AttentionAsPublished(attention), lambda: rows),
        FOLDED: make_call(attention, lambda: rows),
        READ: make_call(projection, basis(lambda: svd.basis)),
        ONLINE: make_call(projection, basis(lambda: svd.update(new).basis)),
        PROBED: make_call(probed, basis(lambda: svd.basis)),
        PROBED_ONLINE: make_call(probed, basis(lambda: svd.update(new).basis)),
        RANDOMISED: make_call(projection, basis(lambda: make_randomised_basis(bank, COMPONENTS))),
        EXACT: make_call(projection, basis(lambda: make_exact_basis(bank, COMPONENTS))),
    }


def measure_cost(width: int, inner: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return FLOPs of one clip and parameters of each head without its classifier and without SVDs."""
    calls = make_heads(width, inner, seconds, np.random.default_rng(0))
    attention = _count_parameters(BankAttention(width, make_newest_rows(), inner=inner))
    probed = _count_parameters(ProbedProjection(ForgettingSVD(COMPONENTS), width))
    parameters = {PUBLISHED: attention, FOLDED: attention, READ: 0, PROBED: probed}
    nothing = _count_flops(calls[NONE])
    return {
        name: {"flops": _count_flops(calls[name]) - nothing, "parameters": count}
        for name, count in parameters.items()
    }


def _count_parameters(part: MemoryPart) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@torch.no_grad()
def _count_flops(call: Call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@torch.no_grad()
def time_calls(
    calls: dict[tuple[str, float], Call],
    rounds: int,
    min_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[tuple[str, float], list[float]]:
    """Return microseconds of a call in every round: the median of at least five calls that take `min_s`.

    The median and not the minimum, because the minimum falls with the number of calls, and slow calls are
    few.
    """
    repeats = {}
    for key, call in calls.items():
        call()
        started = clock()
        call()
        repeats[key] = max(5, round(min_s / (clock() - started)))
    microseconds: dict[tuple[str, float], list[float]] = {key: [] for key in calls}
    rng = np.random.default_rng(0)
    with progress(rounds) as step:
        for number in range(rounds):
            for at in rng.permutation(len(calls)):
                key = list(calls)[at]
                seconds = []
                for _ in range(repeats[key]):
                    started = clock()
                    calls[key]()
                    seconds.append(clock() - started)
                microseconds[key].append(1e6 * statistics.median(seconds))
            step(f"round {number + 1}")
    return microseconds


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    engines = Engines.load(Bundle.open(default_bundle()), arguments.backend, 1)
    size = engines.bundle.manifest.network.image_size
    frames = np.random.default_rng(0).integers(0, 255, (CLIP_FRAMES, size, size, 3), np.uint8)
    calls: dict[tuple[str, float], Call] = {(BACKBONE, 0.0): lambda: engines.backbone({"image": frames})}
    for seconds in arguments.windows:
        rng = np.random.default_rng(1)
        calls |= {
            (n, seconds): c for n, c in make_heads(arguments.width, arguments.inner, seconds, rng).items()
        }
    times_us = time_calls(calls, arguments.rounds, arguments.least_ms / 1e3)
    engines.close()
    backbone = float(np.median(times_us.pop((BACKBONE, 0.0))))
    names = list(dict.fromkeys(name for name, _ in times_us))
    return {
        "width": arguments.width,
        "inner": arguments.inner,
        "windows_s": arguments.windows,
        "rounds": arguments.rounds,
        "backbone_us": round(backbone, 1),
        "head_us": {n: {f"{s:g}": _quartiles(times_us[n, s]) for s in arguments.windows} for n in names},
        "network_clips_per_s": {
            n: {
                f"{s:g}": round(1e6 / (backbone + float(np.median(times_us[n, s]))), 1)
                for s in arguments.windows
            }
            for n in names
        },
        "cost": {f"{s:g}": measure_cost(arguments.width, arguments.inner, s) for s in arguments.windows},
    }


def _quartiles(values: list[float]) -> list[float]:
    """Return the median, the first and the third quartile."""
    return [round(float(value), 1) for value in np.percentile(values, [50, 25, 75])]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=float, nargs="+", default=[10, 20, 40, 61, 80, 160, 320, 640])
    parser.add_argument("--width", type=int, default=128, help="of a region; SlowFast's is 2304")
    parser.add_argument("--inner", type=int, default=128, help="of keys and values; LFB's is 512")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--least-ms", type=float, default=5.0, help="of calls to one head in a round")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    windows = [f"{seconds:g}" for seconds in arguments.windows]
    rows = [[name, *(times[s][0] for s in windows)] for name, times in result["head_us"].items()]
    show("head, microseconds a clip", ["", *(f"{s} s" for s in windows)], rows)
    finish(result)


if __name__ == "__main__":
    run_tool(main)
