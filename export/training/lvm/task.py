"""Feed the third stage: choose visits, draw questions, and keep memories between steps.

Letters: B videos of a batch, Q questions, m slots, K candidates, R recency tokens, E events, F boxes of a
question, C activities.

Every process draws the visits and questions of the whole global batch from an equal generator and feeds its
own share of them; so past questions and visited clips agree without communication.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.data.video_labels import to_cxcywh
from export.training.data.view_augmentation import EpochViews
from export.training.loop.distributed import ProcessGroup
from export.training.loop.trainer import freeze_others, make_reader_groups, make_sampler_groups
from export.training.lvm.inputs import MemoryBank, TrainInputs, VisitState
from export.training.lvm.losses import LabelledTokens
from export.training.lvm.query_sampler import KINDS, QueryMix, SampledQuestion, draw_question, match_events
from export.training.lvm.queue_entries import VideoEntries, make_entries, make_queue
from export.training.lvm.trainer import LvmTrainer
from export.training.lvm.visit_order import Visit, plan_epoch
from export.training.recipe import LvmRecipe

_NO_QUESTION = SampledQuestion(kind=2, instance=0, photo=0, activity=0, start=0, end=0, event=-1)
_MAX_BOXES = 64
_TIGHT_AFTER_CURRICULUM = 0.3
"""Share of tight windows once the curriculum is over."""


@dataclass
class Progress:
    """The progress of a training besides weights and memories, saved by `LvmTask.state`."""

    epoch: int = 0
    place: int = 0
    visited: list[NDArray[np.bool_]] = field(default_factory=list)  # of each video, (n,) clips
    past: list[deque[SampledQuestion]] = field(default_factory=list)


class LvmTask:
    """The task that feeds `LvmTrainer` with the training videos `caches`."""

    def __init__(
        self,
        network: NetworkConfig,
        recipe: LvmRecipe,
        caches: Sequence[VideoCache],
        seed: int,
        processes: ProcessGroup,
        device: torch.device,
        name: str = "lvm",
    ) -> None:
        self.name = name
        self._network, self._recipe, self._caches = network, recipe, EpochViews.wrap(caches, seed)
        self._seed, self._processes, self._device = seed, processes, device
        torch.manual_seed(seed)
        self.module: nn.Module = LvmTrainer(network, recipe).to(device)
        if recipe.learns:
            freeze_others(self.module, recipe.learns)
        self._bank = MemoryBank(len(caches), network, device)
        self._progress = Progress(
            visited=[np.zeros(cache.clips, np.bool_) for cache in caches],
            past=[deque(maxlen=max(recipe.past_queries, 1)) for _ in caches],
        )
        self._epoch: list[list[Visit]] = []
        self._inputs = TrainInputs(network, self._caches, recipe.sampler)
        self._tokens = LabelledTokens(self._caches.all_views())
        self._event_clips = [_find_event_clips(cache, network.clip_frames) for cache in caches]
        self._videos = torch.zeros(0, dtype=torch.int64)
        self._entries: dict[tuple[int, int], VideoEntries] = {}

    def param_groups(self) -> list[dict[str, Any]]:
        assert isinstance(self.module, LvmTrainer)
        rate = self._recipe.sampler_learning_rate
        scale = 1.0 if rate is None else rate / self._recipe.optimiser.learning_rate
        return make_reader_groups(self.module.reader) + make_sampler_groups(self.module.sampler, scale)

    # -- one step ------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Mapping[str, Tensor]:
        """Return the trainer's input at `step`; it changes visits and past questions, so call in order."""
        rng = np.random.default_rng([self._seed, 3, step])
        visits = self._next_visits(step)
        states = [self._make_state(visit, rng) for visit in visits]
        questions = [self._draw_questions(state, step, rng) for state in states]
        own = self._processes.slice(range(len(visits)))
        states, questions = [states[i] for i in own], [questions[i] for i in own]
        self._videos = torch.tensor([state.visit.video for state in states], device=self._device)
        arrays = self._inputs.make(states, self._bank) | self._make_targets(states, questions, rng)
        arrays |= self._make_queues(states) | self._tokens.draw(rng)
        arrays["temperature"] = np.float32(self._temperature(step))
        return {name: torch.as_tensor(array).to(self._device) for name, array in arrays.items()}

    def update(self, step: int, output: Mapping[str, Tensor]) -> None:
        self._bank.write(self._videos, dict(output), self._processes)

    def _make_queues(self, states: Sequence[VisitState]) -> dict[str, Any]:
        """Return the queues after each visit (B, l, ...); nothing without queues."""
        assert isinstance(self.module, LvmTrainer)
        maker = self.module.sampler.entry
        if maker is None:
            return {}
        queues = []
        for visit in (state.visit for state in states):
            key = visit.video, int(self._caches.view[visit.video])
            if key not in self._entries:  # made late: the maker's weights are loaded after the constructor
                self._entries[key] = make_entries(maker, self._caches[visit.video], self._network)
            visited = self._progress.visited[visit.video]
            queues.append(make_queue(self._entries[key], visit.clip, visited, self._network))
        return {name: np.stack([queue[name] for queue in queues]) for name in queues[0]}

    def _next_visits(self, step: int) -> list[Visit]:
        now = self._progress
        if now.place >= len(self._epoch):
            if self._epoch:
                now.epoch += 1
            now.place = 0
            self._plan(step)
        visits = self._epoch[now.place]
        now.place += 1
        for visit in visits:
            if visit.first:
                self._bank.reset(visit.video)
                now.visited[visit.video][:] = False
                now.past[visit.video].clear()
            now.visited[visit.video][visit.clip] = True
        return visits

    def _plan(self, step: int) -> None:
        self._caches.begin_epoch(self._progress.epoch)
        rng = np.random.default_rng([self._seed, 2, self._progress.epoch])
        self._epoch = plan_epoch(
            [cache.clips for cache in self._caches],
            self._recipe.batch,
            rng,
            chronological=self._recipe.chronological,
            max_clips=self._clips_at(step),
        )

    def _clips_at(self, step: int) -> int:
        """Return the maximum clips of a video: the curriculum of lengths fills the first half of training."""
        minutes = self._recipe.curriculum_minutes
        part = min(int(2 * step / self._recipe.optimiser.steps * len(minutes)), len(minutes) - 1)
        return max(1, round(minutes[part] * 60 * self._network.sample_fps / self._network.clip_frames))

    def _temperature(self, step: int) -> float:
        high, low = self._recipe.temperature
        return high + (low - high) * min(1.0, 2 * step / self._recipe.optimiser.steps)

    def _make_state(self, visit: Visit, rng: np.random.Generator) -> VisitState:
        """Return what the video has shown; half of a sweep's visits also show part of the following clip."""
        cache, clip_of = self._caches[visit.video], self._event_clips[visit.video]
        events = self._progress.visited[visit.video][clip_of]  # (E,)
        fresh, following = clip_of == visit.clip, visit.clip + 1
        if not visit.chronological or following >= cache.clips or rng.random() < 0.5:
            return VisitState(visit, 0, events, fresh & events)
        frames = int(rng.integers(1, self._network.clip_frames))
        until = int(cache.ticks[following * self._network.clip_frames + frames])
        begun = (clip_of == following) & (_event_middles(cache) < until)
        return VisitState(visit, until, events | begun, fresh | begun)

    # -- questions -----------------------------------------------------------------------------------------

    def _draw_questions(
        self, state: VisitState, step: int, rng: np.random.Generator
    ) -> list[SampledQuestion]:
        """Draw new questions about what was shown, and repeat past ones (online continual learning)."""
        video = state.visit.video
        cache, queue = self._caches[video], self._progress.past[video]
        tight = (
            1.0 if step < self._recipe.tight_until * self._recipe.optimiser.steps else _TIGHT_AFTER_CURRICULUM
        )
        mix = QueryMix(cache.objects.shape[1], self._recipe.negatives, tight, self._recipe.unnamed)
        past = list(queue) if self._recipe.past_queries else []
        new = [
            draw_question(cache.truth, state.events, state.fresh, int(cache.ticks[-1]), mix, rng)
            for _ in range(self._recipe.new_queries)
        ]
        drawn = [question for question in new if question is not None]
        queue.extend(drawn)
        return drawn + past

    def _make_targets(
        self,
        states: Sequence[VisitState],
        questions: Sequence[Sequence[SampledQuestion]],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """Return the questions (Q, ...) with their answers; `slot` (Q,) are the rows of their videos."""
        rows = [(slot, question) for slot, of_video in enumerate(questions) for question in of_video]
        rows = rows or [(0, _NO_QUESTION)]
        count, network = len(rows), self._network
        max_events = max(len(state.events) for state in states) or 1
        out: dict[str, Any] = {
            "slot": np.array([slot for slot, _ in rows], np.int64),
            "kind": np.array([question.kind for _, question in rows], np.int64),
            "start": np.array([question.start for _, question in rows], np.int64),
            "end": np.array([question.end for _, question in rows], np.int64),
            "shift": rng.integers(0, self._recipe.shift_ticks + 1, count),
            "object_tokens": np.zeros((count, network.cells, network.d_backbone), np.float32),
            "object_valid": np.zeros(count, np.bool_),
            "activity": np.zeros((count, network.activities), np.float32),
            "activity_valid": np.zeros(count, np.bool_),
            "activities": np.zeros((count, network.activities), np.float32),
            "happened": np.zeros(count, np.bool_),
            "matching": np.zeros((count, max_events), np.bool_),
            "event": np.full(count, -1, np.int64),
            "span": np.zeros((count, 2), np.int64),
            "box_tick": np.full((count, _MAX_BOXES), -1, np.int64),
            "box": np.zeros((count, _MAX_BOXES, 4), np.float32),
        }
        for row, (slot, question) in enumerate(rows):
            self._fill_row(out, row, states[slot], question)
        return out

    def _fill_row(self, out: dict[str, Any], row: int, state: VisitState, question: SampledQuestion) -> None:
        cache = self._caches[state.visit.video]
        matches = match_events(question, cache.truth, state.events)
        out["matching"][row, : len(matches)] = matches
        out["happened"][row] = matches.any()
        if question.instance >= 0:
            out["object_tokens"][row] = cache.objects[question.instance, question.photo]
            out["object_valid"][row] = True
        if question.activity >= 0:
            out["activity"][row, question.activity] = 1
            out["activity_valid"][row] = True
        events = np.flatnonzero(matches)
        out["activities"][row, cache.truth.activity[events]] = 1
        if not len(events):
            return
        event = question.event if question.event in events else int(events[0])
        out["event"][row] = event
        out["span"][row] = cache.truth.start[event], cache.truth.end[event]
        if KINDS[question.kind] == "object":
            ticks, boxes = cache.truth.select_boxes(event)
            sampled = np.flatnonzero(np.isin(ticks, cache.ticks))[:_MAX_BOXES]  # tokens have no other ticks
            ticks, boxes = ticks[sampled], boxes[sampled]
            out["box_tick"][row, : len(ticks)] = ticks
            out["box"][row, : len(ticks)] = to_cxcywh(boxes)

    # -- resuming ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        now = self._progress
        questions = [[video, *question.row()] for video, past in enumerate(now.past) for question in past]
        longest = max((cache.clips for cache in self._caches), default=0)
        visited = np.stack([np.pad(clips, (0, longest - len(clips))) for clips in now.visited])
        visits = [[vars(visit)[key] for key in vars(visit)] for batch in self._epoch for visit in batch]
        return {
            **{f"bank.{name}": tensor.clone() for name, tensor in self._bank.state().items()},
            "epoch": torch.tensor([now.epoch, now.place]),
            "visited": torch.from_numpy(visited),
            "past": torch.tensor(questions, dtype=torch.int64).reshape(-1, 8),
            "visits": torch.tensor(visits, dtype=torch.int64).reshape(-1, self._recipe.batch, 4),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        now = self._progress
        self._bank.restore({name: state[f"bank.{name}"] for name in self._bank.fields})
        now.epoch, now.place = (int(value) for value in state["epoch"])
        self._caches.begin_epoch(now.epoch)
        for video, clips in enumerate(now.visited):
            clips[:] = state["visited"][video, : len(clips)].cpu().numpy()  # it may be on a GPU
        for past in now.past:
            past.clear()
        for video, *row in state["past"].tolist():
            now.past[video].append(SampledQuestion(*row))
        self._epoch = [
            [Visit(video, clip, bool(first), bool(order)) for video, clip, first, order in batch]
            for batch in state["visits"].tolist()
        ]


def _find_event_clips(cache: VideoCache, frames: int) -> NDArray[np.int64]:
    """Return the clip that contains each event's middle; the last clip for events after it. (E,)"""
    begins = cache.ticks[::frames][: cache.clips]
    return np.clip(np.searchsorted(begins, _event_middles(cache), side="right") - 1, 0, cache.clips - 1)


def _event_middles(cache: VideoCache) -> NDArray[np.int64]:
    """Return the ticks (E,) at which events are half over: from then on they count as seen."""
    return (cache.truth.start + cache.truth.end) // 2
