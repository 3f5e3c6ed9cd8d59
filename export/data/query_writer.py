"""Questions about every video of a data folder, with the chance levels and the log of what was rejected."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from edge_runtime.simulation.photo_folders import SUFFIXES, count_drawn
from engines.errors import LvmError
from export.data.candidates import Rules
from export.data.chance_levels import chance_levels
from export.data.checks import read
from export.data.crops import Crops, file_crops, video_crops, view_crops
from export.data.files import CHANCE, QUERIES, REJECTED, Dataset, write_lines
from export.data.generate import counted, generate
from export.data.records import QueryRecord, Split, Video
from export.data.world_set import world_of


def ask_all(
    root: Path, *, seed: int = 0, rules: Rules | None = None, photos: Path | None = None
) -> dict[str, Any]:
    """Writes queries.jsonl, chance.json and rejected.json of the data folder `root`; gives the counts.

    Objects are shown by the catalogue of a checkout world, by `photos` (one sub-folder for each product, of
    its name; the last third of its photos, which a training leaves alone), or as they are seen in their own
    video.
    """
    data = read(root)
    queries, rejected = list[QueryRecord](), Counter[str]()
    for video in data.videos.values():
        crops, instances = _crops(data, video, photos)
        made = generate(
            video,
            data.events[video.video],
            data.tracks[video.video],
            seed=seed,
            rules=rules,
            crops=crops,
            instances=instances,
        )
        queries += made.queries
        rejected += made.rejected
    write_lines(root / QUERIES, queries)
    _write(root / CHANCE, _chance(data, queries))
    _write(root / REJECTED, counted(rejected))
    return {
        "queries": len(queries),
        "negatives": sum(not query.happened for query in queries),
        "rejected": sum(rejected.values()),
    }


def _crops(data: Dataset, video: Video, photos: Path | None) -> tuple[Crops, list[int] | None]:
    """How objects are shown, and which instances can be asked about."""
    if video.seed is not None:
        world = world_of(video)
        return view_crops(world), list(range(world.config.instances))
    seen = video_crops(data.tracks[video.video])
    if photos is None:
        return seen, None
    names = {one.id: one.name for one in data.names.instances if one.video in (None, video.video)}
    return file_crops({number: _files(photos / name) for number, name in names.items()}, seen), None


def _files(folder: Path) -> list[str]:
    if not folder.parent.is_dir():
        raise LvmError(f"there is no folder of photos at {folder.parent}; correct the path")
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [str(path.resolve()) for path in found[count_drawn(len(found)) :]]


def _chance(data: Dataset, queries: list[QueryRecord]) -> dict[str, Any]:
    """Levels of each split; what is frequent is learned from the training questions where there are any."""
    by_split = {
        split: [one for one in queries if data.videos[one.video].split == split] for split in get_args(Split)
    }
    prior = by_split["train"] or None
    return {split: chance_levels(some, len(data.classes), prior) for split, some in by_split.items() if some}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
