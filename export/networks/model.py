"""The whole network: backbone, sampler and reader, built from one configuration."""

from __future__ import annotations

import torch
from torch import nn

from engines.manifest import GraphName, NetworkConfig
from export.networks.backbone import make_backbone
from export.networks.reader import Reader
from export.networks.sampler import Sampler

GRAPHS: tuple[GraphName, ...] = ("backbone", "sampler", "reader")


class LvmNet(nn.Module):
    """Three networks that share nothing but the tokens; each becomes one graph of a bundle."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config)
        self.sampler = Sampler(config)
        self.reader = Reader(config)

    def part(self, name: GraphName) -> nn.Module:
        """The network of one graph."""
        return {"backbone": self.backbone, "sampler": self.sampler, "reader": self.reader}[name]


def initialised(config: NetworkConfig, seed: int) -> LvmNet:
    """An untrained network in evaluation mode; equal seeds, equal weights. Leaves torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LvmNet(config).eval()
