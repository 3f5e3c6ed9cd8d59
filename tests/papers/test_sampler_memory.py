"""Scoring a memory of the published size keeps no N x N matrix: 11,760 tokens squared are 553 MB a head.

An untrained sampler of two layers and eight heads; each backend scores in a process of its own without torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engines.manifest import Target
from engines.network_config import NetworkConfig
from export.networks.model import make_untrained
from export.onnx_graphs.build import lower, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_tensors

PAPER_TOKENS = 11_760
BACKBONE_WIDTH = 768
WIDTH, LIMIT_MB = 256, 450  # at width 2048 the limit was 2,500
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


def test_eleven_thousand_tokens_are_scored_within_the_limit() -> None:
    for row in _measure(WIDTH, PAPER_TOKENS, 2):
        assert row["peak_mb"] < LIMIT_MB, row


def _measure(width: int, tokens: int, threads: int) -> list[dict[str, Any]]:
    """Return peak resident megabytes and seconds of a call on each target, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lvm-edge-") as folder:
        _write_sampler(Path(folder), width, tokens)
        for target in TARGETS:
            arguments = [folder, target, str(tokens), str(BACKBONE_WIDTH), str(threads)]
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, *arguments],
                capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{target}: {(done.stderr.strip().splitlines() or ['it was killed'])[-1]}")
            rows.append({"target": target, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def _write_sampler(folder: Path, width: int, tokens: int) -> None:
    """Write an untrained sampler's graph for each target and their weights."""
    half = tokens // 2
    config = NetworkConfig.model_validate(
        dict(
            backbone="conv", image_size=56, d_backbone=BACKBONE_WIDTH, d_model=width, heads=8, ffn=2 * width,
            encoder_layers=1, decoder_layers=1, sampler_layers=2, memory_tokens=half,
            clip_frames=-(-(tokens - half) // 49), clip_candidates=tokens - half, recency_tokens=0,
            svd_rank=1, query_steps=1, tick_base=10_000, object_fusion="pooled",
            sampler_cell_code=False, sampler_novelty=False, activities=1,
        )
    )  # fmt: skip
    network = make_untrained(config, seed=0)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("sampler.")}
    save_tensors(own, folder / WEIGHTS)
    program = trace(network, "sampler")
    for target in TARGETS:
        graph = serialise(
            lower(program, network.config, "sampler", target), read_byte_ranges(folder / WEIGHTS)
        )
        (folder / f"{target}.onnx").write_bytes(graph)
