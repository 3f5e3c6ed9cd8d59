"""captions.jsonl of a data folder: what a captioner said of its videos, one line a caption.

    {"video": "v1", "t": 12.4, "text": "a person scans a carton"}

Any captioner may have written it; a video without captions has none. Letters: n clips, T frames of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_runtime.frame import TICKS_PER_SECOND
from engines.errors import LvmError
from export.data.files import Enough, Problems, read_lines
from export.data.records import Record

CAPTIONS = "captions.jsonl"
CHANGED = 0.3
"""Share of captions that are varied while a network is trained (TinyMem, caption augmentation)."""


class CaptionRecord(Record):
    """One caption: what is said of `video` at second `t`."""

    video: str = Field(min_length=1)
    t: float = Field(ge=0)
    text: str = Field(min_length=1, max_length=1000)


Captions = dict[str, list[tuple[float, str]]]
"""Of each video its captions by time."""


def read_captions(root: Path) -> Captions:
    """The captions of a data folder, none where it has no such file. Raises LvmError with file and line."""
    found: Captions = {}
    if not (root / CAPTIONS).exists():
        return found
    problems = Problems(1)
    try:
        for _, one in read_lines(root, CAPTIONS, CaptionRecord, problems):
            found.setdefault(one.video, []).append((one.t, one.text))
    except Enough:
        raise LvmError(f"{root / CAPTIONS} cannot be used: {problems.found[0]}") from None
    return {video: sorted(said) for video, said in found.items()}


def of_frames(said: Sequence[tuple[float, str]], ticks: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
    """The caption of each frame of each clip, ticks (n, T): the newest that is no older than a clip lasts.

    Nothing that is said later than the frame; "" where nothing was said in time.
    """
    times = np.array([t for t, _ in said])
    lasts = (np.median(np.diff(ticks[:, 0])) if len(ticks) > 1 else TICKS_PER_SECOND) / TICKS_PER_SECOND
    out = []
    for clip in ticks / TICKS_PER_SECOND:
        newest = np.searchsorted(times, clip + 1e-6, side="right") - 1  # (T,)
        out.append(
            tuple(
                said[at][1] if at >= 0 and t - times[at] <= lasts else ""
                for at, t in zip(newest, clip, strict=True)
            )
        )
    return tuple(out)


def varied(text: str, rng: np.random.Generator) -> str:
    """The caption with one or two words deleted or swapped, in `CHANGED` of all cases."""
    words = text.split()
    if len(words) < 2 or rng.random() >= CHANGED:
        return text
    for _ in range(int(rng.integers(1, 3))):
        one, other = rng.choice(len(words), 2, replace=False)
        if rng.random() < 0.5:
            words[one], words[other] = words[other], words[one]
        elif len(words) > 2:
            del words[one]
    return " ".join(words)
