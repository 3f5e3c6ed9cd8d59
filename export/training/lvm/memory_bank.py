"""Hold the memories of all videos during an epoch, equal in every process.

Letters: V videos, b changed slots, m memory slots, d token width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engines.network_config import NetworkConfig
from export.training.loop.distributed import ProcessGroup

FIELDS = ("features", "tick", "cell", "event", "valid")


class MemoryBank:
    """Memories: `features` (V, m, d), `tick`, `cell`, `event` (V, m), `valid` (V, m).

    `event` is the event that a token is evidence of, -1 for none; a device does not know it. `carried`
    (V, layers, H, S) is the state of recurrent samplers after the last visit: detached, and computed with
    slightly older weights.
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
        """Empty the memory of a video."""
        self.valid[video] = False
        self.event[video] = -1
        if "carried" in self.fields:
            self.carried[video] = 0

    def write(self, videos: Tensor, changed: dict[str, Tensor], processes: ProcessGroup) -> None:
        """Store the new memories (b, m, ...) of the `videos` (b,) of every process."""
        where = processes.all_gather(videos)
        for name in self.fields:
            values = processes.all_gather(changed[name].to(torch.uint8) if name == "valid" else changed[name])
            field: Tensor = getattr(self, name)
            field[where] = values.to(field.dtype)

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.fields:
            getattr(self, name).copy_(state[name])
