"""Run folders of a training: its network, its baseline, and the results written beside them.

RUN/checkpoint.safetensors   the whole network, with its recipe
RUN/tubedetr.safetensors     the baseline of the same run
RUN/results/SPLIT/SYSTEM.jsonl, SYSTEM.events.jsonl, tubedetr.trained.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from engines.errors import BundleError, LvmError
from engines.network_config import NetworkConfig
from export.bundle.checkpoint import from_bundle, from_checkpoint
from export.bundle.writer import ModelCard
from export.evaluation.baseline import load_baseline
from export.evaluation.evaluate import Evaluation, Setting
from export.evaluation.results import EventResult, Result, load_events, load_results, save_lines
from export.networks.model import LvmNet
from export.networks.tubedetr import TubeDETR
from export.onnx_graphs.external_weights import hash_weights, select_prefix

CHECKPOINT, BASELINE, BACKBONE = "checkpoint.safetensors", "tubedetr.safetensors", "backbone.safetensors"
OWN, TUBEDETR = "lvm-net", "tubedetr"
CONTROLS: dict[str, Setting] = {
    "shuffled": Setting(order="random"),
    "by-score": Setting(spread=False),
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
    """A run folder, opened. `trained_longer` is another run, whose baseline replaces that of this run."""

    folder: Path
    network: LvmNet
    card: ModelCard
    trained_longer: Path | None = None

    @classmethod
    def open(cls, folder: Path, trained_longer: Path | None = None) -> TrainedRun:
        """Open the folder of a run, or a bundle: what a device runs, as its torch network, without a
        baseline.

        A run gives its modified TubeDETR few steps, as the reader's first weights. A fair baseline takes as
        much training as LVM-Net: a run on the same backbone that ended with that stage, `trained_longer`.
        Raises LvmError where it has another backbone.
        """
        opened = from_bundle(folder) if is_bundle(folder) else from_checkpoint(folder / CHECKPOINT)
        run = cls(folder, *opened, trained_longer)
        if trained_longer is not None:
            its = select_prefix(_read_weights(trained_longer / BACKBONE), "backbone.")
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
        """Return the value at `keys` in the recipe; None where there is none."""
        return self.card.recipe(*keys)

    def setting(self, system: str) -> Setting:
        """Return how `system` answers. The run's own memory is filled by the sampler that it was trained
        with."""
        if system not in (OWN, *CONTROLS):
            raise LvmError(f"system must be one of {', '.join(SYSTEMS)}, got {system!r}")
        setting = Setting() if system == OWN else CONTROLS[system]
        sampler = self.recipe("lvm", "sampler") or "neural"
        own = setting.sampler == "neural"
        return replace(setting, sampler=sampler if own else setting.sampler, seed=self.seed)

    def baseline(self) -> tuple[TubeDETR, int]:
        """Load the modified TubeDETR of the run, and the frames of a clip that it was trained with."""
        recipe = self._baseline_recipe()
        stride, frames = recipe.get("stride") or 5, recipe.get("frames") or self.config.clip_frames
        return load_baseline((self.trained_longer or self.folder) / BASELINE, self.config, stride), frames

    def baseline_trained(self) -> dict[str, Any]:
        """Return the run of the baseline and its number of training steps; None where it is not recorded."""
        steps = (self._baseline_recipe().get("optimiser") or {}).get("steps")
        return {"run": str(self.trained_longer or self.folder), "steps": steps}

    def _baseline_recipe(self) -> dict[str, Any]:
        """Return the recipe's part for the baseline, of the run that trained it: its weights fit
        any stride."""
        if self.trained_longer is None:
            return self.recipe("tubedetr") or {}
        path = self.trained_longer / BASELINE
        if not path.is_file():
            raise LvmError(f"baseline {path} does not exist: train up to stage tubedetr")
        try:
            with safe_open(path, framework="pt") as opened:
                text = (opened.metadata() or {}).get("recipe", "")
            # What the recipe started from may follow it.
            recipe: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]["tubedetr"]
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{path} must say in its metadata by what recipe it was trained, as a run leaves it: {error}"
            ) from error
        return recipe

    def backbone_digest(self) -> str:
        """Return a digest of the frozen backbone's weights: tokens of another backbone are useless."""
        return hash_weights(self.network.backbone)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise LvmError(f"{path} does not exist: name the folder of a run that trained its tubedetr")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BundleError(f"{path} must be a .safetensors file: {error}") from error


def is_bundle(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and not (folder / CHECKPOINT).is_file()


def results_file(folder: Path, split: str, system: str) -> Path:
    return folder / "results" / split / f"{system}.jsonl"


def events_file(folder: Path, split: str, system: str) -> Path:
    return folder / "results" / split / f"{system}.events.jsonl"


def trained_file(folder: Path, split: str) -> Path:
    """Return the file that names the baseline that answered."""
    return folder / "results" / split / f"{TUBEDETR}.trained.json"


def save_evaluation(evaluation: Evaluation, folder: Path, split: str, system: str) -> None:
    """Write results, and evidence by event if the system remembers any."""
    save_lines(evaluation.results, results_file(folder, split, system))
    if evaluation.events:
        save_lines(evaluation.events, events_file(folder, split, system))


def read_baselines(folders: Sequence[Path], split: str) -> list[dict[str, Any]]:
    """Read `TrainedRun.baseline_trained` of the baselines that answered, where it was written."""
    files = [trained_file(folder, split) for folder in folders]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def read_results(folders: Sequence[Path], split: str, system: str) -> list[Result] | None:
    """Read the results of all runs into one list; None unless all of them have some."""
    files = [results_file(folder, split, system) for folder in folders]
    if not files or not all(file.is_file() for file in files):
        return None
    return [result for file in files for result in load_results(file)]


def read_events(folders: Sequence[Path], split: str, system: str) -> list[EventResult] | None:
    """Read events as `read_results` reads results."""
    files = [events_file(folder, split, system) for folder in folders]
    if not files or not all(file.is_file() for file in files):
        return None
    return [event for file in files for event in load_events(file)]
