"""Measure the peak memory of scoring a whole paper-sized memory, to show that no N x N matrix is built.

    python -m tools.papers.sampler_memory --width 256
    python -m tools.papers.sampler_memory --width 2048

An untrained sampler of two layers and eight heads is exported for onnxruntime and OpenVINO. For each backend
a process of its own without torch scores --tokens tokens (11,760: the memory and the clip of the preset
`paper`) and reports its peak. Limits: 450 MB at width 256, 2.5 GB at width 2048; beyond them the exit status
is 3. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.manifest import Target
from engines.network_config import NetworkConfig
from export.networks.model import make_untrained
from export.onnx_graphs.build import lower, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_tensors
from tools.console import finish, run_tool, show

PAPER_TOKENS = 11_760
BACKBONE_WIDTH = 768
LIMITS_MB = {256: 450, 2048: 2500}
TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")
_CHILD = """
import json, sys, time
import numpy as np
from pathlib import Path
folder, target, tokens, width, threads = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
graph, weights = (folder / f"{target}.onnx").read_bytes(), (folder / "weights.safetensors").read_bytes()
if target == "openvino":
    from engines.openvino_engine import OpenVinoEngine
    named = {"weights_name": "weights.safetensors", "precision": "fp32"}
    engine = OpenVinoEngine(graph, weights, threads=threads, **named)
else:
    from engines.onnxruntime_engine import OnnxRuntimeEngine
    engine = OnnxRuntimeEngine(graph, weights, threads=threads)
del graph, weights
rng = np.random.default_rng(0)
feeds = {"features": rng.normal(size=(1, tokens, width)).astype(np.float32)}
feeds["valid"] = np.ones((1, tokens), bool)
started = time.perf_counter()
score = engine(feeds)["score"]
seconds = time.perf_counter() - started
assert score.shape == (1, tokens) and np.isfinite(score).all() and "torch" not in sys.modules
# Not ru_maxrss, which begins with the peak of the parent process.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak_mb": int(peak) * 1024 / 1e6, "seconds": seconds}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    rows = measure(given.width, given.tokens, given.threads, given.target or TARGETS)
    limit = LIMITS_MB.get(given.width)
    show(
        f"{given.tokens:,} tokens, width {given.width}",
        ["backend", "peak MB", "seconds", "limit MB"],
        [[row["target"], row["peak_mb"], row["seconds"], limit or "none"] for row in rows],
    )
    beyond = [row["target"] for row in rows if limit is not None and row["peak_mb"] > limit]
    finish({"width": given.width, "tokens": given.tokens, "limit_mb": limit, "rows": rows, "beyond": beyond})
    return 3 if beyond else 0


def measure(width: int, tokens: int, threads: int, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return peak resident megabytes and seconds of a call on each target, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lvm-edge-") as folder:
        write_sampler(Path(folder), width, tokens, targets)
        for target in targets:
            arguments = [folder, target, str(tokens), str(BACKBONE_WIDTH), str(threads)]
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, *arguments],
                capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{target}: {(done.stderr.strip().splitlines() or ['it was killed'])[-1]}")
            rows.append({"target": target, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def write_sampler(
    folder: Path, width: int, tokens: int, targets: Sequence[Target], **changes: Any
) -> NetworkConfig:
    """Write an untrained sampler's graph for each target and their weights; `changes` its configuration."""
    half = tokens // 2
    config = NetworkConfig.model_validate(
        dict(
            backbone="conv", image_size=56, d_backbone=BACKBONE_WIDTH, d_model=width, heads=8, ffn=2 * width,
            encoder_layers=1, decoder_layers=1, sampler_layers=2, memory_tokens=half,
            clip_frames=-(-(tokens - half) // 49), clip_candidates=tokens - half, recency_tokens=0,
            svd_rank=1, query_steps=1, tick_base=10_000, object_fusion="pooled",
            sampler_cell_code=False, sampler_novelty=False, activities=1,
        ) | changes
    )  # fmt: skip
    network = make_untrained(config, seed=0)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("sampler.")}
    save_tensors(own, folder / WEIGHTS)
    program = trace(network, "sampler")
    for target in targets:
        graph = serialise(
            lower(program, network.config, "sampler", target), read_byte_ranges(folder / WEIGHTS)
        )
        (folder / f"{target}.onnx").write_bytes(graph)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=256, help="of the model")
    parser.add_argument("--tokens", type=int, default=PAPER_TOKENS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", action="append", choices=TARGETS)
    return parser


if __name__ == "__main__":
    run_tool(main)
