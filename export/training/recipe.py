"""Read a training recipe from YAML: everything that a run depends on; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge_runtime.simulation.config import LEVELS, WorldConfig
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.data.records import Knob
from export.data.world_set import ANNOTATION_KNOBS, make_world_config
from export.support.errors import first_complaint

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
ENTRY_STEPS = 1000


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(Part):
    """AdamW with linear warm-up and a cosine to zero; the weights' exponential average is the result."""

    steps: int = Field(ge=0)
    """0 leaves a stage out (not the last one); its weights are then those of `start`."""
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    warm_up: Share = 0.05
    clip_norm: Positive = 1.0
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Decay of the weights' exponential moving average; 0 keeps the last weights."""


def _level(name: str) -> str:
    if name not in LEVELS:
        raise ValueError(f"a level must be one of {', '.join(LEVELS)}, got {name!r}")
    return name


class Data(Part):
    """Checkout worlds (seeds, level, length) or a folder of users' own videos; photos and backgrounds."""

    folder: Path | None = None
    """A data folder (`docs/own-videos.md`) instead of worlds. It defines the videos: of the other keys only
    `showings`, `mirrored`, `products` and `held_out` are used with it."""
    levels: tuple[Annotated[str, AfterValidator(_level)], ...] = Field(
        default=("L1", "L1", "L1", "L2", "L3"), min_length=1
    )
    """Levels of worlds; a world's seed chooses among them."""
    closeup: Share = 0.35
    """Share of close-ups in worlds of real products; a third of it in worlds of drawn ones."""
    crowded: Share = 0.0
    """Share of worlds with three pairs of hands at work, whatever their level and knobs."""
    knobs: dict[str, Knob] = Field(default_factory=dict, exclude_if=lambda knobs: not knobs)
    """Knobs of all worlds that differ from their level's, as `{zipf: 1.0, missing_boxes: 0.2}`: those of
    `python -m export.data world --knob` (`edge_runtime/simulation/config.py`). `missing_boxes` and
    `label_noise` degrade the annotations of training videos, never those of validation."""
    varied: dict[str, tuple[Knob, ...]] = Field(default_factory=dict, exclude_if=lambda knobs: not knobs)
    """Knobs of which each world draws one value, as `{cue_strength: [0, 0.6, 1], wardrobe: [0, 1]}`; values
    that stand twice are drawn twice as often."""
    train_videos: int = Field(default=48, ge=1)
    validation_videos: int = Field(default=8, ge=1)
    minutes: Positive = 30.0
    showings: Annotated[int, Field(ge=1, le=16, exclude_if=lambda count: count == 1)] = 1
    """Views of each training video in the second and third stage: as filmed, and mirrored, nearer or in
    another light. One is drawn for each epoch; each is rendered and cached once."""
    mirrored: Annotated[bool, Field(exclude_if=lambda yes: yes)] = True
    """Whether views may be mirrored: not if activities differ by left and right."""
    first_seed: int = Field(default=1_000, ge=0)
    """First seed of training worlds; validation worlds begin 100,000 later."""
    products: Path | None = None
    """Folder with one sub-folder of photos a product. A share of the worlds sells these products; in own
    videos the photos show the product that an event names."""
    held_out: tuple[str, ...] = ()
    """Products of the folder that are never trained on."""
    product_worlds: Share = 0.5
    backgrounds: Path | None = None
    background_worlds: Share = 0.5

    @field_validator("knobs", mode="before")
    @classmethod
    def _normalise_knobs(cls, knobs: Any, info: ValidationInfo) -> Any:
        """Convert knobs to the worlds' types, sorted by name: equal knobs have equal digests."""
        if not knobs or not isinstance(knobs, dict):
            return knobs
        if info.data.get("folder") is not None:
            raise ValueError(
                "worlds of a data folder have the knobs of its videos.jsonl; leave data.knobs out, "
                "and write the folder with python -m export.data world --knob"
            )
        if "closeup" in knobs:
            raise ValueError("closeup is data.closeup in a recipe; set that")
        configs = [_check_knobs(level, knobs) for level in info.data.get("levels", ())]
        return {name: getattr(configs[0], name) for name in sorted(knobs)} if configs else knobs

    @field_validator("varied")
    @classmethod
    def _check_varied(cls, varied: dict[str, tuple[Knob, ...]], info: ValidationInfo) -> Any:
        for name, values in varied.items():
            if not values or name in info.data.get("knobs", ()):
                raise ValueError(f"{name} must have values to draw from, and not be in data.knobs too")
            for value in values:
                [_check_knobs(level, {name: value}) for level in info.data.get("levels", ())]
        return varied

    def for_validation(self) -> Data:
        """Return the data of validation: without the knobs that degrade annotations."""
        knobs = {name: value for name, value in self.knobs.items() if name not in ANNOTATION_KNOBS}
        return self.model_copy(update={"knobs": knobs})


