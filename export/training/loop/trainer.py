"""The one training loop: schedule, clipping, weight averaging, curves, and going on after a kill.

A `Task` gives the loss of step number s as a pure function of its weights, its own state and (seed, s); so a
run that is killed and goes on from its last saved step takes the very steps of an uninterrupted one.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from engines.errors import LvmError
from export.training.loop.checkpoint_selection import Selection
from export.training.loop.distributed import Team
from export.training.loop.ema import WeightAverage
from export.training.recipe import Optimiser


class Task(Protocol):
    """What one stage of training consists of."""

    name: str
    module: nn.Module
    """All that is trained; its forward takes what `batch` gives and returns (loss, parts)."""

    def groups(self) -> list[dict[str, object]]:
        """Parameter groups; a `scale` multiplies the learning rate."""
        ...

    def batch(self, step: int) -> Mapping[str, object]:
        """What the module is given at `step`; a pure function of the recipe and the task's state."""
        ...

    def after(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Take in what the module gave besides its loss (new memories)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """State that is no weight (memories, queues): what `restore` needs to go on."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None: ...


@dataclass
class Run:
    """One stage on its way. `folder` holds `<name>.state` and `<name>.csv`."""

    task: Task
    optimiser: Optimiser
    folder: Path
    seed: int
    team: Team
    save_seconds: float = 60.0
    device: torch.device = torch.device("cpu")
    selection: Selection | None = None
    recipe: str = ""
    """All that the run depends on: what another recipe left is not gone on with."""

    def __post_init__(self) -> None:
        self._adam = torch.optim.AdamW(
            self.task.groups(),
            lr=self.optimiser.learning_rate,
            weight_decay=self.optimiser.weight_decay,
        )
        self._scales = [float(group.get("scale", 1.0)) for group in self._adam.param_groups]
        self.average = WeightAverage(self.task.module, self.optimiser.average)
        self.step = 0

    @property
    def path(self) -> Path:
        """Where the state of this stage lies."""
        return self.folder / f"{self.task.name}.state"

    def train(self, until: int | None = None, on_step: Callable[[int], None] | None = None) -> nn.Module:
        """Go on from the saved step to the last one (or `until`); returns the averaged weights' module."""
        self._resume()
        last = min(until or self.optimiser.steps, self.optimiser.steps)
        model = self.team.wrapped(self.task.module)
        saved = time.monotonic()
        with self._progress() as progress:
            bar = progress.add_task(self.task.name, total=self.optimiser.steps, completed=self.step)
            while self.step < last:
                parts = self._one_step(model)
                self._check(parts)
                self.step += 1
                self._curve(parts)
                progress.update(bar, completed=self.step, description=f"{self.task.name} {parts['loss']:.3f}")
                if self.selection is not None and not self.team.rank:
                    ends = self.step == self.optimiser.steps
                    self.selection.consider(self.step, self.averaged, last=ends)
                if on_step is not None:
                    on_step(self.step)
                if time.monotonic() - saved > self.save_seconds:
                    self.save()
                    saved = time.monotonic()
        self.save()
        self.team.wait()  # the first member judges and saves for all
        return self.averaged()

    def averaged(self) -> nn.Module:
        """A copy of the module with the averaged weights, in evaluation mode."""
        return self.average.module(self.task.module)

    def _one_step(self, model: nn.Module) -> dict[str, float]:
        self.task.module.train()
        torch.manual_seed(_step_seed(self.seed, self.step) + self.team.rank)
        for group, scale in zip(self._adam.param_groups, self._scales, strict=True):
            group["lr"] = self.optimiser.learning_rate * scale * schedule(self.step, self.optimiser)
        loss, parts, output = model(self.task.batch(self.step))
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.task.module.parameters(), self.optimiser.clip_norm)
        self._adam.step()
        self.average.update(self.task.module)
        self.task.after(self.step, output)
        shown = {name: float(value.detach()) for name, value in parts.items()}
        return {"loss": float(loss.detach()), "norm": float(norm), **shown}

    def _check(self, parts: Mapping[str, float]) -> None:
        """A finite loss may have a gradient that is not: its step has spoilt the weights all the same."""
        for name in ("loss", "norm"):
            if not math.isfinite(parts[name]):
                what = "loss" if name == "loss" else "gradient"
                raise LvmError(
                    f"{self.task.name}: the {what} at step {self.step} must be finite, got {parts[name]}; "
                    f"what {self.path} holds is of an earlier step and kept; lower learning_rate"
                )

    # -- going on ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write everything that the next step depends on; the file is exchanged at once."""
        if self.team.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "seed": self.seed,
            "steps": self.optimiser.steps,
            "recipe": self.recipe,
            "weights": self.task.module.state_dict(),
            "average": self.average.state(),
            "adam": self._adam.state_dict(),
            "task": self.task.state(),
        }
        written = self.path.with_suffix(".part")
        torch.save(state, written)
        os.replace(written, self.path)

    def _resume(self) -> None:
        if not self.path.exists():
            if self.selection is not None and not self.team.rank:
                self.selection.forget()
            return
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        if (state["seed"], state["steps"]) != (self.seed, self.optimiser.steps):
            raise LvmError(
                f"{self.path} is of a run with seed {state['seed']} and {state['steps']} steps, this one has "
                f"seed {self.seed} and {self.optimiser.steps}; choose another folder or remove the file"
            )
        if state["recipe"] != self.recipe:
            raise LvmError(
                f"{self.path} was begun by another recipe or with other data; choose another --output, or "
                "remove the file to begin anew"
            )
        self.task.module.load_state_dict(state["weights"])
        self.average.restore(state["average"])
        self._adam.load_state_dict(state["adam"])
        self.task.restore(state["task"])
        self.step = int(state["step"])

    # -- what a person sees --------------------------------------------------------------------------------

    def _curve(self, parts: dict[str, float]) -> None:
        """One line a step in `<name>.csv`; lines of steps that are taken again after a kill are repeated."""
        if self.team.rank:
            return
        file = self.folder / f"{self.task.name}.csv"
        new = not file.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            if new:
                writer.writerow(["step", *parts])
            writer.writerow([self.step, *(f"{value:.5g}" for value in parts.values())])

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        quiet = bool(self.team.rank)
        return Progress(*columns, console=Console(stderr=True), disable=quiet)


def schedule(step: int, optimiser: Optimiser) -> float:
    """Share of the learning rate at `step`: linear warm-up, then a cosine to zero."""
    warm = max(1, round(optimiser.warm_up * optimiser.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, optimiser.steps - warm)))


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) * 64
