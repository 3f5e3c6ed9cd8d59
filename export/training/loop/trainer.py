"""Run the training loop of all stages: schedule, clipping, weight averaging, curves, and resuming after a
kill.

A `Task` computes the loss of step s as a pure function of its weights, its own state and (seed, s). A run
that was killed and resumes from its last saved step therefore takes the same steps as an uninterrupted one.
"""

from __future__ import annotations

import copy
import csv
import fnmatch
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engines.errors import LvmError
from export.networks.s4 import DYNAMICS
from export.training.loop.distributed import ProcessGroup
from export.training.recipe import Optimiser

BOX_HEAD_SCALE = 3.0
"""Share of the box head, a regression of its own: after 1,500 steps of 512 single tokens the mean IoU is .56
instead of .54 in unseen rooms (eight rooms, one seed)."""


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


class Task(Protocol):
    """A stage of training."""

    name: str
    module: nn.Module
    """The trained module; its forward takes a `batch` and returns (loss, parts of the loss, output)."""

    def param_groups(self) -> list[dict[str, object]]:
        """Return parameter groups; a `scale` multiplies the learning rate."""
        ...

    def batch(self, step: int) -> Mapping[str, object]:
        """Return the module's input at `step`, a pure function of the recipe and the task's state."""
        ...

    def update(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Update the task's state by the module's output (new memories)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the state besides the weights (memories, queues), for `restore`."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        ...


@dataclass
class TrainingLoop:
    """The training of one stage. `folder` holds `<name>.state` and `<name>.csv`."""

    task: Task
    optimiser: Optimiser
    folder: Path
    seed: int
    processes: ProcessGroup
    save_seconds: float = 60.0
    device: torch.device = torch.device("cpu")
    selection: CheckpointSelection | None = None
    recipe: str = ""
    """Everything that the run depends on: the state of another recipe is not resumed."""

    def __post_init__(self) -> None:
        self._adam = torch.optim.AdamW(
            self.task.param_groups(),
            lr=self.optimiser.learning_rate,
            weight_decay=self.optimiser.weight_decay,
        )
        self._scales = [float(group.get("scale", 1.0)) for group in self._adam.param_groups]
        self.average = WeightAverage(self.task.module, self.optimiser.average)
        self.step = 0

    @property
    def state_path(self) -> Path:
        """The file of this stage's state."""
        return self.folder / f"{self.task.name}.state"

    def train(self, until: int | None = None, on_step: Callable[[int], None] | None = None) -> nn.Module:
        """Train from the saved step to the last one (or `until`); return the module with averaged weights."""
        self._resume()
        last = min(until or self.optimiser.steps, self.optimiser.steps)
        model = self.processes.wrap(self.task.module)
        saved_at = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=Console(stderr=True), disable=bool(self.processes.rank)) as progress:
            bar = progress.add_task(self.task.name, total=self.optimiser.steps, completed=self.step)
            while self.step < last:
                parts = self._train_step(model)
                self._check_finite(parts)
                self.step += 1
                self._append_curve(parts)
                progress.update(bar, completed=self.step, description=f"{self.task.name} {parts['loss']:.3f}")
                if self.selection is not None and not self.processes.rank:
                    ends = self.step == self.optimiser.steps
                    self.selection.consider(self.step, self.averaged, last=ends)
                if on_step is not None:
                    on_step(self.step)
                if time.monotonic() - saved_at > self.save_seconds:
                    self.save()
                    saved_at = time.monotonic()
        self.save()
        self.processes.barrier()  # rank 0 evaluates and saves for all
        return self.averaged()

    def averaged(self) -> nn.Module:
        """Return a copy of the module with the averaged weights, in evaluation mode."""
        return self.average.make_averaged(self.task.module)

    def _train_step(self, model: nn.Module) -> dict[str, float]:
        self.task.module.train()
        torch.manual_seed(_step_seed(self.seed, self.step) + self.processes.rank)
        for group, scale in zip(self._adam.param_groups, self._scales, strict=True):
            group["lr"] = self.optimiser.learning_rate * scale * schedule(self.step, self.optimiser)
        loss, parts, output = model(self.task.batch(self.step))
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.task.module.parameters(), self.optimiser.clip_norm)
        self._adam.step()
        self.average.update(self.task.module)
        self.task.update(self.step, output)
        values = {name: float(value.detach()) for name, value in parts.items()}
        return {"loss": float(loss.detach()), "norm": float(norm), **values}

    def _check_finite(self, parts: Mapping[str, float]) -> None:
        """Raise LvmError if loss or gradient is not finite: either makes the weights useless."""
        for name in ("loss", "norm"):
            if not math.isfinite(parts[name]):
                what = "loss" if name == "loss" else "gradient"
                raise LvmError(
                    f"{self.task.name}: the {what} at step {self.step} must be finite, got {parts[name]}; "
                    f"{self.state_path} is of an earlier step and still valid; lower learning_rate"
                )

    # -- resuming ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write everything that the next step depends on; the file is replaced atomically."""
        if self.processes.rank:
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
        written = self.state_path.with_suffix(".part")
        torch.save(state, written)
        os.replace(written, self.state_path)

    def _resume(self) -> None:
        if not self.state_path.exists():
            if self.selection is not None and not self.processes.rank:
                self.selection.reset()
            return
        state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        if (state["seed"], state["steps"]) != (self.seed, self.optimiser.steps):
            raise LvmError(
                f"{self.state_path} is of a run with seed {state['seed']} and {state['steps']} steps, "
                f"this one has seed {self.seed} and {self.optimiser.steps}; choose another folder or "
                "remove the file"
            )
        if state["recipe"] != self.recipe:
            raise LvmError(
                f"{self.state_path} was begun by another recipe or with other data; "
                "choose another --output, or remove the file to start again"
            )
        self.task.module.load_state_dict(state["weights"])
        self.average.restore(state["average"])
        self._adam.load_state_dict(state["adam"])
        self.task.restore(state["task"])
        self.step = int(state["step"])

    # -- output --------------------------------------------------------------------------------------------

    def _append_curve(self, parts: dict[str, float]) -> None:
        """Append a line to `<name>.csv`; steps that are repeated after a kill have several lines."""
        if self.processes.rank:
            return
        file = self.folder / f"{self.task.name}.csv"
        new = not file.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            if new:
                writer.writerow(["step", *parts])
            writer.writerow([self.step, *(f"{value:.5g}" for value in parts.values())])


