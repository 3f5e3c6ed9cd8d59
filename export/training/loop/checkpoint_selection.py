"""Which step's averaged weights are kept: those that answer held-out videos best."""

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
class Selection:
    """Every `every` steps `loss` judges the averaged weights; the best ones lie in `path`."""

    loss: Callable[[nn.Module], float]
    every: int
    path: Path

    def consider(self, step: int, averaged: Callable[[], nn.Module], *, last: bool) -> None:
        """Judge after `step`, where it is a step to judge at, and keep what is better than all before."""
        if step % self.every and not last:
            return
        module = averaged()
        found = self.loss(module)
        best = self.best()
        history = [*(best[2] if best else []), [step, found]]
        if best is None or found < best[1] or math.isnan(best[1]):
            self._write(module, step, found, history)
        else:
            self._write(_loaded(module, self.path), best[0], best[1], history)

    def forget(self) -> None:
        """A run begins: what an earlier one left in its folder is not its own."""
        self.path.unlink(missing_ok=True)

    def best(self) -> tuple[int, float, list[list[float]]] | None:
        """Step and loss of what is kept, and all that was judged; None before the first."""
        if not self.path.exists():
            return None
        with safe_open(self.path, framework="pt") as file:
            said = file.metadata()
        return int(said["step"]), float(said["loss"]), json.loads(said["history"])

    def _write(self, module: nn.Module, step: int, loss: float, history: list[list[float]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        weights = {name: value.contiguous() for name, value in module.state_dict().items()}
        save_file(weights, part, {"step": str(step), "loss": repr(loss), "history": json.dumps(history)})
        part.replace(self.path)


def _loaded(module: nn.Module, path: Path) -> nn.Module:
    module.load_state_dict(load_file(path))
    return module
