"""One member of a team of two that trains a toy recipe whole, and then from a start (test_distributed).

The second member comes late to every stage, when the first may have written its file already. Prints one JSON
line: how often it waited, and what the networks of both runs are like.
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
from export.training.loop.distributed import ProcessGroup, join_process_group
from export.training.recipe import Recipe
from export.training.stages import CHECKPOINT, Training
from tests.training.test_stages import recipe_of, started


@dataclass(frozen=True)
class Counted(ProcessGroup):
    waits: list[float] = field(default_factory=list)

    def barrier(self) -> None:
        self.waits.append(time.monotonic())
        super().barrier()


class Late(Training):
    def _run_stage(self, name: str, train: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
        time.sleep(self.processes.rank)
        return super()._run_stage(name, train)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    one = join_process_group(torch.device("cpu"))
    processes = Counted(one.rank, one.size)
    first = folder / "whole" / "run"
    sums = [trained(recipe_of(), first, processes)]
    sums.append(
        trained(
            started(recipe_of(), first / CHECKPOINT, "backbone", "tubedetr"), folder / "on" / "run", processes
        )
    )
    print(json.dumps({"rank": processes.rank, "waits": len(processes.waits), "sums": sums}))


def trained(recipe: Recipe, run: Path, processes: ProcessGroup) -> float:
    Late(recipe, run, run.parent / "cache", processes, console=Console(file=io.StringIO())).run()
    processes.barrier()  # the first member writes the checkpoint for all
    network, _ = from_checkpoint(run / CHECKPOINT)
    return sum(float(value.double().abs().sum()) for value in network.state_dict().values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
