"""A small network config, engines made of numpy, frames made of numbers."""

from __future__ import annotations

import numpy as np

from edge_runtime.frame import Frame
from engines.fake import FakeEngine
from engines.network_config import NetworkConfig
from engines.spec import TensorSpec

WIDTH = 16


def small_network(**changes) -> NetworkConfig:
    """Make a small configuration: 20 slots, clips of 4 frames."""
    values = dict(
        backbone="conv", image_size=32, d_backbone=WIDTH, d_model=16, heads=2, ffn=16, encoder_layers=1,
        decoder_layers=1, sampler_layers=1, memory_tokens=20, clip_frames=4, clip_candidates=30,
        recency_tokens=10, svd_rank=3, svd_forgetting=0.99, query_steps=8, tick_base=10000,
        object_fusion="pooled", activities=3,
    )  # fmt: skip
    return NetworkConfig(**{**values, **changes})


def fake_backbone(network: NetworkConfig) -> FakeEngine:
    """Make a backbone whose tokens are a fixed linear map of each cell's mean colour."""
    weights = np.random.default_rng(0).normal(size=(3, network.d_backbone)).astype(np.float32)
    size = network.image_size

    def run(feeds):
        image = feeds["image"].astype(np.float32) / 255  # (B, S, S, 3)
        edges = np.linspace(0, size, 8).astype(int)
        cells = [
            image[:, a:b, c:d].mean(axis=(1, 2))
            for a, b in zip(edges, edges[1:], strict=False)
            for c, d in zip(edges, edges[1:], strict=False)
        ]
        return {"tokens": np.stack(cells, axis=1) @ weights}  # (B, 49, d)

    return FakeEngine(
        run,
        (TensorSpec("image", "uint8", ("batch", size, size, 3)),),
        (TensorSpec("tokens", "float32", ("batch", 49, network.d_backbone)),),
    )


def fake_sampler(network: NetworkConfig, strangeness: float = 0.0) -> FakeEngine:
    """Make a sampler whose scores are the first feature, so that the result is easy to predict.

    It finds each clip as strange as given, where the network has an appearance.
    """
    n, m, queue = network.sampler_tokens, network.memory_tokens, network.queue

    def run(feeds):
        output = {"score": feeds["features"][:, :, 0].copy()}
        if network.appearance:
            output["strangeness"] = np.full((len(output["score"]), 1), strangeness, np.float32)
        if network.queues:  # an entry that identifies its clip: its tokens' means and its time
            clip = feeds["features"][:, m:]
            output["clip_regions"] = np.stack(
                [clip[:, i :: queue.regions].mean(1) for i in range(queue.regions)], 1
            )
            rates = np.abs(clip.mean(1))[:, : network.activities] + feeds["clip_tick"].max() / 1000
            output["clip_activity"] = rates / (1 + rates)
        if network.sampler == "s5":  # a fading sum of the clips' tokens
            clip = feeds["features"][:, m:].sum((1, 2))[:, None, None, None]
            output["next_state"] = (feeds["sampler_state"] * np.float32(0.9) + clip / 100).astype(np.float32)
        return output

    s5, state = network.sampler == "s5", ("batch", *network.sampler_state)
    entry = (
        TensorSpec("clip_activity", "float32", ("batch", network.activities)),
        TensorSpec("clip_regions", "float32", ("batch", queue.regions, network.d_backbone)),
    )
    tick = (TensorSpec("clip_tick", "int32", ("batch", network.clip_candidates)),)
    return FakeEngine(
        run,
        (
            TensorSpec("features", "float32", ("batch", n, network.d_backbone)),
            TensorSpec("cell", "int32", ("batch", n)),
            TensorSpec("novelty", "float32", ("batch", n)),
            *(tick if network.queues or network.appearance else ()),
            TensorSpec("valid", "bool", ("batch", n)),
            *((TensorSpec("sampler_state", "float32", state),) if s5 else ()),
        ),
        (
            TensorSpec("score", "float32", ("batch", n)),
            *((TensorSpec("strangeness", "float32", ("batch", 1)),) if network.appearance else ()),
            *(entry if network.queues else ()),
            *((TensorSpec("next_state", "float32", state),) if s5 else ()),
        ),
    )


def frames(count: int, *, start: float = 0.0, size: int = 32, seed: int = 0) -> list[Frame]:
    """Make pictures at one a second; each depends on its second only."""
    made = []
    for i in range(count):
        rng = np.random.default_rng([seed, int(start) + i])
        made.append(Frame(rng.integers(0, 255, (size, size, 3), np.uint8), start + i))
    return made
