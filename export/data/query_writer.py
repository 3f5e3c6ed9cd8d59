"""Write the questions about every video of a data folder, with chance levels and the rejection log."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from edge_runtime.simulation.photo_folders import SUFFIXES, count_drawn
from engines.errors import LvmError
from export.data.candidates import QueryRules
from export.data.chance_levels import compute_chance_levels
from export.data.checks import read_data_folder
from export.data.crops import CropSource, make_catalogue_crops, make_file_crops, make_video_crops
from export.data.files import CHANCE, QUERIES, REJECTED, DataFolder, write_records
from export.data.generate import generate_queries, sort_rejections
from export.data.records import QueryRecord, Split, Video
from export.data.world_set import open_world


def write_queries(
    root: Path, *, seed: int = 0, rules: QueryRules | None = None, photos: Path | None = None
) -> dict[str, Any]:
    """Write queries.jsonl, chance.json and rejected.json of the data folder `root` and return the counts.

    Pictures of objects come from the catalogue of a checkout world, from `photos` (a sub-folder for each
    product, with its name; the last third of its photos, which no training uses), or from the video itself.
    """
    data = read_data_folder(root)
    queries, rejected = list[QueryRecord](), Counter[str]()
    for video in data.videos.values():
        crops, instances = _make_crops(data, video, photos)
        generated = generate_queries(
            video,
            data.events[video.video],
            data.tracks[video.video],
            seed=seed,
            rules=rules,
            crops=crops,
            instances=instances,
        )
        queries += generated.queries
        rejected += generated.rejected
    write_records(root / QUERIES, queries)
    _write_json(root / CHANCE, _chance_by_split(data, queries))
    _write_json(root / REJECTED, sort_rejections(rejected))
    return {
        "queries": len(queries),
        "negatives": sum(not query.happened for query in queries),
        "rejected": sum(rejected.values()),
    }


def _make_crops(data: DataFolder, video: Video, photos: Path | None) -> tuple[CropSource, list[int] | None]:
    """Return the source of crops, and the instances that may be asked about (None: all that are seen)."""
    if video.seed is not None:
        world = open_world(video)
        return make_catalogue_crops(world), list(range(world.config.instances))
    own = make_video_crops(data.tracks[video.video])
    if photos is None:
        return own, None
    names = {item.id: item.name for item in data.names.instances if item.video in (None, video.video)}
    return make_file_crops(
        {number: _list_query_photos(photos / name) for number, name in names.items()}, own
    ), None


def _list_query_photos(folder: Path) -> list[str]:
    if not folder.parent.is_dir():
        raise LvmError(f"there is no folder of photos at {folder.parent}; correct the path")
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [str(path.resolve()) for path in files[count_drawn(len(files)) :]]


def _chance_by_split(data: DataFolder, queries: list[QueryRecord]) -> dict[str, Any]:
    """Return the chance levels of each split, with the training questions as prior if there are any."""
    by_split = {
        split: [query for query in queries if data.videos[query.video].split == split]
        for split in get_args(Split)
    }
    prior = by_split["train"] or None
    return {
        split: compute_chance_levels(some, len(data.classes), prior)
        for split, some in by_split.items()
        if some
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
