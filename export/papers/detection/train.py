"""Train heads of the detection task on frozen region features, and answer with them.

Letters: B clips of a batch, n clips of a video, R regions, C activities.

The loss is AVA's: binary cross-entropy of each activity, here over regions; where regions have no boxes, over
clips, of which the best region speaks. Everything is a function of the videos, the recipe and its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.papers.detection.average_precision import VideoScores, score_video
from export.papers.detection.clips import Index, Real, RegionVideo
from export.papers.detection.head import DetectionHead, HeadRecipe, ReadPast

_ABSENT_LOGIT = -1e4
"""Logit of a region that is absent."""


def list_clips(videos: Sequence[RegionVideo]) -> Index:
    """List every clip of every video: (video, clip). (N, 2)"""
    return np.array([(v, c) for v, video in enumerate(videos) for c in range(len(video))], np.int64)


class _Batches:
    """Batches of clips of several videos with their pasts."""

    def __init__(self, head: DetectionHead, videos: Sequence[RegionVideo]) -> None:
        self._videos = videos
        self._before = [head.watch(video) for video in videos]
        self.place = list_clips(videos)

    def batch(self, rows: Index) -> tuple[RegionBatch, list[Any]]:
        """Return clips number `rows` of `place`, and their pasts."""
        place = self.place[rows]
        parts = [(int(v), place[place[:, 0] == v, 1]) for v in np.unique(place[:, 0])]
        pasts = [read_pasts(self._before[v], clips) for v, clips in parts]
        joined = [_join([past[part] for past in pasts]) for part in range(len(pasts[0]))]
        return RegionBatch.from_clips([(self._videos[v], clips) for v, clips in parts]), joined


@dataclass(frozen=True)
class RegionBatch:
    """`features` (B, R, d), `valid` (B, R), `labels` (B, R, C), `clip_labels` (B, C) in torch."""

    features: Tensor
    valid: Tensor
    labels: Tensor
    clip_labels: Tensor
    has_boxes: bool

    @classmethod
    def from_clips(cls, parts: Sequence[tuple[RegionVideo, Index]]) -> RegionBatch:
        """Join these clips of these videos."""

        def joined(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(video, name)[clips] for video, clips in parts]))

        boxes = all(video.box is not None for video, _ in parts)
        features, valid = joined("features"), joined("valid")
        return cls(features, valid, joined("labels"), joined("clip_labels"), has_boxes=boxes)


def read_pasts(before: Sequence[ReadPast], clips: Index) -> list[Any]:
    """Return the past of each part of a head before these clips of a video."""
    return [read_past(clips) for read_past in before]


def detection_loss(logits: Tensor, batch: RegionBatch) -> Tensor:
    """Return the mean binary cross-entropy of logits (B, R, C), of regions or of clips."""
    if batch.has_boxes:
        return functional.binary_cross_entropy_with_logits(
            logits[batch.valid], batch.labels[batch.valid].float()
        )
    best = logits.masked_fill(~batch.valid[..., None], _ABSENT_LOGIT).amax(dim=1)  # (B, C)
    return functional.binary_cross_entropy_with_logits(best, batch.clip_labels.float())


def minimise(
    parameters: Iterable[nn.Parameter],
    count: int,
    recipe: HeadRecipe,
    loss_of: Callable[[Index], Tensor],
    parts: Iterable[nn.Parameter] = (),
) -> list[float]:
    """Minimise the loss of batches of `count` samples, given by their numbers. Return its mean in each epoch.

    `parts` are parameters of memories, which have a learning rate of their own.
    """
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)  # of dropout
    steps = -(-count // recipe.batch)
    groups = [
        (list(group), rate)
        for group, rate in (
            (parameters, recipe.learning_rate),
            (parts, recipe.parts_learning_rate or recipe.learning_rate),
        )
    ]
    groups = [(group, rate) for group, rate in groups if group]
    optimiser = torch.optim.AdamW(
        [{"params": group, "lr": rate} for group, rate in groups], weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [rate for _, rate in groups], total_steps=recipe.epochs * steps, pct_start=recipe.warm_up
    )
    curve = []
    for _ in range(recipe.epochs):
        losses = []
        for rows in np.array_split(rng.permutation(count), steps):
            loss = loss_of(rows)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        curve.append(float(np.mean(losses)))
    return curve


def train_head(
    head: DetectionHead, videos: Sequence[RegionVideo], recipe: HeadRecipe | None = None
) -> list[float]:
    """Train `head` in place. Return the mean loss of each epoch."""
    recipe = recipe or HeadRecipe()
    head.prepare(videos, recipe)
    feed = _Batches(head, videos)

    def loss_of(rows: Index) -> Tensor:
        batch, pasts = feed.batch(rows)
        return detection_loss(head(batch.features, batch.valid, pasts), batch)

    head.train()
    rest = [*head.norm.parameters(), *head.classifier.parameters()]
    curve = minimise(rest, len(feed.place), recipe, loss_of, head.parts.parameters())
    head.eval()
    return curve


@torch.no_grad()
def predict(head: DetectionHead, video: RegionVideo, batch: int = 256) -> Real:
    """Return a trained head's probabilities of each region, 0 where there is none. (n, R, C)"""
    head.eval()
    before, out = head.watch(video), []
    for start in range(0, len(video), batch):
        clips = np.arange(start, min(start + batch, len(video)))
        region_batch = RegionBatch.from_clips([(video, clips)])
        logits = head(region_batch.features, region_batch.valid, read_pasts(before, clips))
        out.append(torch.sigmoid(logits).masked_fill(~region_batch.valid[..., None], 0).numpy())
    return np.concatenate(out)


def evaluate_head(head: DetectionHead, videos: Sequence[RegionVideo]) -> list[VideoScores]:
    """Score a head's answers about videos."""
    return [score_video(video, predict(head, video)) for video in videos]


def _join(pasts: Sequence[Any]) -> Any:
    """Join tuples of tensors of several videos."""
    columns = [torch.cat(column) for column in zip(*pasts, strict=True)]
    kind = type(pasts[0])
    return kind(*columns) if hasattr(kind, "_fields") else kind(columns)
