"""Run one member of a group of two: `torchrun`'s environment, toy videos, gloo on the CPU (test_distributed).

Prints one JSON line: after every step the checksum of the bank, of the weights and of the gradients, and the
videos of its part of the batch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from export.training.loop.distributed import join_team
from export.training.loop.trainer import Run
from export.training.lvm.task import LvmTask
from export.training.recipe import Optimiser
from tests.support.training_models import toy_caches, toy_config, toy_recipe

STEPS = 4


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    team = join_team(cpu)
    recipe = toy_recipe(batch=4, optimiser=Optimiser(steps=STEPS, learning_rate=1e-2))
    task = LvmTask(toy_config(), recipe, toy_caches(), 0, team, cpu)
    result: dict[str, list[object]] = {"bank": [], "weights": [], "gradients": [], "videos": []}

    def note(_: int) -> None:
        parameters = list(task.module.parameters())
        result["bank"].append(task._bank.checksum())
        result["weights"].append(sum(float(p.detach().double().sum()) for p in parameters))
        gradients = [p.grad for p in parameters if p.grad is not None]
        result["gradients"].append(sum(float(g.double().abs().sum()) for g in gradients))
        result["videos"].append(task._videos.tolist())

    Run(task, recipe.optimiser, folder, 0, team).train(on_step=note)
    made = team.first_alone(lambda: _first_of(folder / "made"))
    agreed = [team.agreed(team.rank == 0), team.agreed(team.rank == 1)]
    print(json.dumps({**result, "rank": team.rank, "size": team.size, "made": made, "agreed": agreed}))


def _first_of(file: Path) -> bool:
    """Make the file if it is not there; return whether it was not."""
    first = not file.exists()
    file.touch()
    return first


if __name__ == "__main__":
    main(Path(sys.argv[1]))
