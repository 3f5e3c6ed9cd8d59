"""One member of a team of two, for test_distributed: `torchrun`'s environment, toy videos, gloo on the CPU.

Prints one JSON line: after every step the checksum of the bank, of the weights and of the gradients, and the
videos of its part of the batch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from export.training.loop.distributed import join_process_group
from export.training.loop.trainer import TrainingLoop
from export.training.lvm.task import LvmTask
from export.training.recipe import Optimiser
from tests.support.training_models import bank_checksum, toy_caches, toy_config, toy_recipe

STEPS = 4


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    processes = join_process_group(cpu)
    recipe = toy_recipe(batch=4, optimiser=Optimiser(steps=STEPS, learning_rate=1e-2))
    task = LvmTask(toy_config(), recipe, toy_caches(), 0, processes, cpu)
    said: dict[str, list[object]] = {"bank": [], "weights": [], "gradients": [], "videos": []}

    def note(_: int) -> None:
        parameters = list(task.module.parameters())
        said["bank"].append(bank_checksum(task._bank))
        said["weights"].append(sum(float(p.detach().double().sum()) for p in parameters))
        gradients = [p.grad for p in parameters if p.grad is not None]
        said["gradients"].append(sum(float(g.double().abs().sum()) for g in gradients))
        said["videos"].append(task._videos.tolist())

    TrainingLoop(task, recipe.optimiser, folder, 0, processes).train(on_step=note)
    made = processes.rank_zero_first(lambda: _first_of(folder / "made"))
    agreed = [processes.broadcast(processes.rank == 0), processes.broadcast(processes.rank == 1)]
    print(
        json.dumps({**said, "rank": processes.rank, "size": processes.size, "made": made, "agreed": agreed})
    )


def _first_of(file: Path) -> bool:
    """Whether the file was not there yet; then it is made."""
    first = not file.exists()
    file.touch()
    return first


if __name__ == "__main__":
    main(Path(sys.argv[1]))
