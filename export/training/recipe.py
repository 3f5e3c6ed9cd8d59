"""A training recipe: everything that a run depends on, read from YAML, unknown keys refused."""

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
from export.data.annotated import ANNOTATION_KNOBS
from export.data.records import Knob
from export.data.world_overrides import turned
from export.support.validation_errors import first_complaint

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(Part):
    """AdamW with linear warm-up and a cosine to zero; what counts is the weights' exponential average."""

    steps: int = Field(ge=0)
    """0, but not of the last stage: the stage is left out, and its weights are those of `start`."""
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
    """The worlds (seeds, level, length) or the folder of a person's own videos; photos and backgrounds."""

    folder: Path | None = None
    """A data folder (`docs/own-videos.md`) instead of worlds. It says which videos there are and how they
    were filmed: of the keys here only `showings`, `mirrored`, `products` and `held_out` count then."""
    levels: tuple[Annotated[str, AfterValidator(_level)], ...] = Field(
        default=("L1", "L1", "L1", "L2", "L3"), min_length=1
    )
    """Each world has one of them, by its seed."""
    closeup: Share = 0.35
    """Share of close-ups where products are real; a third of it where they are drawn."""
    crowded: Share = 0.0
    """Share of worlds in which three pairs of hands are at work, whatever their level and knobs."""
    knobs: dict[str, Knob] = Field(default_factory=dict, exclude_if=lambda knobs: not knobs)
    """Knobs of all worlds that differ from their level's, as `{zipf: 1.0, missing_boxes: 0.2}`: those of
    `python -m export.data world --knob` (`edge_runtime/simulation/config.py`). `missing_boxes` and
    `label_noise` make annotations to learn from worse, never those that validation is judged by."""
    train_videos: int = Field(default=48, ge=1)
    validation_videos: int = Field(default=8, ge=1)
    minutes: Positive = 30.0
    showings: Annotated[int, Field(ge=1, le=16, exclude_if=lambda count: count == 1)] = 1
    """In how many looks the second and third stage are shown each training video: as filmed, and mirrored,
    nearer or in another light. Each is rendered and cached once."""
    mirrored: Annotated[bool, Field(exclude_if=lambda yes: yes)] = True
    """Whether looks may be mirrored: not where left and right are what activities differ in."""
    first_seed: int = Field(default=1_000, ge=0)
    """Training worlds have seeds from here on; validation worlds follow after 100,000 more."""
    products: Path | None = None
    """Folder of one sub-folder of photos a product: their faces are drawn in a share of the worlds; of own
    videos, photos of the product that an event names show it."""
    held_out: tuple[str, ...] = ()
    """Products of the folder that no training sees."""
    product_worlds: Share = 0.5
    backgrounds: Path | None = None
    background_worlds: Share = 0.5

    @field_validator("knobs", mode="before")
    @classmethod
    def _turned(cls, knobs: Any, info: ValidationInfo) -> Any:
        """As the worlds have them, by name: knobs that say the same have one digest."""
        if not knobs or not isinstance(knobs, dict):
            return knobs
        if info.data.get("folder") is not None:
            raise ValueError(
                "worlds of a data folder have the knobs that its videos.jsonl says; leave data.knobs out, "
                "and write the folder with python -m export.data world --knob"
            )
        if "closeup" in knobs:
            raise ValueError("a recipe says closeup by data.closeup; set that")
        found = [_config(level, knobs) for level in info.data.get("levels", ())]
        return {name: getattr(found[0], name) for name in sorted(knobs)} if found else knobs

    def judged(self) -> Data:
        """The worlds that validation is judged by: the same knobs, but none that makes annotations worse."""
        kept = {name: value for name, value in self.knobs.items() if name not in ANNOTATION_KNOBS}
        return self.model_copy(update={"knobs": kept})


def _config(level: str, knobs: dict[str, Any]) -> WorldConfig:
    try:
        return turned(level, knobs)
    except LvmError as error:
        raise ValueError(f"in worlds of level {level}: {error}") from error


ENTRY_STEPS = 1000


class BackboneRecipe(Part):
    """Per-cell activity, product identity between picture and photo, classification of real products."""

    optimiser: Optimiser
    worlds: int = Field(default=160, ge=1)
    """Worlds that frames are drawn from, each at any second of its first hours."""
    worlds_a_batch: int = Field(default=12, ge=1)
    frames_a_world: int = Field(default=4, ge=1)
    photos_a_world: int = Field(default=6, ge=0)
    """Products of each world that photos ask for: all that are handled, and others on shelf and belt."""
    photos_a_batch: int = Field(default=32, ge=0)
    """Real product photos in each batch, two of each product; 0 where there are none."""
    inside_events: Share = 0.8
    crowded: Share = 0.5
    """As `data.crowded`, for the pictures of this stage: more products on a picture teach more."""
    temperature: Positive = 0.07

    @model_validator(mode="after")
    def _enough_worlds(self) -> BackboneRecipe:
        if self.worlds_a_batch > self.worlds:
            raise ValueError(
                f"worlds_a_batch must be at most worlds, {self.worlds}, got {self.worlds_a_batch}: set both"
            )
        return self