def schedule(step: int, optimiser: Optimiser) -> float:
    """Return the share of the learning rate at `step`: linear warm-up, then a cosine to zero."""
    warm = max(1, round(optimiser.warm_up * optimiser.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, optimiser.steps - warm)))


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) * 64


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


def freeze_others(module: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters that match none of `patterns`. Raises LvmError for a pattern without a match."""
    named = dict(module.named_parameters())
    for pattern in patterns:
        if not fnmatch.filter(named, pattern):
            raise LvmError(f"lvm.learns: no parameter matches {pattern}; names are like {next(iter(named))}")
    for name, parameter in named.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)


def make_reader_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of a reader or TubeDETR."""
    named = list(network.named_parameters())
    return [
        {"params": [parameter for name, parameter in named if ".outline." not in name], "scale": 1.0},
        {"params": [parameter for name, parameter in named if ".outline." in name], "scale": BOX_HEAD_SCALE},
    ]


def make_sampler_groups(sampler: nn.Module, scale: float) -> list[dict[str, Any]]:
    """Return the groups of a sampler whose learning rate is `scale` of the reader's."""
    named = [(name.rpartition(".")[2], parameter) for name, parameter in sampler.named_parameters()]
    dynamics = [parameter for name, parameter in named if name in DYNAMICS]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in named if name not in DYNAMICS], "scale": scale}
    ]
    if dynamics:  # weight decay would change time constants, not simplify them
        groups.append({"params": dynamics, "scale": scale, "weight_decay": 0.0})
    return groups
