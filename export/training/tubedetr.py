"""Second stage: train modified TubeDETR on clips of a window: the baseline, and the reader's initial weights.

Letters: B clips, T frames, C activities, d token width.

Activity and object questions read a random clip of at most `frames` frames of the question's window, time
questions 120 frames spread over it, as at inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.data.video_labels import to_cxcywh
from export.evaluation.cost_model import choose_uniform_frames
from export.networks.tubedetr import TubeDETR
from export.training.data.view_augmentation import EpochViews
from export.training.loop.trainer import make_reader_groups
from export.training.lvm import losses
from export.training.lvm.losses import LabelledTokens, box_regression_loss
from export.training.lvm.query_sampler import (
    KIND_SHARES,
    KINDS,
    QueryMix,
    SampledQuestion,
    draw_question,
    match_events,
)  # fmt: skip
from export.training.recipe import TubeDetrRecipe

_TIME_FRAMES = 120
_AT_EVENT = 0.75
"""Share of the clips of longer windows that show part of the event."""
_TRIES = 1000
_TIME_BATCH_SHARE = 4
"""A clip of 120 frames costs what four of 30 do."""


class TubeTrainer(nn.Module):
    """The modified TubeDETR with its losses."""

    def __init__(self, network: NetworkConfig, recipe: TubeDetrRecipe) -> None:
        super().__init__()
        self.tubedetr = TubeDETR(network, recipe.stride)
        self.guidance = recipe.guidance

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Take inputs of `TubeDETR.forward` and targets -> loss, its parts, no output."""
        output = self.tubedetr(
            **{name: batch[name] for name in ("frames", "frame_tick", "frame_valid", "object_tokens")},
            **{name: batch[name] for name in ("object_valid", "activity", "activity_valid")},
        )
        happened, kind = batch["happened"], batch["kind"]
        parts = {
            "activity": losses.focal_loss(output.activity_logits, batch["activities"], kind == 0),
            "box": 0.5 * losses.box_loss(output.boxes_cxcywh, batch["box"], batch["annotated"]),
            "span": 0.25
            * losses.span_loss(
                output.start_logits,
                output.end_logits,
                batch["absolute_tick"],
                batch["span"],
                happened & (kind == KINDS.index("time")),
            ),
            "presence": nn.functional.binary_cross_entropy_with_logits(
                output.presence_logit, happened.to(output.presence_logit.dtype)
            ),
        }
        if self.guidance:
            parts["outline"] = self.guidance * box_regression_loss(self.tubedetr.places, batch)
        if output.relevance is not None and self.guidance:
            every = slice(None, None, self.tubedetr.stride)
            valid = batch["frame_valid"][:, every, None].expand(
                -1, -1, self.tubedetr.cell_count
            )  # (B, S, 49)
            parts["relevance"] = self.guidance * losses.balanced_loss(
                output.relevance, batch["evidence"][:, every], valid
            )
        return torch.stack(list(parts.values())).sum(), parts, {}


