"""Toy videos of the detection task, and an assertion that every memory of a head must pass.

One region of four is handled. Which of two activities it is, only the clip before shows, by whether its
features point along the fifth axis or against it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from export.papers.detection.clips import RegionVideo
from export.papers.detection.head import MemoryPart

WIDTH, REGIONS, FRAMES, ACTIVITIES = 16, 4, 2, 3


def toy_video(seed: int = 0, clips: int = 60) -> RegionVideo:
    """Make a video. Activity 0 shows in its own features; 1 and 2 differ only in the clip before."""
    rng = np.random.default_rng(seed)
    valid = np.ones((clips, REGIONS), bool)
    valid[::7, -1] = False
    features = 0.3 * rng.normal(size=(clips, REGIONS, WIDTH)).astype(np.float32)
    labels = np.zeros((clips, REGIONS, ACTIVITIES), bool)
    for clip in range(1, clips, 2):
        activity = int(rng.integers(ACTIVITIES))
        labels[clip, 0, activity] = True
        features[clip, 0, 0 if activity == 0 else 1] += 3
        features[clip - 1, 0, 4] += {0: 0, 1: 3, 2: -3}[activity]
    features[~valid] = 0
    box = np.tile(np.array([[i / 4, 0, (i + 1) / 4, 0.5] for i in range(REGIONS)], np.float32), (clips, 1, 1))
    clip, region = np.nonzero(labels.any(axis=2))
    return RegionVideo(
        name=f"toy-{seed}",
        tick=10 * np.arange(clips) + 5,
        tokens=rng.normal(size=(clips, FRAMES, 49, WIDTH)).astype(np.float16),
        features=features,
        valid=valid,
        box=box,
        labels=labels,
        clip_labels=labels.any(axis=1),
        truth_clip=clip,
        truth_box=box[clip, region],
        truth_labels=labels[clip, region],
    )


def with_another_future(video: RegionVideo, clip: int) -> RegionVideo:
    """Return the video up to `clip`, and another one from there on."""
    other = toy_video(99, len(video))
    mixed = {
        name: np.concatenate([getattr(video, name)[:clip], getattr(other, name)[clip:]])
        for name in ("tokens", "features", "valid", "labels", "clip_labels")
    }
    return dataclasses.replace(video, **mixed)


def assert_knows_only_the_past(part: MemoryPart, clip: int = 30) -> None:
    """Assert that the memory before a clip is deterministic and independent of that clip and later ones."""
    video = toy_video(1)
    now = np.array([clip])
    seen, again, other = (
        part.watch(one)(now) for one in (video, toy_video(1), with_another_future(video, clip))
    )
    for one, same, without in zip(seen, again, other, strict=True):
        assert torch.equal(one, same)
        assert torch.equal(one, without)
