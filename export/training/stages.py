"""Train a recipe up to a checkpoint: backbone, tokens of its videos, modified TubeDETR, LVM-Net.

Every stage writes a file to the output folder and is skipped if that exists; a stage that was killed resumes
from its last saved step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from engines.manifest import TrainingRecord
from engines.network_config import NetworkConfig
from export.bundle.checkpoint import from_bundle, from_checkpoint, save_checkpoint
from export.bundle.class_embeddings import describe_classes
from export.bundle.writer import ModelCard
from export.data.records import Split
from export.data.token_cache import VideoCache
from export.networks.model import LvmNet, make_untrained
from export.networks.pretrained import find_public_weights
from export.onnx_graphs.external_weights import hash_weights, select_prefix
from export.training.backbone.task import BackboneTask, BackboneTrainer
from export.training.backbone.trunk_engine import make_backbone_engine
from export.training.data.dataset import VideoDataset, open_dataset
from export.training.data.product_photos import PhotoSet
from export.training.data.view_augmentation import VIEW_VERSION, EpochViews
from export.training.loop.distributed import ProcessGroup
from export.training.loop.trainer import CheckpointSelection, TrainingLoop
from export.training.lvm.queue_entries import fit_entries
from export.training.lvm.task import LvmTask
from export.training.lvm.trainer import LvmTrainer
from export.training.recipe import Data, Recipe
from export.training.tubedetr import TubeTask, TubeTrainer

STAGES = ("backbone", "tubedetr", "lvm")
CHECKPOINT = "checkpoint.safetensors"
_FILES = {"backbone": 2, "tubedetr": 3, "lvm": 4}
"""Version of the stages' files; files of another version are not continued. 2: product identities beside the
backbone. 3: decoder steps of object questions are thinned by their ticks. tubedetr 3, lvm 4: clips lie inside
the question's window."""
_BACKBONE_FIELDS = {"backbone", "image_size", "d_backbone", "appearance", "grid", "activities", "sample_fps"}
"""Of the network's configuration, what a backbone's weights depend on."""
_VALIDATIONS = 8
"""Validations during the last stage."""
_VALIDATION_STEPS = 30
GUIDANCE_PARTS = ("relevance", "sampler", "outline")
"""Parts of the loss that train tokens, not answers."""
_BACKBONE_KEYS = ("backbone", "image_size", "d_backbone")
_MAY_DIFFER = ("context", "queue")
_WITHOUT_WEIGHTS = ("memory_tokens",)
_MAY_BE_NEW = ("order",)
"""Parts that a start may lack: they are learned, and its other weights stay."""
_SAMPLER_KEYS = ("sampler", "sampler_layers", "sampler_states")


