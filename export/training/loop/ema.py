"""Average weights exponentially: the average is evaluated and shipped, since single steps fluctuate."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of all floating weights and buffers; other buffers are those of the last step.

    The first steps weigh more (decay (1 + s) / (10 + s) up to `decay`), so that the average of a short run is
    not dominated by the random initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._mean = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._decay else 0.0
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self._mean[name].lerp_(value, 1 - decay)
            else:
                self._mean[name].copy_(value)

    def make_averaged(self, module: nn.Module) -> nn.Module:
        """Return a copy of `module` with the averaged weights, in evaluation mode."""
        averaged = copy.deepcopy(module)
        averaged.load_state_dict(self._mean)
        return averaged.eval()

    def state(self) -> dict[str, Tensor]:
        return {**self._mean, "_steps": torch.tensor(self._steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._steps = int(state["_steps"])
        self._mean = {name: value.clone() for name, value in state.items() if name != "_steps"}
