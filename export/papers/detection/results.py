"""Store answers of a head on disk: a file for each head and training seed, read again for intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.papers.detection.average_precision import VideoScores


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
