"""Folders that a training left: its network, its baseline, and the results that were written beside them.

RUN/checkpoint.safetensors   the whole network, with its recipe
RUN/tubedetr.safetensors     the baseline of the same run
RUN/results/SPLIT/SYSTEM.jsonl, SYSTEM.events.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from engines.errors import LvmError
from engines.manifest import NetworkConfig
from export.bundle_writer import ModelCard
from export.checkpoint import from_bundle, from_checkpoint
from export.evaluation.baseline import load_baseline
from export.evaluation.evaluate import Evaluation, Setting
from export.evaluation.results import EventResult, Result, load_events, load_results, save_lines
from export.networks.model import LvmNet
from export.networks.tubedetr import TubeDETR
from export.weights import weights_digest

CHECKPOINT, BASELINE, BACKBONE = "checkpoint.safetensors", "tubedetr.safetensors", "backbone.safetensors"
OWN, TUBEDETR = "lvm-net", "tubedetr"
CONTROLS: dict[str, Setting] = {
    "shuffled": Setting(order="random"),
    "random": Setting("random"),
    "fifo": Setting("fifo"),
    "uniform-frames": Setting("uniform-frames"),
    "svd-novelty": Setting("svd-novelty"),
    "oracle": Setting("oracle"),
    "query-blind": Setting(blind="query"),
    "memory-blind": Setting(blind="memory"),
}
SYSTEMS = (OWN, TUBEDETR, *CONTROLS)


@dataclass(frozen=True)
class TrainedRun:
    """A run folder, opened. `trained_longer` is another one, whose baseline stands for that of this."""

    folder: Path
    network: LvmNet
    card: ModelCard
    trained_longer: Path | None = None

    @classmethod
    def open(cls, folder: Path, trained_longer: Path | None = None) -> TrainedRun:
        """A run's folder, or a bundle: what a device runs, by its torch twin, without a baseline.

        A run gives its modified TubeDETR few steps, as the reader's first weights. A fair baseline takes as
        much training as LVM-Net: a run on the same backbone that ended with that stage, `trained_longer`.
        Raises LvmError where it has another backbone.
        """
        opened = from_bundle(folder) if is_bundle(folder) else from_checkpoint(folder / CHECKPOINT)
        run = cls(folder, *opened, trained_longer)
        if trained_longer is not None:
            its = load_file(trained_longer / BACKBONE)
            ours = run.network.backbone.state_dict()
            if its.keys() != ours.keys() or any(not torch.equal(its[name], ours[name]) for name in its):
                raise LvmError(f"{trained_longer} must have the backbone of {folder}, it has another")
        return run

    @property
    def seed(self) -> int:
        return self.card.training.seed or 0

    @property
    def config(self) -> NetworkConfig:
        return self.network.config

    def recipe(self, *keys: str) -> Any:
        """What the recipe says at `keys`; None where it says nothing."""
        try:
            found = json.loads(self.card.training.recipe)
        except ValueError:
            return None
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def setting(self, system: str) -> Setting:
        """How `system` answers. The run's own memory is filled by the sampler that it was trained with."""
        if system not in (OWN, *CONTROLS):
            raise LvmError(f"system must be one of {', '.join(SYSTEMS)}, got {system!r}")
        setting = Setting() if system == OWN else CONTROLS[system]
        sampler = self.recipe("lvm", "sampler") or "neural"
        own = setting.sampler == "neural"
        return Setting(sampler if own else setting.sampler, setting.order, setting.blind, self.seed)

    def baseline(self) -> tuple[TubeDETR, int]:
        """The modified TubeDETR of the run, and the frames of a clip that it was trained with."""
        stride = self.recipe("tubedetr", "stride") or 5
        frames = self.recipe("tubedetr", "frames") or self.config.clip_frames
        return load_baseline((self.trained_longer or self.folder) / BASELINE, self.config, stride), frames

    def backbone_digest(self) -> str:
        """Names the frozen backbone by its weights: tokens of another one are of no use."""
        return weights_digest(self.network.backbone)


def is_bundle(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and not (folder / CHECKPOINT).is_file()


def results_file(folder: Path, split: str, system: str) -> Path:
    return folder / "results" / split / f"{system}.jsonl"


def events_file(folder: Path, split: str, system: str) -> Path:
    return folder / "results" / split / f"{system}.events.jsonl"


def save(evaluation: Evaluation, folder: Path, split: str, system: str) -> None:
    """Write results, and evidence by event where the system remembers any."""
    save_lines(evaluation.results, results_file(folder, split, system))
    if evaluation.events:
        save_lines(evaluation.events, events_file(folder, split, system))


def results_of(folders: Sequence[Path], split: str, system: str) -> list[Result] | None:
    """Results of all runs in one list; None where not all of them have any."""
    files = [results_file(folder, split, system) for folder in folders]
    if not files or not all(file.is_file() for file in files):
        return None
    return [one for file in files for one in load_results(file)]


def events_of(folders: Sequence[Path], split: str, system: str) -> list[EventResult] | None:
    """As `results_of`, of events."""
    files = [events_file(folder, split, system) for folder in folders]
    if not files or not all(file.is_file() for file in files):
        return None
    return [one for file in files for one in load_events(file)]
