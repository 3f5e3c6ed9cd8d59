"""One recipe from nothing to a checkpoint: backbone, tokens of its videos, modified TubeDETR, LVM-Net.

Every stage leaves a file in the output folder and is not run again where that lies; a stage that was killed
goes on from its last saved step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from engines.errors import LvmError
from engines.manifest import TrainingRecord
from export.bundle.checkpoint import save_checkpoint
from export.bundle.class_embeddings import describe_classes
from export.bundle.writer import ModelCard
from export.data.token_cache import VideoCache
from export.networks.model import LvmNet, make_untrained
from export.networks.torch_engine import TorchEngine
from export.onnx_graphs.external_weights import hash_weights, select_prefix
from export.training.backbone.task import BackboneTask, BackboneTrainer
from export.training.data.dataset import Footage, Split, footage_of
from export.training.data.epoch_views import Showings
from export.training.data.product_photos import PhotoSet
from export.training.data.view_augmentation import LOOKS
from export.training.loop.checkpoint_selection import Selection
from export.training.loop.distributed import Team
from export.training.loop.trainer import Run
from export.training.lvm.queue_entries import fit_entries
from export.training.lvm.task import LvmTask
from export.training.lvm.trainer import LvmTrainer
from export.training.recipe import Recipe
from export.training.tubedetr import TubeTask, TubeTrainer
from export.training.warm_start import held_out_by_both, origin, start_of, without_folders

STAGES = ("backbone", "tubedetr", "lvm")
CHECKPOINT = "checkpoint.safetensors"
_FILES = {"backbone": 2, "tubedetr": 3, "lvm": 4}
"""Version of what stages leave; no run goes on from files of another. 2: identities beside the backbone. 3:
decoder steps of object questions are thinned by their ticks. tubedetr 3, lvm 4: its clips are of the window
that is asked about."""
_JUDGED = 8
"""How often a stage with held-out videos is judged."""
_VALIDATION_STEPS = 30


@dataclass
class Training:
    """A recipe on its way in `folder`; tokens of videos lie in `cache`, which several runs may share."""

    recipe: Recipe
    folder: Path
    cache: Path
    team: Team = field(default_factory=Team)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        self.footage: Footage = footage_of(self.recipe.data, self.recipe.network, self.cache)
        self._files = self.footage.fingerprint()  # once: what is added meanwhile is of the next run
        self.start: LvmNet | None = None
        self._held_out = self.footage.held_out
        self._origin: dict[str, Any] = {}
        if self.recipe.start is not None:
            self.start, card = start_of(self.recipe)
            self._held_out = held_out_by_both(card, self.recipe.data, self.footage)
            self._origin = {"start": origin(self.start, card)}

    def run(self, last: str = "lvm") -> None:
        """All stages up to `last`. Raises LvmError for a stage that is none."""
        if last not in STAGES:
            raise LvmError(f"stage must be one of {', '.join(STAGES)}, got {last}")
        self._check_batches(last)
        torch.set_num_threads(self.recipe.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        taught = self._stage("backbone", self._backbone)
        if last == "backbone":
            return
        network = make_untrained(self.recipe.network, self.recipe.seed)
        network.backbone.load_state_dict(select_prefix(taught, "backbone."))
        looks = range(self.recipe.data.showings)
        videos = Showings([self._videos(network, "train", look) for look in looks], self.recipe.seed)
        tube = self._reader(videos, select_prefix(taught, "identity."))
        if last == "tubedetr":
            return
        held_out = self._videos(network, "val")
        learned = self._stage("lvm", lambda: self._lvm(videos, held_out, tube))
        network.sampler.load_state_dict(select_prefix(learned, "sampler."))
        network.reader.load_state_dict(select_prefix(learned, "reader."))
        if not self.team.rank:
            save_checkpoint(network, self._judged(network, held_out), self.folder / CHECKPOINT)

    def _check_batches(self, last: str) -> None:
        """Raises LvmError for what would otherwise be found out when the first stages are done."""
        if last != "lvm":
            return
        batch, videos = self.recipe.lvm.batch, self.footage.count("train")
        if videos < batch:
            raise LvmError(
                f"lvm.batch={batch} distinct videos need as many videos to learn from, got {videos}: set "
                f"lvm.batch to {videos}"
            )
        if batch % self.team.size:
            raise LvmError(
                f"lvm.batch must be a multiple of the {self.team.size} processes, got {batch}; change it or "
                "--nproc-per-node"
            )

    def _judged(self, network: LvmNet, held_out: Sequence[VideoCache]) -> ModelCard:
        """The card with what held-out videos say: how sure answers may be, and how often they are right."""
        from export.evaluation.confidence import calibrate
        from export.evaluation.evaluate import Setting, evaluate
        from export.evaluation.query_sets import make_queries
        from export.evaluation.report import summarise_for_manifest
        from export.evaluation.stream_run import Model

        card = self.card()
        queries = make_queries(held_out, seed=self.recipe.seed)
        # A memory that it was not trained with would be judged by a sampler that has learned nothing.
        setting = Setting(self.recipe.lvm.sampler, seed=self.recipe.seed)
        found = evaluate(Model.from_network(network, card), held_out, queries, setting)
        thresholds = calibrate(found.results)
        said = summarise_for_manifest(found.results, found.events, thresholds.time_head, "validation")
        training = card.training.model_copy(update={"results": card.training.results | said})
        return replace(card, training=training, thresholds=thresholds)

    def card(self) -> ModelCard:
        """What the checkpoint says of itself before it is judged."""
        recipe = without_folders(self.recipe)
        record = TrainingRecord(
            trained=True,
            recipe=recipe.model_dump_json(exclude={"network", "data", "save_seconds", "threads"}),
            seed=recipe.seed,
            data=json.dumps(self.footage.version() | self._looks() | self._origin),
            results=self._validation(),
            held_out=self._held_out,
        )
        return ModelCard(recipe.name, self.footage.classes, record)

    def _looks(self) -> dict[str, Any]:
        """What the manifest says of them; nothing where all is as filmed."""
        data = self.recipe.data
        if data.showings == 1:
            return {}
        return {"looks": LOOKS, "showings": data.showings, "mirrored": data.mirrored}

    # -- stages --------------------------------------------------------------------------------------------

    def _backbone(self) -> nn.Module:
        data, stage = self.recipe.data, self.recipe.backbone
        if not stage.optimiser.steps:
            assert self.start is not None
            likeness = self.start.reader.embed.likeness
            kept = {"backbone": self.start.backbone}
            return nn.ModuleDict(kept | ({} if likeness is None else {"identity": likeness.identity}))
        photos = None
        if data.products is not None and stage.photos_a_batch:
            some_ask = data.folder is not None
            photos = PhotoSet(data.products, data.held_out, some_ask=some_ask, cache=self.cache)
        scenes = self.team.first_alone(lambda: self.footage.scenes(stage))
        task = BackboneTask(self.recipe, scenes, photos, self.device)
        trained = self._loop(task, stage.optimiser).train()
        assert isinstance(trained, BackboneTrainer)
        return nn.ModuleDict({"backbone": trained.backbone, "identity": trained.identity})

    def _reader(self, videos: Showings, identity: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights that a reader begins with; `identity` is what the backbone's pictures taught it."""
        if self.recipe.tubedetr.optimiser.steps:
            return self._stage("tubedetr", lambda: self._tubedetr(videos, identity))
        assert self.start is not None
        return self.start.reader.state_dict()

    def _tubedetr(self, videos: Showings, identity: dict[str, torch.Tensor]) -> nn.Module:
        stage = self.recipe.tubedetr
        task = TubeTask(self.recipe.network, stage, videos, self.recipe.seed, self.device)
        assert isinstance(task.module, TubeTrainer)
        likeness = task.module.tubedetr.embed.likeness
        if likeness is not None and identity:
            likeness.identity.load_state_dict(identity)
        if stage.from_start:
            assert self.start is not None
            task.module.tubedetr.load_state_dict(self.start.reader.state_dict(), strict=False)
        trained = self._loop(task, stage.optimiser).train()
        assert isinstance(trained, TubeTrainer)
        return trained.tubedetr

    def _lvm(
        self, videos: Showings, held_out: Sequence[VideoCache], tube: dict[str, torch.Tensor]
    ) -> nn.Module:
        recipe = self.recipe
        task = LvmTask(recipe.network, recipe.lvm, videos, recipe.seed, self.team, self.device)
        assert isinstance(task.module, LvmTrainer)
        task.module.reader.load_state_dict(tube, strict=False)
        if not recipe.tubedetr.optimiser.steps:
            assert self.start is not None
            if self.start.config.sampler == recipe.network.sampler:  # else it is learned anew
                task.module.sampler.load_state_dict(self.start.sampler.state_dict(), strict=False)
        self._learn_entries(task.module, videos.ways[0])
        selection = Selection(
            lambda module: self._judge(module, held_out),
            max(1, recipe.lvm.optimiser.steps // _JUDGED),
            self.folder / "lvm.best",
        )
        trained = self._loop(task, recipe.lvm.optimiser, selection).train()
        trained.load_state_dict(load_file(selection.path))
        return trained

    def _learn_entries(self, module: LvmTrainer, videos: Sequence[VideoCache]) -> None:
        """What makes text and region entries of clips; the start's, where that knows how."""
        describe_classes(module.reader, self.footage.classes)
        maker, recipe = module.sampler.entry, self.recipe
        if maker is None or (self.start is not None and self.start.config.queues):
            return
        maker.requires_grad_(True)
        loss = fit_entries(maker, videos, recipe.network, recipe.lvm.entry_steps, recipe.seed)
        maker.requires_grad_(False)
        self.console.print(f"entries of clips: loss {loss:.4f} after {recipe.lvm.entry_steps} steps")

    def _judge(self, module: nn.Module, held_out: Sequence[VideoCache]) -> float:
        """Mean loss of answers about held-out videos, without noise.

        They are swept from their start, for up to `_VALIDATION_STEPS` clips.
        """
        network = self.recipe.network
        clip_s = network.clip_frames / network.sample_fps
        longest = max(cache.clips for cache in held_out) * clip_s / 60
        recipe = self.recipe.lvm.model_copy(
            update={
                "batch": min(self.recipe.lvm.batch, len(held_out)),
                "chronological": 1.0,
                "tight_until": 0.0,
                "curriculum_minutes": (longest,),
            }
        )
        task = LvmTask(network, recipe, held_out, self.recipe.seed, Team(), self.device)
        task.module.load_state_dict(module.state_dict())
        task.module.eval()
        total = 0.0
        steps = min(_VALIDATION_STEPS, min(cache.clips for cache in held_out))
        with torch.no_grad():
            for step in range(steps):
                _, parts, output = task.module(task.batch(step))
                task.after(step, output)
                total += sum(float(value) for name, value in parts.items() if name not in GUIDANCE)
        return total / steps

    def _loop(self, task: Any, optimiser: Any, selection: Selection | None = None) -> Run:
        return Run(
            task,
            optimiser,
            self.folder,
            self.recipe.seed,
            self.team,
            self.recipe.save_seconds,
            self.device,
            selection,
            self._made_by(task.name),
        )

    # -- what they share -----------------------------------------------------------------------------------

    def _stage(self, name: str, train: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
        """Weights of a finished stage; it is run where its file is missing.

        Raises LvmError where the file was made by another recipe.
        """
        file = self.folder / f"{name}.safetensors"
        said = self._made_by(name)
        if self.team.agreed(file.exists()):
            with safe_open(file, framework="pt") as opened:
                known = (opened.metadata() or {}).get("recipe")
            if known != said:
                raise LvmError(
                    f"{file} was made by another recipe, seed, data or version than the one given; "
                    "choose another --output, or remove the file to make it anew"
                )
        else:
            module = train()
            if self.team.rank == 0:
                part = file.with_suffix(".part")
                weights = {key: value.contiguous().cpu() for key, value in module.state_dict().items()}
                save_file(weights, part, {"recipe": said})
                part.replace(file)
            self.team.wait()
        return load_file(file)

    def _made_by(self, name: str) -> str:
        """All that the weights of a stage depend on: its part of the recipe and those of earlier stages."""
        parts = STAGES[: STAGES.index(name) + 1]
        looks = self.recipe.data.showings > 1 and name != "backbone"
        shown = None if looks else {"data": {"showings", "mirrored"}}
        said = self.recipe.model_dump_json(include={"seed", "network", "data", *parts}, exclude=shown)
        said = f"{said} files {_FILES[name]}" + (f" looks {LOOKS}" if looks else "")
        said = f"{said} of {self._files}" if self._files else said
        return said if self.start is None else f"{said} from {hash_weights(self.start)}"

    def _videos(self, network: LvmNet, split: Split, showing: int = 0) -> list[VideoCache]:
        digest = hash_weights(network.backbone)
        engine = TorchEngine(network.to(self.device), "backbone")
        which = f"{split} videos" + (f", look {showing}" if showing else "")
        with self.console.status(which) as status:
            return self.team.first_alone(
                lambda: self.footage.videos(
                    split,
                    engine,
                    self.cache,
                    digest,
                    lambda number, of: status.update(f"{which}: {number} of {of}"),
                    showing,
                )
            )

    def _validation(self) -> dict[str, float]:
        best = Selection(lambda _: 0.0, 1, self.folder / "lvm.best").best()
        return {} if best is None else {"validation.loss": best[1], "validation.step": float(best[0])}


GUIDANCE = ("relevance", "sampler", "outline")
"""Parts of the loss that are no answers."""
