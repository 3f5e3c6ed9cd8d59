"""The memories of all videos while one epoch lasts, the same on every member of the team.

Letters: V videos, b changed slots, m memory slots, d token width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engines.network_config import NetworkConfig
from export.training.loop.distributed import Team

FIELDS = ("features", "tick", "cell", "event", "valid")


class MemoryBank:
    """`features` (V, m, d), `tick`, `cell`, `event` (V, m), `valid` (V, m): one slot a video.

    `event` says of which event a token is evidence, -1 for none: training and evaluation know, a device does
    not. `carried` (V, layers, H, S) is the state of samplers that have one, as it was left: detached, and by
    weights that were a little older.
    """

    def __init__(self, videos: int, network: NetworkConfig, device: torch.device) -> None:
        m, d = network.memory_tokens, network.d_backbone
        self.features = torch.zeros(videos, m, d, device=device)
        self.tick = torch.zeros(videos, m, dtype=torch.int64, device=device)
        self.cell = torch.zeros(videos, m, dtype=torch.int64, device=device)
        self.event = torch.full((videos, m), -1, dtype=torch.int64, device=device)
        self.valid = torch.zeros(videos, m, dtype=torch.bool, device=device)
        self.fields: tuple[str, ...] = FIELDS
        if network.sampler == "s5":
            self.carried = torch.zeros(videos, *network.sampler_state, device=device)
            self.fields += ("carried",)

    def reset(self, video: int) -> None:
        """Forget one video."""
        self.valid[video] = False
        self.event[video] = -1
        if "carried" in self.fields:
            self.carried[video] = 0

    def write(self, videos: Tensor, changed: dict[str, Tensor], team: Team) -> None:
        """Take in the new memories (b, m, ...) of `videos` (b,) of every member."""
        where = team.gathered(videos)
        for name in self.fields:
            values = team.gathered(changed[name].to(torch.uint8) if name == "valid" else changed[name])
            field: Tensor = getattr(self, name)
            field[where] = values.to(field.dtype)

    def checksum(self) -> float:
        """Equal banks have equal sums."""
        weights = torch.arange(1, self.tick.numel() + 1, dtype=torch.float64, device=self.tick.device)
        stamps = (self.tick * 49 + self.cell).flatten() * self.valid.flatten()
        return float((stamps * weights.remainder(977)).sum() + self.features.double().sum())

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.fields:
            getattr(self, name).copy_(state[name])