def _check_knobs(level: str, knobs: dict[str, Any]) -> WorldConfig:
    try:
        return make_world_config(level, knobs)
    except LvmError as error:
        raise ValueError(f"in worlds of level {level}: {error}") from error


class BackboneRecipe(Part):
    """First stage: activity of cells, product identity between pictures and photos, real products."""

    optimiser: Optimiser
    pretrained: str | None = Field(default=None, exclude_if=lambda source: source is None)
    """Public weights of a timm backbone: an installed package that holds them, a file, or `hub`."""
    worlds: int = Field(default=160, ge=1)
    """Worlds that frames are drawn from, at any second of their first hours."""
    worlds_a_batch: int = Field(default=12, ge=1)
    frames_a_world: int = Field(default=4, ge=1)
    photos_a_world: int = Field(default=6, ge=0)
    """Products of each world with a query photo: all that are handled, and others on shelf and belt."""
    photos_a_batch: int = Field(default=32, ge=0)
    """Real product photos in each batch, two of each product; 0 for none."""
    inside_events: Share = 0.8
    crowded: Share = 0.5
    """`data.crowded` of this stage: more products on a picture teach more."""
    temperature: Positive = 0.07

    @model_validator(mode="after")
    def _check_worlds(self) -> BackboneRecipe:
        if self.worlds_a_batch > self.worlds:
            raise ValueError(
                f"worlds_a_batch must be at most worlds, {self.worlds}, got {self.worlds_a_batch}: set both"
            )
        return self


class TubeDetrRecipe(Part):
    """Second stage: the baseline, and the initial weights of the reader."""

    optimiser: Optimiser
    batch: int = Field(default=8, ge=1)
    frames: int = Field(default=30, ge=1)
    stride: int = Field(default=5, ge=1)
    guidance: Annotated[float, Field(ge=0.0)] = 0.5
    """As `lvm.guidance`: weight of the losses that boxes provide for tokens."""
    from_start: Annotated[bool, Field(exclude_if=lambda yes: not yes)] = False
    """Whether it continues from the reader of `start`: a baseline with the reader's training and its own."""


