"""Compute mean average precision as AVA does: of boxes in each frame at IoU 0.5, or of whole clips.

Letters: n clips, R regions, C activities, N answers, V videos, H answers that hit, D draws of videos.

All answers of all videos are ranked by their score, for each activity; average precision is the area under
the curve of precision over recall, precision made monotone as PASCAL VOC does. Equal scores count as if the
wrong ones came first, so a constant answer is worth the share of truths and no more. The answers of a head
are stored, a file for each head and training seed, and read again for intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import LvmError
from export.data.metrics import box_iou
from export.evaluation import bootstrap
from export.evaluation.bootstrap import Interval, Plan
from export.papers.detection.clips import Flags, RegionVideo

Whole = NDArray[np.int64]
Real = NDArray[np.float64]
BOX_IOU = 0.5
PLAN = Plan(resamples=2000)


@dataclass(frozen=True)
class VideoScores:
    """The answers about a video: `score` and `hit` (N, C), and how many `truths` (C,) there were to hit."""

    video: str
    score: Real
    hit: Flags
    truths: Whole


def score_video(video: RegionVideo, probability: NDArray[np.floating]) -> VideoScores:
    """Score answers (n, R, C) about a video: by boxes where its regions have boxes, else by clips."""
    score = np.asarray(probability, np.float64)
    if score.shape != video.labels.shape or not np.isfinite(score[video.valid]).all():
        raise LvmError(
            f"{video.name} needs a finite score for each region and activity {video.labels.shape}, "
            f"got {score.shape}: look at the head"
        )
    return _score_clips(video, score) if video.box is None else _score_boxes(video, score, video.box)


def _score_clips(video: RegionVideo, score: Real) -> VideoScores:
    best = np.where(video.valid[..., None], score, 0.0).max(axis=1)  # (n, C)
    return VideoScores(video.name, best, video.clip_labels, video.clip_labels.sum(axis=0))


def _score_boxes(video: RegionVideo, score: Real, box: NDArray[np.float32]) -> VideoScores:
    hit = np.zeros(score.shape, np.bool_)
    for clip in np.unique(video.truth_clip):
        row = np.flatnonzero(video.truth_clip == clip)
        region = np.flatnonzero(video.valid[clip])
        iou = box_iou(box[clip, region][:, None], video.truth_box[row][None])  # (r, g)
        for activity in np.flatnonzero(video.truth_labels[row].any(axis=0)):
            free = video.truth_labels[row, activity].copy()  # (g,)
            for candidate in np.argsort(-score[clip, region, activity], kind="stable"):
                open_iou = np.where(free, iou[candidate], 0)
                if len(open_iou) and open_iou.max() >= BOX_IOU:
                    hit[clip, region[candidate], activity] = True
                    free[open_iou.argmax()] = False
    return VideoScores(video.name, score[video.valid], hit[video.valid], video.truth_labels.sum(axis=0))


@dataclass(frozen=True)
class _Curve:
    """The ranking of one activity: of which video each hit is (H,), best first; how many wrong answers of
    each video rank before it (H, V); the truths of each video (V,)."""

    video: Whole
    before: Whole
    truths: Whole

    def average_precision(self, counts: Whole) -> Real:
        """Return average precision for how often each video was drawn (D, V); NaN where there was nothing to
        hit. (D,)"""
        drawn = counts[:, self.video]  # (D, H)
        right = drawn.cumsum(axis=1)
        precision = right / np.maximum(right + counts @ self.before.T, 1)
        smooth = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total = counts @ self.truths
        return np.asarray(np.where(total > 0, (drawn * smooth).sum(axis=1) / np.maximum(total, 1), np.nan))


class Ranking:
    """The answers about several videos, ranked once: average precision of any draw of them.

    `activities` are the numbers of those that count; None for all.
    """

    def __init__(self, answers: Sequence[VideoScores], activities: Sequence[int] | None = None) -> None:
        ordered = sorted(answers, key=lambda scores: scores.video)
        self.videos = [scores.video for scores in ordered]
        if len(set(self.videos)) < len(self.videos) or not ordered:
            raise LvmError(f"each video must be judged once, got {', '.join(self.videos) or 'none'}")
        chosen = range(len(ordered[0].truths)) if activities is None else activities
        self._curves = [_make_curve(ordered, activity) for activity in chosen]

    def average_precisions(self) -> Real:
        """Return the average precision of each activity over all videos, NaN where it never happens. (C,)"""
        once = np.ones((1, len(self.videos)), np.int64)
        return np.array([curve.average_precision(once)[0] for curve in self._curves])

    def mean_average_precision(self, counts: Whole) -> Real:
        """Return the mean over the activities that happen, NaN where none does, for how often each video was
        drawn (D, V). (D,)"""
        every = np.stack([curve.average_precision(counts) for curve in self._curves])  # (C, D)
        known = ~np.isnan(every)
        count = known.sum(axis=0)
        mean = np.where(known, every, 0).sum(axis=0) / np.maximum(count, 1)
        return np.asarray(np.where(count > 0, mean, np.nan))


def _make_curve(answers: Sequence[VideoScores], activity: int) -> _Curve:
    scores = [answer.score[:, activity] for answer in answers]
    hits = [answer.hit[:, activity] for answer in answers]
    video = np.concatenate([np.full(int(hit.sum()), number) for number, hit in enumerate(hits)])
    hit_scores = np.concatenate([score[hit] for score, hit in zip(scores, hits, strict=True)])  # (H,)
    order = np.argsort(-hit_scores, kind="stable")
    wrong = [np.sort(-score[~hit]) for score, hit in zip(scores, hits, strict=True)]
    before = [np.searchsorted(wrong_scores, -hit_scores[order], side="right") for wrong_scores in wrong]
    truths = np.array([answer.truths[activity] for answer in answers])
    return _Curve(video[order].astype(np.int64), np.stack(before, axis=1), truths)


def mean_ap_interval(runs: Sequence[Ranking], plan: Plan = PLAN) -> Interval:
    """Return the mAP over the same videos, one ranking a training seed, with its interval over videos (and
    seeds)."""
    return bootstrap.joint_interval(
        [run.mean_average_precision for run in runs], _require_same_videos(runs), plan
    )


def mean_ap_gain_interval(ours: Sequence[Ranking], theirs: Sequence[Ranking], plan: Plan = PLAN) -> Interval:
    """Return the mAP of ours - theirs on the same draws of videos and seeds."""
    _require_same_videos([*ours, *theirs])

    def subtract(own: Ranking, other: Ranking, counts: Whole) -> Real:
        return own.mean_average_precision(counts) - other.mean_average_precision(counts)

    pairs = [partial(subtract, own, other) for own, other in zip(ours, theirs, strict=True)]
    return bootstrap.joint_interval(pairs, _require_same_videos(ours), plan)


def _require_same_videos(runs: Sequence[Ranking]) -> list[str]:
    if any(run.videos != runs[0].videos for run in runs):
        raise LvmError("all runs must be judged on the same videos, got different ones: evaluate again")
    return runs[0].videos


def save_answers(answers: Sequence[VideoScores], path: Path) -> None:
    """Write `path` (.npz), completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{number}/{name}": np.asarray(getattr(scores, name))
        for number, scores in enumerate(answers)
        for name in ("video", "score", "hit", "truths")
    }
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    part.replace(path)


def load_answers(path: Path) -> list[VideoScores]:
    """Load what `save_answers` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        count = len({name.split("/")[0] for name in arrays.files})
        return [
            VideoScores(
                str(arrays[f"{number}/video"]),
                arrays[f"{number}/score"],
                arrays[f"{number}/hit"],
                arrays[f"{number}/truths"],
            )
            for number in range(count)
        ]
