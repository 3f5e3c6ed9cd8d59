"""Run one member of a group of two that trains a toy recipe, and again from a checkpoint (test_distributed).

The second member is late at every stage, when the first may have written its file already. Prints one JSON
line: how often it waited, and a checksum of the networks of both runs.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from export.bundle.checkpoint import from_checkpoint
from export.training.loop.distributed import Team, join_team
from export.training.recipe import Recipe
from export.training.stages import CHECKPOINT, Training
from tests.training.test_training_stages import recipe_of, started


@dataclass(frozen=True)
class CountedTeam(Team):
    waits: list[float] = field(default_factory=list)

    def wait(self) -> None:
        self.waits.append(time.monotonic())
        super().wait()


class LateTraining(Training):
    def _stage(self, name: str, train: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
        time.sleep(self.team.rank)
        return super()._stage(name, train)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    joined = join_team(torch.device("cpu"))
    team = CountedTeam(joined.rank, joined.size)
    first = folder / "whole" / "run"
    sums = [train_and_sum(recipe_of(), first, team)]
    sums.append(
        train_and_sum(
            started(recipe_of(), first / CHECKPOINT, "backbone", "tubedetr"), folder / "on" / "run", team
        )
    )
    print(json.dumps({"rank": team.rank, "waits": len(team.waits), "sums": sums}))


def train_and_sum(recipe: Recipe, run: Path, team: Team) -> float:
    LateTraining(recipe, run, run.parent / "cache", team, console=Console(file=io.StringIO())).run()
    team.wait()  # the first member writes the checkpoint for all
    network, _ = from_checkpoint(run / CHECKPOINT)
    return sum(float(value.double().abs().sum()) for value in network.state_dict().values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