@dataclass
class Training:
    """The training of a recipe in `folder`; several runs may share the `cache` of videos' tokens."""

    recipe: Recipe
    folder: Path
    cache: Path
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        self.dataset: VideoDataset = open_dataset(self.recipe.data, self.recipe.network, self.cache)
        self._files = (
            self.dataset.fingerprint()
        )  # once: files that are added meanwhile count for the next run
        self.start: LvmNet | None = None
        self._held_out = self.dataset.held_out
        self._origin: dict[str, Any] = {}
        self._attributions: tuple[str, ...] = ()
        if self.recipe.start is not None:
            self.start, card = load_start(self.recipe)
            self._held_out = combine_held_out(card, self.recipe.data, self.dataset)
            self._origin = {"start": describe_start(self.start, card)}
            if not self.recipe.backbone.optimiser.steps:  # otherwise nothing of its backbone is used
                self._attributions = card.attributions

    def run(self, last: str = "lvm") -> None:
        """Run all stages up to `last`. Raises LvmError for an unknown stage."""
        if last not in STAGES:
            raise LvmError(f"stage must be one of {', '.join(STAGES)}, got {last}")
        self._check_batches(last)
        torch.set_num_threads(self.recipe.threads)
        self.folder.mkdir(parents=True, exist_ok=True)
        backbone = self._run_stage("backbone", self._train_backbone)
        if last == "backbone":
            return
        network = make_untrained(self.recipe.network, self.recipe.seed)
        network.backbone.load_state_dict(select_prefix(backbone, "backbone."))
        views = range(self.recipe.data.showings)
        videos = EpochViews([self._encode_videos(network, "train", view) for view in views], self.recipe.seed)
        reader = self._make_reader(videos, select_prefix(backbone, "identity."))
        if last == "tubedetr":
            return
        held_out = self._encode_videos(network, "val")
        learned = self._run_stage("lvm", lambda: self._train_lvm(videos, held_out, reader))
        # The strangeness is fitted, not learned.
        network.sampler.load_state_dict(select_prefix(learned, "sampler."), strict=False)
        fit_strangeness(network, videos.views[0], held_out)
        network.reader.load_state_dict(select_prefix(learned, "reader."))
        if not self.processes.rank:
            save_checkpoint(network, self._make_validated_card(network, held_out), self.folder / CHECKPOINT)

    def _check_batches(self, last: str) -> None:
        """Raise LvmError for errors that would otherwise appear only after the first stages."""
        if last != "lvm":
            return
        batch, videos = self.recipe.lvm.batch, self.dataset.count("train")
        if videos < batch:
            raise LvmError(
                f"lvm.batch={batch} distinct videos need as many videos to learn from, got {videos}: set "
                f"lvm.batch to {videos}"
            )
        if batch % self.processes.size:
            raise LvmError(
                f"lvm.batch must be a multiple of the {self.processes.size} processes, got {batch}; "
                "change it or --nproc-per-node"
            )

    def _make_validated_card(self, network: LvmNet, held_out: Sequence[VideoCache]) -> ModelCard:
        """Return the card with thresholds and accuracy measured on held-out videos."""
        from export.evaluation.confidence import calibrate
        from export.evaluation.evaluate import Setting, evaluate
        from export.evaluation.query_sets import make_queries
        from export.evaluation.report import summarise_for_manifest
        from export.evaluation.stream_run import Model

        card = self.card()
        queries = make_queries(held_out, seed=self.recipe.seed)
        # With the sampler of the training: another one would not have learned anything.
        setting = Setting(self.recipe.lvm.sampler, seed=self.recipe.seed)
        evaluation = evaluate(Model.from_network(network, card), held_out, queries, setting)
        thresholds = calibrate(evaluation.results)
        results = summarise_for_manifest(
            evaluation.results, evaluation.events, thresholds.time_head, "validation"
        )
        training = card.training.model_copy(update={"results": card.training.results | results})
        return replace(card, training=training, thresholds=thresholds)

    def card(self) -> ModelCard:
        """Return the checkpoint's card before validation."""
        recipe = strip_folders(self.recipe)
        public: dict[str, Any] = {}
        attributions = self._attributions
        if recipe.backbone.pretrained is not None:
            origin = find_public_weights(recipe.backbone.pretrained)[1]
            public = {"public_weights": asdict(origin)}
            attributions = (
                *attributions,
                f"The backbone's trunk ({recipe.network.backbone}) has the public weights of {origin.source} "
                f"{origin.version} ({origin.licence}), which were trained on ImageNet.",
            )
        best = CheckpointSelection(lambda _: 0.0, 1, self.folder / "lvm.best").read_best()
        record = TrainingRecord(
            trained=True,
            recipe=recipe.model_dump_json(exclude={"network", "data", "save_seconds", "threads"}),
            seed=recipe.seed,
            data=json.dumps(self.dataset.version() | self._describe_views() | self._origin | public),
            results={} if best is None else {"validation.loss": best[1], "validation.step": float(best[0])},
            held_out=self._held_out,
        )
        return ModelCard(recipe.name, self.dataset.classes, record, attributions=attributions)

    def _describe_views(self) -> dict[str, Any]:
        """Return the manifest's record of augmented views; nothing if videos are shown as filmed only."""
        data = self.recipe.data
        if data.showings == 1:
            return {}
        return {"looks": VIEW_VERSION, "showings": data.showings, "mirrored": data.mirrored}

    # -- stages --------------------------------------------------------------------------------------------

    def _train_backbone(self) -> nn.Module:
        data, stage = self.recipe.data, self.recipe.backbone
        if not stage.optimiser.steps:
            assert self.start is not None
            likeness = self.start.reader.embed.likeness
            modules = {"backbone": self.start.backbone}
            return nn.ModuleDict(modules | ({} if likeness is None else {"identity": likeness.identity}))
        photos = None
        if data.products is not None and stage.photos_a_batch:
            without_queries = data.folder is not None
            photos = PhotoSet(data.products, data.held_out, without_queries=without_queries, cache=self.cache)
        scenes = self.processes.rank_zero_first(lambda: self.dataset.make_scenes(stage))
        task = BackboneTask(self.recipe, scenes, photos, self.device)
        trained = self._make_loop(task, stage.optimiser).train()
        assert isinstance(trained, BackboneTrainer)
        return nn.ModuleDict({"backbone": trained.backbone, "identity": trained.identity})

    def _make_reader(self, videos: EpochViews, identity: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the reader's initial weights; `identity` is the product head trained with the backbone."""
        if self.recipe.tubedetr.optimiser.steps:
            return self._run_stage("tubedetr", lambda: self._train_tubedetr(videos, identity))
        assert self.start is not None
        return self.start.reader.state_dict()

    def _train_tubedetr(self, videos: EpochViews, identity: dict[str, torch.Tensor]) -> nn.Module:
        stage = self.recipe.tubedetr
        task = TubeTask(self.recipe.network, stage, videos, self.recipe.seed, self.device)
        assert isinstance(task.module, TubeTrainer)
        likeness = task.module.tubedetr.embed.likeness
        if likeness is not None and identity:
            likeness.identity.load_state_dict(identity)
        if stage.from_start:
            assert self.start is not None
            task.module.tubedetr.load_state_dict(self.start.reader.state_dict(), strict=False)
        trained = self._make_loop(task, stage.optimiser).train()
        assert isinstance(trained, TubeTrainer)
        return trained.tubedetr

    def _train_lvm(
        self, videos: EpochViews, held_out: Sequence[VideoCache], reader: dict[str, torch.Tensor]
    ) -> nn.Module:
        recipe = self.recipe
        task = LvmTask(recipe.network, recipe.lvm, videos, recipe.seed, self.processes, self.device)
        assert isinstance(task.module, LvmTrainer)
        task.module.reader.load_state_dict(reader, strict=False)
        if not recipe.tubedetr.optimiser.steps:
            assert self.start is not None
            if self.start.config.sampler == recipe.network.sampler:  # otherwise it is learned from scratch
                task.module.sampler.load_state_dict(self.start.sampler.state_dict(), strict=False)
        self._train_entry_maker(task.module, videos.views[0])
        selection = CheckpointSelection(
            lambda module: self._compute_validation_loss(module, held_out),
            max(1, recipe.lvm.optimiser.steps // _VALIDATIONS),
            self.folder / "lvm.best",
        )
        trained = self._make_loop(task, recipe.lvm.optimiser, selection).train()
        trained.load_state_dict(load_file(selection.path))
        return trained

    def _train_entry_maker(self, module: LvmTrainer, videos: Sequence[VideoCache]) -> None:
        """Train the maker of text and region entries, unless the start has one."""
        describe_classes(module.reader, self.dataset.classes)
        maker, recipe = module.sampler.entry, self.recipe
        if maker is None or (self.start is not None and self.start.config.queues):
            return
        maker.requires_grad_(True)
        loss = fit_entries(maker, videos, recipe.network, recipe.lvm.entry_steps, recipe.seed)
        maker.requires_grad_(False)
        self.console.print(f"entries of clips: loss {loss:.4f} after {recipe.lvm.entry_steps} steps")

    def _compute_validation_loss(self, module: nn.Module, held_out: Sequence[VideoCache]) -> float:
        """Return the mean loss of answers about held-out videos, without noise.

        Videos are visited in order from their start, up to `_VALIDATION_STEPS` clips.
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
        task = LvmTask(network, recipe, held_out, self.recipe.seed, ProcessGroup(), self.device)
        task.module.load_state_dict(module.state_dict())
        task.module.eval()
        total = 0.0
        steps = min(_VALIDATION_STEPS, min(cache.clips for cache in held_out))
        with torch.no_grad():
            for step in range(steps):
                _, parts, output = task.module(task.batch(step))
                task.update(step, output)
                total += sum(float(value) for name, value in parts.items() if name not in GUIDANCE_PARTS)
        return total / steps

    def _make_loop(
        self, task: Any, optimiser: Any, selection: CheckpointSelection | None = None
    ) -> TrainingLoop:
        return TrainingLoop(
            task,
            optimiser,
            self.folder,
            self.recipe.seed,
            self.processes,
            self.recipe.save_seconds,
            self.device,
            selection,
            self._make_recipe_key(task.name),
        )

    # -- shared by stages ----------------------------------------------------------------------------------

    def _run_stage(self, name: str, train: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
        """Return the weights of a stage, which is run if its file is missing.

        Raises LvmError if the file was made by another recipe.
        """
        file = self.folder / f"{name}.safetensors"
        key = self._make_recipe_key(name)
        if self.processes.broadcast(file.exists()):
            with safe_open(file, framework="pt") as opened:
                made_by = (opened.metadata() or {}).get("recipe")
            if made_by != key:
                raise LvmError(
                    f"{file} was made by another recipe, seed, data or version than the one given; "
                    "choose another --output, or remove the file to make it again"
                )
        else:
            module = train()
            if self.processes.rank == 0:
                part = file.with_suffix(".part")
                weights = {key: value.contiguous().cpu() for key, value in module.state_dict().items()}
                save_file(weights, part, {"recipe": key})
                part.replace(file)
            self.processes.barrier()
        return load_file(file)

    def _make_recipe_key(self, name: str) -> str:
        """Return everything that a stage's weights depend on: its part of the recipe and those of earlier
        stages.

        It is stored in the stages' files: another text would make them unusable.
        """
        parts = STAGES[: STAGES.index(name) + 1]
        has_views = self.recipe.data.showings > 1 and name != "backbone"
        unused = None if has_views else {"data": {"showings", "mirrored"}}
        # Readers and samplers can be compared on one backbone.
        network = _BACKBONE_FIELDS if name == "backbone" else set(NetworkConfig.model_fields)
        included: Any = {"seed": True, "network": network, "data": True, **dict.fromkeys(parts, True)}
        key = self.recipe.model_dump_json(include=included, exclude=unused)
        key = f"{key} files {_FILES[name]}" + (f" looks {VIEW_VERSION}" if has_views else "")
        key = f"{key} of {self._files}" if self._files else key
        return key if self.start is None else f"{key} from {hash_weights(self.start)}"

    def _encode_videos(self, network: LvmNet, split: Split, view: int = 0) -> list[VideoCache]:
        """Return the tokens of all videos of a split in one view, reporting progress on the console."""
        digest, count = hash_weights(network.backbone), self.dataset.count(split)
        engine = make_backbone_engine(network, self.device)
        label = f"{split} videos" + (f", view {view}" if view else "")

        def encode() -> list[VideoCache]:
            videos = []
            for video in self.dataset.encode_videos(split, engine, self.cache, digest, view):
                videos.append(video)
                status.update(f"{label}: {len(videos)} of {count}")
            return videos

        with self.console.status(label) as status:
            return self.processes.rank_zero_first(encode)


def fit_strangeness(network: LvmNet, videos: Sequence[VideoCache], held_out: Sequence[VideoCache]) -> None:
    """Fit what the sampler calls strange to the candidates of the training's clips."""
    strangeness = network.sampler.strangeness
    if strangeness is None:
        return
    width = network.config.appearance

    def read_clips(caches: Sequence[VideoCache]) -> list[torch.Tensor]:
        return [
            torch.from_numpy(
                np.concatenate(
                    [cache.features[clip][:, :width], cache.tick[clip][:, None] - cache.tick[clip][0]], axis=1
                ).astype(np.float32)
            )
            for cache in caches
            for clip in range(cache.clips)
        ]

    strangeness.fit(read_clips(videos), read_clips(held_out))


def load_start(recipe: Recipe) -> tuple[LvmNet, ModelCard]:
    """Return the network of the recipe's start, and its card.

    It must have the recipe's shape; if only its backbone is used, only that. Raises LvmError.
    """
    assert recipe.start is not None
    network, card = from_bundle(recipe.start) if recipe.start.is_dir() else from_checkpoint(recipe.start)
    requested, has = vars(recipe.network), vars(network.config)
    may_differ = {
        *_WITHOUT_WEIGHTS,
        *(() if network.config.queues else _MAY_DIFFER),
        *(name for name in _MAY_BE_NEW if not has[name]),
    }
    all_names = tuple(name for name in requested if name not in may_differ)
    only_backbone = recipe.tubedetr.optimiser.steps and not recipe.tubedetr.from_start
    names = _BACKBONE_KEYS if only_backbone else all_names
    if recipe.network.likeness and not recipe.backbone.optimiser.steps:
        names = (*names, "likeness")  # its head is learned with a backbone
    if requested["sampler"] != has["sampler"]:
        names = tuple(name for name in names if name not in _SAMPLER_KEYS)
    differing = [
        f"{name} {has[name]} instead of {requested[name]}" for name in names if has[name] != requested[name]
    ]
    if differing:
        raise LvmError(f"start {recipe.start} must be of the recipe's network, got {', '.join(differing)}")
    return network, card


def describe_start(start: LvmNet, card: ModelCard) -> dict[str, Any]:
    """Return the manifest's record of the start: its weights, and how they were trained if that is known."""
    record = card.training
    return {"weights": hash_weights(start), "recipe": record.recipe, "seed": record.seed, "data": record.data}


def strip_folders(recipe: Recipe) -> Recipe:
    """Return `recipe` for a manifest: with the start's name, not its folder."""
    if recipe.start is None:
        return recipe
    return recipe.model_copy(update={"start": Path(recipe.start.name)})


def combine_held_out(card: ModelCard, data: Data, dataset: VideoDataset) -> tuple[str, ...]:
    """Return the products that neither the start (by its `card`) nor this training has certainly seen."""
    before, now = set(card.training.held_out), set(dataset.held_out)
    # If the folder has products of the start's list, the start may have learned all others of the folder.
    if data.products is not None and before & set(list_product_photos(data.products, min_photos=0)):
        now &= before
    return tuple(sorted(now | (before - dataset.product_names())))
