"""The third stage as the loop wants it: which clips are visited, what is asked, memories between steps.

Letters: B videos of a batch, Q questions, m slots, K candidates, R recency tokens, E events, F boxes of a
question, C activities.

Every member of a team draws the visits and questions of the whole global batch from the same generator and
feeds its own share of them; so queues and visited clips agree without being sent.
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

from edge_runtime.frame import CELLS
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.data.video_labels import cxcywh
from export.training.data.epoch_views import Showings
from export.training.loop.distributed import Team
from export.training.loop.param_groups import choosing, keep_others, reading
from export.training.lvm.box_loss import ShownTokens
from export.training.lvm.inputs import Shown, Slots
from export.training.lvm.memory_bank import MemoryBank
from export.training.lvm.query_sampler import KINDS, Asking, Question, draw, matching
from export.training.lvm.queue_entries import VideoEntries, entries_of, queue_after
from export.training.lvm.trainer import LvmTrainer
from export.training.lvm.visit_order import Visit, epoch_of_visits
from export.training.recipe import LvmRecipe

_NOTHING_ASKED = Question(kind=2, instance=0, view=0, activity=0, start=0, end=0, event=-1)
_MOST_BOXES = 64
_TIGHT_AFTER_CURRICULUM = 0.3
"""Share of tight windows once the curriculum is over."""


@dataclass
class Progress:
    """Where a training stands besides its weights: all that `LvmTask.state` saves."""

    epoch: int = 0
    place: int = 0
    visited: list[NDArray[np.bool_]] = field(default_factory=list)  # of each video, (n,) clips
    past: list[deque[Question]] = field(default_factory=list)


class LvmTask:
    """Feeds `LvmTrainer`. `caches` are the training videos."""

    def __init__(
        self,
        network: NetworkConfig,
        recipe: LvmRecipe,
        caches: Sequence[VideoCache],
        seed: int,
        team: Team,
        device: torch.device,
        name: str = "lvm",
    ) -> None:
        self.name = name
        self._network, self._recipe, self._caches = network, recipe, Showings.of(caches, seed)
        self._seed, self._team, self._device = seed, team, device
        torch.manual_seed(seed)
        self.module: nn.Module = LvmTrainer(network, recipe).to(device)
        if recipe.learns:
            keep_others(self.module, recipe.learns)
        self._bank = MemoryBank(len(caches), network, device)
        self._progress = Progress(
            visited=[np.zeros(cache.clips, np.bool_) for cache in caches],
            past=[deque(maxlen=max(recipe.past_queries, 1)) for _ in caches],
        )
        self._epoch: list[list[Visit]] = []
        self._slots = Slots(network, self._caches, recipe.sampler)
        self._tokens = ShownTokens(self._caches.everything())
        self._clip_of_event = [_clip_of_event(cache, network.clip_frames) for cache in caches]
        self._videos = torch.zeros(0, dtype=torch.int64)
        self._entries: dict[tuple[int, int], VideoEntries] = {}

    def groups(self) -> list[dict[str, Any]]:
        assert isinstance(self.module, LvmTrainer)
        rate = self._recipe.sampler_learning_rate
        scale = 1.0 if rate is None else rate / self._recipe.optimiser.learning_rate
        return reading(self.module.reader) + choosing(self.module.sampler, scale)

    # -- one step ------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Mapping[str, Tensor]:
        """What the trainer is fed at `step`; changes visited clips and queues, so steps come in order."""
        rng = np.random.default_rng([self._seed, 3, step])
        visits = self._next_visits(step)
        shown = [self._shown(visit, rng) for visit in visits]
        asked = [self._ask(one, step, rng) for one in shown]
        own = self._team.slice(range(len(visits)))
        shown, asked = [shown[i] for i in own], [asked[i] for i in own]
        self._videos = torch.tensor([one.visit.video for one in shown], device=self._device)
        arrays = self._slots.of(shown, self._bank) | self._questions(shown, asked, rng)
        arrays |= self._queues(shown) | self._tokens.draw(rng)
        arrays["temperature"] = np.float32(self._temperature(step))
        return {name: torch.as_tensor(array).to(self._device) for name, array in arrays.items()}

    def after(self, step: int, output: Mapping[str, Tensor]) -> None:
        self._bank.write(self._videos, dict(output), self._team)

    def _queues(self, shown: Sequence[Shown]) -> dict[str, Any]:
        """What the queues hold after each visit (B, l, ...); nothing without queues."""
        assert isinstance(self.module, LvmTrainer)
        maker = self.module.sampler.entry
        if maker is None:
            return {}
        found = []
        for visit in (one.visit for one in shown):
            which = visit.video, int(self._caches.way[visit.video])
            if which not in self._entries:  # not before the weights of what makes them have come
                self._entries[which] = entries_of(maker, self._caches[visit.video], self._network)
            visited = self._progress.visited[visit.video]
            found.append(queue_after(self._entries[which], visit.clip, visited, self._network))
        return {name: np.stack([one[name] for one in found]) for name in found[0]}

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
        self._caches.turn(self._progress.epoch)
        rng = np.random.default_rng([self._seed, 2, self._progress.epoch])
        self._epoch = epoch_of_visits(
            [cache.clips for cache in self._caches],
            self._recipe.batch,
            rng,
            chronological=self._recipe.chronological,
            at_most=self._clips_at(step),
        )

    def _clips_at(self, step: int) -> int:
        """How long videos are: the curriculum fills the first half of training."""
        minutes = self._recipe.curriculum_minutes
        part = min(int(2 * step / self._recipe.optimiser.steps * len(minutes)), len(minutes) - 1)
        return max(1, round(minutes[part] * 60 * self._network.sample_fps / self._network.clip_frames))

    def _temperature(self, step: int) -> float:
        high, low = self._recipe.temperature
        return high + (low - high) * min(1.0, 2 * step / self._recipe.optimiser.steps)

    def _shown(self, visit: Visit, rng: np.random.Generator) -> Shown:
        """In half of the steps of a sweep a part of the following clip is there too, as recency buffer."""
        cache, clip_of = self._caches[visit.video], self._clip_of_event[visit.video]
        events = self._progress.visited[visit.video][clip_of]  # (E,)
        fresh, following = clip_of == visit.clip, visit.clip + 1
        if not visit.chronological or following >= cache.clips or rng.random() < 0.5:
            return Shown(visit, 0, events, fresh & events)
        frames = int(rng.integers(1, self._network.clip_frames))
        until = int(cache.ticks[following * self._network.clip_frames + frames])
        begun = (clip_of == following) & (_middles(cache) < until)
        return Shown(visit, until, events | begun, fresh | begun)

    # -- questions -----------------------------------------------------------------------------------------

    def _ask(self, shown: Shown, step: int, rng: np.random.Generator) -> list[Question]:
        """New questions about what was shown, then past ones again (online continual learning)."""
        video = shown.visit.video
        cache, queue = self._caches[video], self._progress.past[video]
        tight = (
            1.0 if step < self._recipe.tight_until * self._recipe.optimiser.steps else _TIGHT_AFTER_CURRICULUM
        )
        asking = Asking(cache.objects.shape[1], self._recipe.negatives, tight, self._recipe.unnamed)
        past = list(queue) if self._recipe.past_queries else []
        new = [
            draw(cache.truth, shown.events, shown.fresh, int(cache.ticks[-1]), asking, rng)
            for _ in range(self._recipe.new_queries)
        ]
        real = [question for question in new if question is not None]
        queue.extend(real)
        return real + past

    def _questions(
        self, shown: Sequence[Shown], asked: Sequence[Sequence[Question]], rng: np.random.Generator
    ) -> dict[str, Any]:
        rows = [(slot, question) for slot, questions in enumerate(asked) for question in questions]
        rows = rows or [(0, _NOTHING_ASKED)]
        count, network = len(rows), self._network
        most_events = max(len(one.events) for one in shown) or 1
        out: dict[str, Any] = {
            "slot": np.array([slot for slot, _ in rows], np.int64),
            "kind": np.array([question.kind for _, question in rows], np.int64),
            "start": np.array([question.start for _, question in rows], np.int64),
            "end": np.array([question.end for _, question in rows], np.int64),
            "shift": rng.integers(0, self._recipe.shift_ticks + 1, count),
            "object_tokens": np.zeros((count, CELLS, network.d_backbone), np.float32),
            "object_valid": np.zeros(count, np.bool_),
            "activity": np.zeros((count, network.activities), np.float32),
            "activity_valid": np.zeros(count, np.bool_),
            "activities": np.zeros((count, network.activities), np.float32),
            "happened": np.zeros(count, np.bool_),
            "matching": np.zeros((count, most_events), np.bool_),
            "event": np.full(count, -1, np.int64),
            "span": np.zeros((count, 2), np.int64),
            "box_tick": np.full((count, _MOST_BOXES), -1, np.int64),
            "box": np.zeros((count, _MOST_BOXES, 4), np.float32),
        }
        for row, (slot, question) in enumerate(rows):
            self._fill(out, row, shown[slot], question)
        return out

    def _fill(self, out: dict[str, Any], row: int, shown: Shown, question: Question) -> None:
        cache = self._caches[shown.visit.video]
        found = matching(question, cache.truth, shown.events)
        out["matching"][row, : len(found)] = found
        out["happened"][row] = found.any()
        if question.instance >= 0:
            out["object_tokens"][row] = cache.objects[question.instance, question.view]
            out["object_valid"][row] = True
        if question.activity >= 0:
            out["activity"][row, question.activity] = 1
            out["activity_valid"][row] = True
        events = np.flatnonzero(found)
        out["activities"][row, cache.truth.activity[events]] = 1
        if not len(events):
            return
        event = question.event if question.event in events else int(events[0])
        out["event"][row] = event
        out["span"][row] = cache.truth.start[event], cache.truth.end[event]
        if KINDS[question.kind] == "object":
            ticks, boxes = cache.truth.boxes(event)
            sampled = np.flatnonzero(np.isin(ticks, cache.ticks))[:_MOST_BOXES]  # no token is of another tick
            ticks, boxes = ticks[sampled], boxes[sampled]
            out["box_tick"][row, : len(ticks)] = ticks
            out["box"][row, : len(ticks)] = cxcywh(boxes)

    # -- going on ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        now = self._progress
        questions = [[video, *question.row()] for video, past in enumerate(now.past) for question in past]
        longest = max((cache.clips for cache in self._caches), default=0)
        visited = np.stack([np.pad(one, (0, longest - len(one))) for one in now.visited])
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
        self._caches.turn(now.epoch)
        for video, one in enumerate(now.visited):
            one[:] = state["visited"][video, : len(one)].cpu().numpy()  # it may have come to a GPU
        for past in now.past:
            past.clear()
        for video, *row in state["past"].tolist():
            now.past[video].append(Question(*row))
        self._epoch = [
            [Visit(video, clip, bool(first), bool(order)) for video, clip, first, order in batch]
            for batch in state["visits"].tolist()
        ]


def _clip_of_event(cache: VideoCache, frames: int) -> NDArray[np.int64]:
    """In which clip the middle of each event lies; the last one also has what comes after it. (E,)"""
    begins = cache.ticks[::frames][: cache.clips]
    return np.clip(np.searchsorted(begins, _middles(cache), side="right") - 1, 0, cache.clips - 1)


def _middles(cache: VideoCache) -> NDArray[np.int64]:
    """Ticks (E,) at which events are half over: from then on they count as seen."""
    return (cache.truth.start + cache.truth.end) // 2