class TubeTask:
    """The task that feeds `TubeTrainer`; every step is drawn independently."""

    name = "tubedetr"

    def __init__(
        self,
        network: NetworkConfig,
        recipe: TubeDetrRecipe,
        caches: Sequence[VideoCache],
        seed: int,
        device: torch.device,
        shift_ticks: int = 90_000,
    ) -> None:
        self._network, self._recipe, self._seed = network, recipe, seed
        self._caches = EpochViews.wrap(caches, seed)
        self._device, self._shift = device, shift_ticks
        self._tokens = LabelledTokens(self._caches.all_views())
        torch.manual_seed(seed)
        self.module: nn.Module = TubeTrainer(network, recipe).to(device)

    def param_groups(self) -> list[dict[str, Any]]:
        return make_reader_groups(self.module)

    def update(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Steps have no state."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Steps have no state."""

    def batch(self, step: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([self._seed, 4, step])
        asks_time = rng.random() < KIND_SHARES[KINDS.index("time")]
        count = max(1, self._recipe.batch // (_TIME_BATCH_SHARE if asks_time else 1))
        rows = [self._make_row(asks_time, rng) for _ in range(count)]
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]} | self._tokens.draw(rng)
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}

    def _make_row(self, asks_time: bool, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        cache, question = self._draw_question(asks_time, rng)
        frames = self._choose_frames(cache, question, asks_time, rng)
        return self._make_inputs(
            cache, question, frames, _TIME_FRAMES if asks_time else self._recipe.frames, rng
        )

    def _draw_question(self, asks_time: bool, rng: np.random.Generator) -> tuple[VideoCache, SampledQuestion]:
        """Draw a video and a question about what happened in it. Raises LvmError if none has an event."""
        for _ in range(_TRIES):
            cache = self._caches.draw_view(int(rng.integers(len(self._caches))), rng)
            everything = np.ones(len(cache.truth), np.bool_)
            mix = QueryMix(cache.objects.shape[1], negatives=0.2, tight=0.5, unnamed=0.0)
            question = draw_question(cache.truth, everything, everything, int(cache.ticks[-1]), mix, rng)
            if question is not None and (KINDS[question.kind] == "time") == asks_time:
                return cache, question
        raise LvmError(
            f"the {len(self._caches)} training videos must have events that can be asked about one by one, "
            f"found none in {_TRIES} tries; look at their events.jsonl"
        )

    def _choose_frames(
        self, cache: VideoCache, question: SampledQuestion, asks_time: bool, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the numbers of the frames to read, of the question's window and mostly around the event."""
        first, last = (int(v) for v in np.searchsorted(cache.ticks, [question.start, question.end + 1]))
        first = min(first, len(cache.ticks) - 1)
        last = max(last, first + 1)
        if asks_time:
            return first + np.asarray(choose_uniform_frames(last - first, _TIME_FRAMES), np.int64)
        length = min(self._recipe.frames, last - first)
        start = int(rng.integers(first, last - length + 1))
        if question.event >= 0 and rng.random() < _AT_EVENT:
            middle = (cache.truth.start[question.event] + cache.truth.end[question.event]) // 2
            start = int(np.searchsorted(cache.ticks, middle)) - int(rng.integers(length))
        start = min(max(start, first), last - length)
        return np.arange(start, start + length)

    def _make_inputs(
        self,
        cache: VideoCache,
        question: SampledQuestion,
        frames: NDArray[np.int64],
        length: int,
        rng: np.random.Generator,
    ) -> dict[str, NDArray[Any]]:
        network, ticks = self._network, cache.ticks[frames]
        visible = SampledQuestion(**{**vars(question), "start": int(ticks[0]), "end": int(ticks[-1])})
        events = np.flatnonzero(match_events(visible, cache.truth, np.ones(len(cache.truth), np.bool_)))
        free = length - len(frames)
        boxes, annotated = self._make_box_targets(cache, question, events, ticks)
        objects = np.zeros((network.cells, network.d_backbone), np.float32)
        if question.instance >= 0:
            objects[:] = cache.objects[question.instance, question.photo]
        activity = np.zeros(network.activities, np.float32)
        if question.activity >= 0:
            activity[question.activity] = 1
        activities = np.zeros(network.activities, np.float32)
        activities[cache.truth.activity[events]] = 1
        span = [cache.truth.start[events[0]], cache.truth.end[events[0]]] if len(events) else [0, 1]
        shift = int(rng.integers(self._shift + 1)) - int(ticks[0])
        never = np.iinfo(np.int64).max
        return {
            "frames": np.pad(np.asarray(cache.tokens[frames], np.float32), ((0, free), (0, 0), (0, 0))),
            "frame_tick": np.pad(ticks + shift, (0, free)),
            "absolute_tick": np.pad(ticks, (0, free), constant_values=never),
            "frame_valid": np.arange(length) < len(frames),
            "object_tokens": objects,
            "object_valid": np.array(question.instance >= 0),
            "activity": activity,
            "activity_valid": np.array(question.activity >= 0),
            "activities": activities,
            "happened": np.array(len(events) > 0),
            "kind": np.array(question.kind, np.int64),
            "span": np.array(span, np.int64),
            "evidence": np.pad(self._find_evidence(cache, events, ticks), ((0, free), (0, 0))),
            "box": np.pad(boxes, ((0, free), (0, 0))),
            "annotated": np.pad(annotated, (0, free)),
        }

    def _find_evidence(
        self, cache: VideoCache, events: NDArray[np.int64], ticks: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return the cells of each frame that show one of `events`, (F, 49)."""
        cells = self._network.cells
        tick, cell = np.repeat(ticks, cells), np.tile(np.arange(cells), len(ticks))
        event = cache.truth.find_evidence(tick, cell, self._network.grid)
        return np.isin(event, events).reshape(len(ticks), cells)

    def _make_box_targets(
        self,
        cache: VideoCache,
        question: SampledQuestion,
        events: NDArray[np.int64],
        ticks: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return targets (F, 4) cxcywh of an object question, and at which frames they are annotated (F,)."""
        out, annotated = np.zeros((len(ticks), 4), np.float32), np.zeros(len(ticks), np.bool_)
        if KINDS[question.kind] != "object":
            return out, annotated
        for event in events:
            at, boxes = cache.truth.select_boxes(int(event))
            _, frame, box = np.intersect1d(ticks, at, return_indices=True)
            out[frame] = to_cxcywh(boxes[box])
            annotated[frame] = True
        return out, annotated
