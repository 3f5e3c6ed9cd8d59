"""Second stage: modified TubeDETR on clips of a window, the baseline and the reader's initial weights.

Letters: B clips, T frames, C activities, d token width.

Activity and object questions see a random clip of at most `frames` frames of the asked window, time
questions 120 frames spread over theirs, as at inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.frame import CELLS
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.data.video_labels import cxcywh
from export.evaluation.cost_model import choose_uniform_frames
from export.networks.tubedetr import TubeDETR
from export.training.data.epoch_views import Showings
from export.training.loop.param_groups import reading
from export.training.lvm import losses
from export.training.lvm.box_loss import ShownTokens, outline_loss
from export.training.lvm.query_sampler import KIND_SHARES, KINDS, Asking, Question, draw, matching
from export.training.recipe import TubeDetrRecipe

_TIME_FRAMES = 120
_AT_EVENT = 0.75
"""Share of the clips of longer windows that show some of the event that is asked about."""
_TRIES = 1000
_TIME_BATCH_SHARE = 4
"""A clip of 120 frames costs what four of 30 do."""


class TubeTrainer(nn.Module):
    """TubeDETR with its losses."""

    def __init__(self, network: NetworkConfig, recipe: TubeDetrRecipe) -> None:
        super().__init__()
        self.tubedetr = TubeDETR(network, recipe.stride)
        self.guidance = recipe.guidance

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """batch: inputs of `TubeDETR.forward` and targets -> loss, its parts, nothing else."""
        told = self.tubedetr(
            **{name: batch[name] for name in ("frames", "frame_tick", "frame_valid", "object_tokens")},
            **{name: batch[name] for name in ("object_valid", "activity", "activity_valid")},
        )
        happened, kind = batch["happened"], batch["kind"]
        parts = {
            "activity": losses.focal(told.activity_logits, batch["activities"], kind == 0),
            "box": 0.5 * losses.boxes(told.boxes_cxcywh, batch["box"], batch["annotated"]),
            "span": 0.25
            * losses.spans(
                told.start_logits,
                told.end_logits,
                batch["absolute_tick"],
                batch["span"],
                happened & (kind == KINDS.index("time")),
            ),
            "presence": nn.functional.binary_cross_entropy_with_logits(
                told.presence_logit, happened.to(told.presence_logit.dtype)
            ),
        }
        if self.guidance:
            parts["outline"] = self.guidance * outline_loss(self.tubedetr.places, batch)
        if told.relevance is not None and self.guidance:
            every = slice(None, None, self.tubedetr.stride)
            there = batch["frame_valid"][:, every, None].expand(-1, -1, CELLS)  # (B, S, 49)
            parts["relevance"] = self.guidance * losses.balanced(
                told.relevance, batch["evidence"][:, every], there
            )
        return torch.stack(list(parts.values())).sum(), parts, {}


class TubeTask:
    """Feeds `TubeTrainer`; every step is drawn anew."""

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
        self._caches = Showings.of(caches, seed)
        self._device, self._shift = device, shift_ticks
        self._tokens = ShownTokens(self._caches.everything())
        torch.manual_seed(seed)
        self.module: nn.Module = TubeTrainer(network, recipe).to(device)

    def groups(self) -> list[dict[str, Any]]:
        return reading(self.module)

    def after(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Nothing is carried from step to step."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to go on from."""

    def batch(self, step: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([self._seed, 4, step])
        of_time = rng.random() < KIND_SHARES[KINDS.index("time")]
        count = max(1, self._recipe.batch // (_TIME_BATCH_SHARE if of_time else 1))
        rows = [self._row(of_time, rng) for _ in range(count)]
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]} | self._tokens.draw(rng)
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}

    def _row(self, of_time: bool, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        cache, question = self._question(of_time, rng)
        frames = self._frames(cache, question, of_time, rng)
        return self._filled(cache, question, frames, _TIME_FRAMES if of_time else self._recipe.frames, rng)

    def _question(self, of_time: bool, rng: np.random.Generator) -> tuple[VideoCache, Question]:
        """A video, and a question about anything that happened in it."""
        for _ in range(_TRIES):
            cache = self._caches.any_of(int(rng.integers(len(self._caches))), rng)
            everything = np.ones(len(cache.truth), np.bool_)
            asking = Asking(cache.objects.shape[1], negatives=0.2, tight=0.5, unnamed=0.0)
            question = draw(cache.truth, everything, everything, int(cache.ticks[-1]), asking, rng)
            if question is not None and (KINDS[question.kind] == "time") == of_time:
                return cache, question
        raise LvmError(
            f"the {len(self._caches)} training videos must have events that can be asked about one by one, "
            f"found none in {_TRIES} tries; look at their events.jsonl"
        )

    def _frames(
        self, cache: VideoCache, question: Question, of_time: bool, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Numbers of the frames that are read: of the asked window, mostly where the event is."""
        first, last = (int(v) for v in np.searchsorted(cache.ticks, [question.start, question.end + 1]))
        first = min(first, len(cache.ticks) - 1)
        last = max(last, first + 1)
        if of_time:
            return first + np.asarray(choose_uniform_frames(last - first, _TIME_FRAMES), np.int64)
        length = min(self._recipe.frames, last - first)
        start = int(rng.integers(first, last - length + 1))
        if question.event >= 0 and rng.random() < _AT_EVENT:
            middle = (cache.truth.start[question.event] + cache.truth.end[question.event]) // 2
            start = int(np.searchsorted(cache.ticks, middle)) - int(rng.integers(length))
        start = min(max(start, first), last - length)
        return np.arange(start, start + length)

    def _filled(
        self,
        cache: VideoCache,
        question: Question,
        frames: NDArray[np.int64],
        length: int,
        rng: np.random.Generator,
    ) -> dict[str, NDArray[Any]]:
        network, ticks = self._network, cache.ticks[frames]
        shown = Question(**{**vars(question), "start": int(ticks[0]), "end": int(ticks[-1])})
        found = np.flatnonzero(matching(shown, cache.truth, np.ones(len(cache.truth), np.bool_)))
        free = length - len(frames)
        boxes, annotated = self._boxes(cache, question, found, ticks)
        objects = np.zeros((CELLS, network.d_backbone), np.float32)
        if question.instance >= 0:
            objects[:] = cache.objects[question.instance, question.view]
        activity = np.zeros(network.activities, np.float32)
        if question.activity >= 0:
            activity[question.activity] = 1
        activities = np.zeros(network.activities, np.float32)
        activities[cache.truth.activity[found]] = 1
        span = [cache.truth.start[found[0]], cache.truth.end[found[0]]] if len(found) else [0, 1]
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
            "happened": np.array(len(found) > 0),
            "kind": np.array(question.kind, np.int64),
            "span": np.array(span, np.int64),
            "evidence": np.pad(self._evidence(cache, found, ticks), ((0, free), (0, 0))),
            "box": np.pad(boxes, ((0, free), (0, 0))),
            "annotated": np.pad(annotated, (0, free)),
        }

    def _evidence(
        self, cache: VideoCache, found: NDArray[np.int64], ticks: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which cells of each frame show an event that answers, (F, 49)."""
        event = cache.truth.evidence(np.repeat(ticks, CELLS), np.tile(np.arange(CELLS), len(ticks)))
        return np.isin(event, found).reshape(len(ticks), CELLS)

    def _boxes(
        self, cache: VideoCache, question: Question, found: NDArray[np.int64], ticks: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Target (F, 4) cxcywh of an object question at the frames that show it, and where that is (F,)."""
        out, there = np.zeros((len(ticks), 4), np.float32), np.zeros(len(ticks), np.bool_)
        if KINDS[question.kind] != "object":
            return out, there
        for event in found:
            at, boxes = cache.truth.boxes(int(event))
            _, mine, its = np.intersect1d(ticks, at, return_indices=True)
            out[mine] = cxcywh(boxes[its])
            there[mine] = True
        return out, there
