"""Small networks for the tests of the export."""

from __future__ import annotations

from typing import Any

import torch

from engines.manifest import ActivityClass, TrainingRecord
from engines.network_config import NetworkConfig
from export.bundle.writer import ModelCard
from export.networks.model import LvmNet, make_untrained

SMALL: dict[str, Any] = {
    "backbone": "conv",
    "image_size": 56,
    "d_backbone": 24,
    "d_model": 32,
    "heads": 4,
    "ffn": 48,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "sampler_layers": 1,
    "memory_tokens": 60,
    "clip_frames": 2,
    "clip_candidates": 30,
    "recency_tokens": 10,
    "svd_rank": 4,
    "query_steps": 6,
    "tick_base": 115_000.0,
    "object_fusion": "pooled",
    "activities": 5,
    "likeness": True,
}


def small_config(**changes: Any) -> NetworkConfig:
    return NetworkConfig.model_validate(SMALL | changes)


def small_network(seed: int = 0, **changes: Any) -> LvmNet:
    """Make a small network whose normalisations and zero-initialised weights have other values."""
    network = make_untrained(small_config(**changes), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
        elif name.endswith(("likeness.direction", "order.change.weight")):
            tensor.normal_(generator=generator)
    return network


def card(network: LvmNet) -> ModelCard:
    classes = tuple(
        ActivityClass(name=f"activity_{index}", doing=f"doing activity {index}")
        for index in range(network.config.activities)
    )
    return ModelCard("small", classes, TrainingRecord(trained=False, recipe="initialised", seed=0))
