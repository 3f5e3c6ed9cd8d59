"""Build the whole network (backbone, sampler and reader) from one configuration."""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import nn

from engines.errors import LvmError
from engines.manifest import GraphName
from engines.network_config import NetworkConfig
from export.networks.backbone import make_backbone
from export.networks.reader import Reader
from export.networks.s5 import S5Sampler
from export.networks.sampler import Sampler
from export.support.errors import first_complaint


class LvmNet(nn.Module):
    """Three networks that share nothing but the tokens; each becomes one graph of a bundle."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config)
        self.sampler = make_sampler(config)
        self.reader = Reader(config)

    def part(self, name: GraphName) -> nn.Module:
        """Return the network of one graph."""
        return {"backbone": self.backbone, "sampler": self.sampler, "reader": self.reader}[name]


def make_sampler(config: NetworkConfig) -> Sampler:
    """Make the network that scores candidates."""
    return S5Sampler(config) if config.sampler == "s5" else Sampler(config)


def make_untrained(config: NetworkConfig, seed: int) -> LvmNet:
    """Make an untrained network in evaluation mode; equal seeds give equal weights. Torch's generator is left
    as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LvmNet(config).eval()


def with_memory(network: LvmNet, *, tokens: int | None = None, spread: bool | None = None) -> LvmNet:
    """Return the same weights over another memory: with `tokens` slots (no parameter belongs to a slot), or
    with another `spread` (`edge_runtime/memory/diversity.py`). None keeps a setting.

    Raises LvmError for a number of slots that no bundle may have.
    """
    overrides = {"memory_tokens": tokens, "spread": spread}
    changes = {name: value for name, value in overrides.items() if value is not None}
    try:
        config = NetworkConfig.model_validate(network.config.model_dump() | changes)
    except ValidationError as error:
        raise LvmError(f"a memory of {tokens} tokens cannot be: {first_complaint(error)}") from None
    resized = LvmNet(config)
    resized.load_state_dict(network.state_dict())
    return resized.train(network.training)
