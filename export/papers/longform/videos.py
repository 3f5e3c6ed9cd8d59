"""Make videos of the checkout world with labels of the whole video, as tokens of a bundle's backbone.

Letters: V videos, F frames spread evenly over a video, P cells (49, or fewer pooled ones), d token width.

Four tasks, in the shape of LVU's (Wu and Krahenbuhl, 2021): each asks for one thing of the whole video.

`layout`     where shelf and scanner stand: 4 kinds
`shift`      how many pairs of hands work at once: 1, 2 or 3
`concealed`  whether anything was hidden under a garment
`busy`       how much each pair of hands does: an event every 60, 30 or 15 seconds
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.simulation.activities import find_activity
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.layout import make_layout
from edge_runtime.simulation.world import World
from engines.spec import Engine

TASKS: dict[str, int] = {"layout": 4, "shift": 3, "concealed": 2, "busy": 3}
"""Names of the tasks and their numbers of classes."""
RATES = (1.0, 2.0, 4.0)
"""Events a minute of each pair of hands."""
_BATCH = 10


@dataclass(frozen=True)
class Videos:
    """`tokens` (V, F, P, d) half precision, `labels` (V, 4) in the order of TASKS."""

    tokens: NDArray[np.float16]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Videos:
        return Videos(self.tokens[:count], self.labels[:count])

    def pooled(self, side: int) -> Videos:
        """Average parts of each frame, side x side of them, in place of its 7 x 7 cells."""
        videos, frames, _, width = self.tokens.shape
        cells = torch.from_numpy(self.tokens.astype(np.float32)).reshape(-1, 7, 7, width)
        parts = torch.nn.functional.adaptive_avg_pool2d(cells.permute(0, 3, 1, 2), side)
        parts = parts.permute(0, 2, 3, 1).reshape(videos, frames, side * side, width)
        return Videos(parts.numpy().astype(np.float16), self.labels)


def make_world(seed: int) -> World:
    """Make a world; its shift, activity rate and layout are drawn from `seed`."""
    rng = np.random.default_rng([seed, 71])
    hands, rate = int(rng.integers(1, 4)), RATES[int(rng.integers(len(RATES)))]
    return World(WorldConfig(seed=seed, concurrent=hands, events_per_minute=rate))


def make_labels(world: World, seconds: float) -> NDArray[np.int64]:
    """Return the four labels of the first `seconds` of a world."""
    config = world.config
    layout = make_layout(config.seed, config.view_variety)
    swapped = layout.scanner[0] > layout.scale[0]
    hidden = find_activity("conceal")
    concealed = any(event.activity == hidden for event in world.events(0.0, seconds))
    return np.array(
        [
            2 * layout.shelf_right + swapped,
            config.concurrent - 1,
            concealed,
            RATES.index(config.events_per_minute),
        ],
        np.int64,
    )


def load_videos(
    seeds: Sequence[int],
    backbone: Engine,
    digest: str,
    folder: Path,
    *,
    frames: int = 12,
    seconds: float = 120.0,
    size: int = 224,
    report: Callable[[int], None] = lambda done: None,
) -> Videos:
    """Load videos of `seeds`; the files in `folder` of the backbone named `digest` are reused."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, labels = [], []
    for number, seed in enumerate(seeds):
        key = f"longform 1 {digest} {seed} {frames} {seconds} {size}"
        place = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        world = make_world(seed)
        if not place.exists():
            part = place.with_suffix(".part.npy")
            np.save(part, _encode_video(world, backbone, frames, seconds, size))
            part.replace(place)
        tokens.append(np.load(place))
        labels.append(make_labels(world, seconds))
        report(number + 1)
    return Videos(np.stack(tokens), np.stack(labels))


def _encode_video(
    world: World, backbone: Engine, frames: int, seconds: float, size: int
) -> NDArray[np.float16]:
    """Return the tokens (F, 49, d)."""
    times = (np.arange(frames) + 0.5) * seconds / frames
    made = []
    for start in range(0, frames, _BATCH):
        images = np.stack([world.frame(float(t), (size, size)) for t in times[start : start + _BATCH]])
        made.append(backbone({"image": images})["tokens"])
    return np.concatenate(made).astype(np.float16)
