"""A person's own videos as a backbone's training material.

Letters: F frames at the sampling rate, S picture side.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any

import numpy as np

from engines.network_config import NetworkConfig
from export.data.video_labels import VideoTruth
from export.training.data.scenes import Product, Scenes, labelled
from export.training.data.user_frame_cache import Decoded, Images, Kept
from export.training.recipe import BackboneRecipe

_OPEN = 192
"""Videos kept open: two mapped files and the events of each."""


class OwnScenes:
    """Pictures of kept videos by name, most of them from inside events.

    Instances `everywhere` are the same product in all videos, and so are `real` ones of one name, which are
    given by video and instance.
    """

    def __init__(
        self,
        videos: Mapping[str, Kept],
        everywhere: Set[int],
        real: Mapping[tuple[str, int], str],
        stage: BackboneRecipe,
        network: NetworkConfig,
    ) -> None:
        self._videos, self._everywhere, self._real = videos, everywhere, real
        self._stage, self._network = stage, network
        self._open = lru_cache(maxsize=_OPEN)(self._opened)

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

    def _opened(self, video: str) -> tuple[Decoded, VideoTruth]:
        kept = self._videos[video]
        return kept.decoded(), kept.truth()

    def draw(self, rng: np.random.Generator) -> Scenes:
        """As many pictures as a batch of worlds has, each of a video drawn anew."""
        parts = [self._one(rng) for _ in range(self._stage.worlds_a_batch * self._stage.frames_a_world)]
        frames = np.stack([frame for frame, _, _ in parts])
        activity, crop, crops = labelled(
            [active for _, active, _ in parts],
            [photos for _, _, photos in parts],
            rng,
            self._network.activities,
            self._network.image_size,
        )
        return Scenes(frames, activity, crop, crops)

    def _one(
        self, rng: np.random.Generator
    ) -> tuple[Images, list[tuple[Product, int, Any]], dict[Product, Images]]:
        """A frame, what is handled on it (product, activity, box), and the photos of its video."""
        video = list(self._videos)[int(rng.integers(len(self._videos)))]
        decoded, truth = self._open(video)
        at = int(rng.integers(len(decoded.ticks)))
        if len(truth) and rng.random() < self._stage.inside_events:
            event = int(rng.integers(len(truth)))
            inside = np.flatnonzero(
                (decoded.ticks >= truth.start[event]) & (decoded.ticks < truth.end[event])
            )
            at = int(rng.choice(inside)) if len(inside) else at
        here = np.flatnonzero(truth.box_tick == decoded.ticks[at])
        active = [
            (self._product(video, int(truth.instance[e])), int(truth.activity[e]), tuple(truth.box[row]))
            for row, e in zip(here, truth.box_event[here], strict=True)
        ]
        products = [self._product(video, instance) for instance in decoded.instances.tolist()]
        return decoded.frames[at], active, dict(zip(products, decoded.crops, strict=True))

    def _product(self, video: str, instance: int) -> Product:
        if (video, instance) in self._real:
            return None, self._real[video, instance]
        return (None if instance in self._everywhere else video), instance
