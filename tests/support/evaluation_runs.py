"""Make run folders as a training does, with untrained weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from edge_runtime.simulation.activities import ACTIVITIES
from engines.manifest import ActivityClass, Thresholds, TrainingRecord
from export.bundle.checkpoint import save_checkpoint
from export.bundle.writer import ModelCard
from export.networks.model import make_untrained
from export.networks.tubedetr import TubeDETR
from tests.support.export_models import small_config


def make_run(
    folder: Path,
    seed: int = 0,
    context: Sequence[str] = ("svd",),
    frames: int = 10,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    **lvm: object,
) -> Path:
    """Make the run folder of a training; its baseline was trained with `frames` a clip."""
    folder.mkdir(parents=True)
    config = small_config(activities=len(ACTIVITIES), context=context)
    classes = tuple(ActivityClass(**activity._asdict()) for activity in ACTIVITIES)
    recipe = {"tubedetr": {"stride": 3, "frames": frames, "optimiser": {"steps": 60}}, "lvm": lvm}
    record = TrainingRecord(trained=True, recipe=json.dumps(recipe), seed=seed)
    card = ModelCard("small", classes, record, thresholds)
    save_checkpoint(make_untrained(config, seed), card, folder / "checkpoint.safetensors")
    torch.manual_seed(seed)
    origin = f"{json.dumps(recipe)} from 0123"
    save_file(TubeDETR(config, 3).state_dict(), folder / "tubedetr.safetensors", {"recipe": origin})
    return folder
