"""Keep the averaged weights of the step that answers held-out videos best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass
class CheckpointSelection:
    """The best averaged weights by `loss`, evaluated every `every` steps and stored in `path`."""

    loss: Callable[[nn.Module], float]
    every: int
    path: Path

    def consider(self, step: int, averaged: Callable[[], nn.Module], *, last: bool) -> None:
        """Evaluate the weights after `step` if it is due (or `last`), and store them if they are the best."""
        if step % self.every and not last:
            return
        module = averaged()
        loss = self.loss(module)
        best = self.read_best()
        history = [*(best[2] if best else []), [step, loss]]
        if best is None or loss < best[1] or math.isnan(best[1]):
            self._write(module, step, loss, history)
        else:
            module.load_state_dict(load_file(self.path))
            self._write(module, best[0], best[1], history)

    def reset(self) -> None:
        """Remove the weights that an earlier run left in the folder."""
        self.path.unlink(missing_ok=True)

    def read_best(self) -> tuple[int, float, list[list[float]]] | None:
        """Return step and loss of the stored weights and all evaluations; None before the first."""
        if not self.path.exists():
            return None
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata()
        return int(metadata["step"]), float(metadata["loss"]), json.loads(metadata["history"])

    def _write(self, module: nn.Module, step: int, loss: float, history: list[list[float]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        weights = {name: value.contiguous() for name, value in module.state_dict().items()}
        save_file(weights, part, {"step": str(step), "loss": repr(loss), "history": json.dumps(history)})
        part.replace(self.path)
