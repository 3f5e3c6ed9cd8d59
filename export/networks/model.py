"""Build the whole network from one configuration, and put its parts behind the engine contract."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from engines.errors import LvmError
from engines.manifest import GraphName
from engines.network_config import NetworkConfig
from engines.spec import Array, Engine, Feeds
from export.networks.backbone import make_backbone
from export.networks.reader import Reader
from export.networks.s5 import S5Sampler
from export.networks.sampler import Sampler
from export.networks.signatures import graph_inputs, graph_outputs
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


class TorchEngine(Engine):
    """One part of an LvmNet, run by torch on the device where its parameters are."""

    def __init__(self, network: LvmNet, name: GraphName) -> None:
        self.inputs = graph_inputs(network.config, name)
        self.outputs = graph_outputs(network.config, name)
        self.device = next(network.parameters()).device
        self.backend = f"torch {self.device.type.upper()}"
        self._part = network.part(name).eval()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        with torch.inference_mode():
            result = self._part(**{name: tensor.to(self.device) for name, tensor in tensors.items()})
        outputs = (
            [result] if isinstance(result, Tensor) else [output for output in result if output is not None]
        )
        return {
            spec.name: output.float().cpu().numpy().copy()
            for spec, output in zip(self.outputs, outputs, strict=True)
        }