class TubeDetrRecipe(Part):
    """The baseline, and the initial weights of the reader."""

    optimiser: Optimiser
    batch: int = Field(default=8, ge=1)
    frames: int = Field(default=30, ge=1)
    stride: int = Field(default=5, ge=1)
    guidance: Annotated[float, Field(ge=0.0)] = 0.5
    """As `lvm.guidance`: weight of what boxes say about which tokens are relevant."""
    from_start: Annotated[bool, Field(exclude_if=lambda yes: not yes)] = False
    """Whether it goes on from the reader of `start`, whose modules have the same names: a baseline that has
    the reader's training, and its own."""


class LvmRecipe(Part):
    """Sampler and reader together."""

    optimiser: Optimiser
    sampler_learning_rate: Positive | None = None
    batch: int = Field(default=8, ge=1)
    """Distinct videos in one global batch."""
    past_queries: int = Field(default=2, ge=0)
    """p: past queries of each video that are asked again (online continual learning)."""
    new_queries: int = Field(default=1, ge=1)
    gradient: Literal["ste", "stebias", "soft"] = "stebias"
    sampler: Literal["neural", "random", "fifo", "svd-novelty"] = "neural"
    temperature: tuple[Positive, Positive] = (1.5, 1.0)
    chronological: Share = 0.5
    """Share of visits that sweep a video from its start; the others visit its clips in random order."""
    negatives: Share = 0.2
    unnamed: Share = 0.3
    """Share of time questions that name no activity: when was anything done with this object."""
    guidance: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of what boxes say about tokens (relevance, outlines, the sampler's score); 0 learns from answers
    only, and leaves outlines as they were."""
    tight_until: Share = 0.2
    """Curriculum: up to this share of the steps, asked windows are those of the event."""
    curriculum_minutes: tuple[Positive, ...] = Field(default=(5.0, 15.0, 30.0), min_length=1)
    """Length of the videos in the first, second, ... equal part of the first half of training."""
    shift_ticks: int = Field(default=90_000, ge=0)
    """Random time shift of memory and question together, so that absolute time cannot be learned by heart."""
    learns: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    """Patterns of the parameters that learn, as `reader.heads.places.*`; all others keep the start's weights.
    Without any, all learn."""
    entry_steps: Annotated[int, Field(ge=0, exclude_if=lambda steps: steps == ENTRY_STEPS)] = ENTRY_STEPS
    """Of what makes text and region entries of clips, before all else, where the context has any."""


class Recipe(Part):
    """One training: `lvm-train --config FILE`.

    `network` is a preset's name, `{preset: NAME, ...}` with what differs from it, or a whole configuration.
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    start: Path | None = None
    """A bundle or checkpoint whose weights stand for those of the stages that take no step."""
    network: NetworkConfig
    data: Data = Data()
    backbone: BackboneRecipe
    tubedetr: TubeDetrRecipe
    lvm: LvmRecipe
    threads: int = Field(default=2, ge=1)
    save_seconds: Positive = 60.0
    """At most so much of a run is lost when it is killed."""

    @model_validator(mode="after")
    def _startable(self) -> Recipe:
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
            raise ValueError("lvm must take a step: it is what is trained")
        if self.network.spread and self.lvm.sampler == "neural" and not self.lvm.guidance:
            raise ValueError(
                "network.spread asks the sampler what is relevant, which lvm.guidance teaches, got 0: set "
                "lvm.guidance above 0 or network.spread to false"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: dict[str, object]) -> dict[str, object]:
        network = given.get("network") if isinstance(given, dict) else None
        if isinstance(network, str):
            network = {"preset": network}
        if not isinstance(network, dict) or "preset" not in network:
            return given
        from export.bundle.presets import load_preset

        changed = {key: value for key, value in network.items() if key != "preset"}
        return {**given, "network": {**load_preset(str(network["preset"])).model_dump(), **changed}}


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `changes` such as `lvm.past_queries=0`.

    Raises LvmError that names the file and the key.
    """
    if not path.is_file():
        raise LvmError(f"recipe {path} does not exist")
    try:
        return Recipe.model_validate(_changed(yaml.safe_load(path.read_text(encoding="utf-8")), changes))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LvmError(f"recipe {path} is no YAML in UTF-8: {error}") from error
    except ValidationError as error:
        raise LvmError(f"recipe {path}: {first_complaint(error)}") from error


def _changed(given: Any, changes: Sequence[str]) -> Any:
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not isinstance(given, dict):
            raise LvmError(f"a change must look like lvm.past_queries=0, got {change!r}")
        *above, last = key.split(".")
        place = given
        for name in above:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise LvmError(f"{key} cannot be changed: {name} has no parts of its own")
        place[last] = yaml.safe_load(value)
    return given
