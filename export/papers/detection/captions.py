"""Read captions.jsonl of a data folder: a captioner's texts about its videos, one caption a line.

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
from edge_runtime.system.validation import StrictModel
from engines.errors import LvmError
from export.data.files import Problems, TooManyProblems, read_records

CAPTIONS = "captions.jsonl"
VARIED_SHARE = 0.3
"""Share of captions that are varied while a network is trained (TinyMem, caption augmentation)."""
Captions = dict[str, list[tuple[float, str]]]
"""Captions of each video, by time."""


class CaptionRecord(StrictModel):
    """One caption: the text about `video` at second `t`."""

    video: str = Field(min_length=1)
    t: float = Field(ge=0)
    text: str = Field(min_length=1, max_length=1000)


def read_captions(root: Path) -> Captions:
    """Read the captions of a data folder, none if it has no such file. Raises LvmError with file and line."""
    captions: Captions = {}
    if not (root / CAPTIONS).exists():
        return captions
    problems = Problems(1)
    try:
        for _, caption in read_records(root, CAPTIONS, CaptionRecord, problems):
            captions.setdefault(caption.video, []).append((caption.t, caption.text))
    except TooManyProblems:
        raise LvmError(f"{root / CAPTIONS} cannot be used: {problems.items[0]}") from None
    return {video: sorted(lines) for video, lines in captions.items()}


def align_captions(
    captions: Sequence[tuple[float, str]], ticks: NDArray[np.int64]
) -> tuple[tuple[str, ...], ...]:
    """Return the caption of each frame of each clip, ticks (n, T): the newest that is no older than a clip
    lasts.

    A caption later than the frame never counts; "" where there is no caption in time.
    """
    times = np.array([t for t, _ in captions])
    lasts = (np.median(np.diff(ticks[:, 0])) if len(ticks) > 1 else TICKS_PER_SECOND) / TICKS_PER_SECOND
    out = []
    for clip in ticks / TICKS_PER_SECOND:
        newest = np.searchsorted(times, clip + 1e-6, side="right") - 1  # (T,)
        out.append(
            tuple(
                captions[at][1] if at >= 0 and t - times[at] <= lasts else ""
                for at, t in zip(newest, clip, strict=True)
            )
        )
    return tuple(out)


def vary_caption(text: str, rng: np.random.Generator) -> str:
    """Delete or swap one or two words of the caption, in `VARIED_SHARE` of all cases."""
    words = text.split()
    if len(words) < 2 or rng.random() >= VARIED_SHARE:
        return text
    for _ in range(int(rng.integers(1, 3))):
        first, other = rng.choice(len(words), 2, replace=False)
        if rng.random() < 0.5:
            words[first], words[other] = words[other], words[first]
        elif len(words) > 2:
            del words[first]
    return " ".join(words)