class LvmRecipe(Part):
    """Third stage: sampler and reader together."""

    optimiser: Optimiser
    sampler_learning_rate: Positive | None = None
    batch: int = Field(default=8, ge=1)
    """Distinct videos in one global batch."""
    past_queries: int = Field(default=2, ge=0)
    """p: past queries of each video that are repeated (online continual learning)."""
    new_queries: int = Field(default=1, ge=1)
    gradient: Literal["ste", "stebias", "soft"] = "stebias"
    sampler: Literal["neural", "random", "fifo", "svd-novelty"] = "neural"
    temperature: tuple[Positive, Positive] = (1.5, 1.0)
    chronological: Share = 0.5
    """Share of videos whose clips are visited in order; the others are visited in random order."""
    negatives: Share = 0.2
    unnamed: Share = 0.3
    """Share of time questions without an activity: when was anything done with this object."""
    guidance: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of the losses that boxes provide for tokens (relevance, box head, sampler scores); 0 learns from
    answers only and does not train the box head."""
    tight_until: Share = 0.2
    """Curriculum: up to this share of the steps, questions have the event's own window."""
    curriculum_minutes: tuple[Positive, ...] = Field(default=(5.0, 15.0, 30.0), min_length=1)
    """Length of the videos in each equal part of the first half of training."""
    shift_ticks: int = Field(default=90_000, ge=0)
    """Maximum random shift of memory and question in time, so that absolute time cannot be memorised."""
    learns: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    """Patterns of parameters that learn, as `reader.heads.places.*`; others keep the start's. None: all."""
    entry_steps: Annotated[int, Field(ge=0, exclude_if=lambda steps: steps == ENTRY_STEPS)] = ENTRY_STEPS
    """Steps that first train the maker of text and region entries, if the context has them."""


class Recipe(Part):
    """A training: `lvm-train --config FILE`.

    `network` is a preset's name, `{preset: NAME, ...}` with changes, or a whole configuration.
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    start: Path | None = None
    """A bundle or checkpoint that provides the weights of stages without steps."""
    network: NetworkConfig
    data: Data = Data()
    backbone: BackboneRecipe
    tubedetr: TubeDetrRecipe
    lvm: LvmRecipe
    threads: int = Field(default=2, ge=1)
    save_seconds: Positive = 60.0
    """Interval between saved states: a kill loses at most this much."""

    @model_validator(mode="after")
    def _check_start(self) -> Recipe:
        left_out = [name for name in ("backbone", "tubedetr") if not getattr(self, name).optimiser.steps]
        if left_out and self.start is None:
            raise ValueError(f"{left_out[0]} takes 0 steps, so start must name a bundle or a checkpoint")
        if self.tubedetr.from_start and self.start is None:
            raise ValueError("tubedetr goes on from a start, so start must name a bundle or a checkpoint")
        if self.lvm.learns and (self.start is None or self.tubedetr.optimiser.steps):
            raise ValueError(
                "lvm.learns keeps weights of a start, so start must be named and tubedetr take 0 steps"
            )
        if not self.lvm.optimiser.steps:
            raise ValueError("lvm.optimiser.steps must be at least 1, got 0")
        if self.network.spread and self.lvm.sampler == "neural" and not self.lvm.guidance:
            raise ValueError(
                "network.spread needs the sampler's relevance, which lvm.guidance trains, got 0: set "
                "lvm.guidance above 0 or network.spread to false"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: dict[str, object]) -> dict[str, object]:
        network = values.get("network") if isinstance(values, dict) else None
        if isinstance(network, str):
            network = {"preset": network}
        if not isinstance(network, dict) or "preset" not in network:
            return values
        from export.bundle.presets import load_preset

        changed = {key: value for key, value in network.items() if key != "preset"}
        return {**values, "network": {**load_preset(str(network["preset"])).model_dump(), **changed}}


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Return the recipe in `path`, with `changes` such as `lvm.past_queries=0`.

    Raises LvmError that names the file and the key.
    """
    if not path.is_file():
        raise LvmError(f"recipe {path} does not exist")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            key, equals, value = change.partition("=")
            if not equals or not isinstance(values, dict):
                raise LvmError(f"a change must look like lvm.past_queries=0, got {change!r}")
            *parents, last = key.split(".")
            part = values
            for name in parents:
                part = part.setdefault(name, {})
                if not isinstance(part, dict):
                    raise LvmError(f"{key} cannot be changed: {name} has no parts of its own")
            part[last] = yaml.safe_load(value)
        return Recipe.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LvmError(f"recipe {path} is no YAML in UTF-8: {error}") from error
    except ValidationError as error:
        raise LvmError(f"recipe {path}: {first_complaint(error)}") from error
