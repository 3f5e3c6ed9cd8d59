"""Draw labelled pictures of users' own videos for a backbone.

Letters: F frames at the sampling rate, S picture side.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any

import numpy as np

from engines.network_config import NetworkConfig
from export.data.video_labels import VideoTruth
from export.training.data.scenes import Product, Scenes, label_frames
from export.training.data.user_frame_cache import CachedVideo, DecodedVideo, Images
from export.training.recipe import BackboneRecipe

_OPEN = 192
"""Videos that stay open, each with two mapped files and its events."""


class UserScenes:
    """Pictures of cached videos by name, most of them from inside events.

    Instances of `everywhere` are the same product in all videos, and so are `real` products of equal name,
    given by video and instance.
    """

    def __init__(
        self,
        videos: Mapping[str, CachedVideo],
        everywhere: Set[int],
        real: Mapping[tuple[str, int], str],
        stage: BackboneRecipe,
        network: NetworkConfig,
    ) -> None:
        self._videos, self._everywhere, self._real = videos, everywhere, real
        self._stage, self._network = stage, network
        self._open = lru_cache(maxsize=_OPEN)(self._load)

    def __getstate__(self) -> dict[str, object]:
        return {
            "videos": self._videos,
            "everywhere": self._everywhere,
            "real": self._real,
            "stage": self._stage,
            "network": self._network,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _load(self, video: str) -> tuple[DecodedVideo, VideoTruth]:
        cached = self._videos[video]
        return cached.open(), cached.load_truth()

    def draw(self, rng: np.random.Generator) -> Scenes:
        """Draw as many pictures as a batch of worlds has, each of a random video."""
        parts = [
            self._draw_frame(rng) for _ in range(self._stage.worlds_a_batch * self._stage.frames_a_world)
        ]
        frames = np.stack([frame for frame, _, _ in parts])
        activity, crop, crops = label_frames(
            [active for _, active, _ in parts],
            [photos for _, _, photos in parts],
            rng,
            self._network.activities,
            self._network.image_size,
        )
        return Scenes(frames, activity, crop, crops)

    def _draw_frame(
        self, rng: np.random.Generator
    ) -> tuple[Images, list[tuple[Product, int, Any]], dict[Product, Images]]:
        """Return a frame, what is handled on it (product, activity, box), and the photos of its video."""
        video = list(self._videos)[int(rng.integers(len(self._videos)))]
        decoded, truth = self._open(video)
        at = int(rng.integers(len(decoded.ticks)))
        if len(truth) and rng.random() < self._stage.inside_events:
            event = int(rng.integers(len(truth)))
            inside = np.flatnonzero(
                (decoded.ticks >= truth.start[event]) & (decoded.ticks < truth.end[event])
            )
            at = int(rng.choice(inside)) if len(inside) else at
        rows = np.flatnonzero(truth.box_tick == decoded.ticks[at])
        active = [
            (self._product_key(video, int(truth.instance[e])), int(truth.activity[e]), tuple(truth.box[row]))
            for row, e in zip(rows, truth.box_event[rows], strict=True)
        ]
        products = [self._product_key(video, instance) for instance in decoded.instances.tolist()]
        return decoded.frames[at], active, dict(zip(products, decoded.crops, strict=True))

    def _product_key(self, video: str, instance: int) -> Product:
        if (video, instance) in self._real:
            return None, self._real[video, instance]
        return (None if instance in self._everywhere else video), instance
