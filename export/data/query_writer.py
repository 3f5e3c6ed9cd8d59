"""Write the questions about every video of a data folder, with chance levels and the rejection log.

Chance levels are the metrics of answers that ignore the video. Activity: always the most frequent classes.
Object: always the median box. Time: always an interval of median length in the middle of the query window.
Frequencies and medians are those of the questions `prior`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edge_runtime.simulation.photo_folders import SUFFIXES, count_drawn
from engines.errors import LvmError
from export.data.candidates import DURATIONS, TYPES, QueryRules
from export.data.checks import read_data_folder
from export.data.crops import CropSource, make_catalogue_crops, make_file_crops, make_video_crops
from export.data.files import CHANCE, QUERIES, REJECTED, DataFolder, write_records
from export.data.generate import generate_queries, sort_rejections
from export.data.metrics import box_iou, is_positive, recall_at, tiou
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


def compute_chance_levels(
    queries: Sequence[QueryRecord], classes: int, prior: Sequence[QueryRecord] | None = None
) -> dict[str, dict[str, Any]]:
    """Return, by `type/duration`, the numbers of questions and negatives and the chance level of the metrics.

    `prior` are the questions to take frequencies and medians from, usually training questions (default:
    `queries`). A type that `prior` lacks has counts only.
    """
    levels: dict[str, dict[str, Any]] = {}
    for kind in TYPES:
        known = [
            query for query in (queries if prior is None else prior) if query.type == kind and query.happened
        ]
        for duration in DURATIONS:
            cell = [query for query in queries if (query.type, query.duration) == (kind, duration)]
            if not cell:
                continue
            asked = [query for query in cell if query.happened]
            level: dict[str, Any] = {"queries": len(cell), "negatives": len(cell) - len(asked)}
            if known and asked:
                level |= _LEVELS[kind](asked, known, classes)
            levels[f"{kind}/{duration}"] = level
    return levels


def _activity_level(
    asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int
) -> dict[str, Any]:
    counts = Counter(activity for query in known for activity in query.activities)
    prior = np.array([counts[activity] for activity in range(classes)], float)
    truth = np.array([[activity in query.activities for activity in range(classes)] for query in asked])
    scores = np.broadcast_to(prior, truth.shape)
    return {f"recall_at_{x}x": round(recall_at(scores, truth, x).macro, 4) for x in (1, 3)}


def _object_level(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    box = np.median([box for query in known for box in query.boxes.values()], axis=0)  # (4,)
    ious = [float(box_iou(box, list(query.boxes.values())).mean()) for query in asked]
    return {
        "mean_viou": round(float(np.mean(ious)), 4),
        "viou_at_0.3": round(float(is_positive(ious).mean()), 4),
        "median_box": [round(float(side), 4) for side in box],
    }


def _time_level(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    half = float(np.median([_span(query)[1] - _span(query)[0] for query in known])) / 2
    middle = np.array([(query.q_s + query.q_e) / 2 for query in asked])
    spans = np.stack([middle - half, middle + half], axis=-1)
    ious = tiou(spans, [_span(query) for query in asked])
    return {
        "mean_tiou": round(float(ious.mean()), 4),
        "tiou_at_0.3": round(float(is_positive(ious).mean()), 4),
        "median_seconds": round(2 * half, 3),
    }


def _span(query: QueryRecord) -> tuple[float, float]:
    if query.t_s is None or query.t_e is None:
        raise ValueError(f"{query.qid} has no t_s and t_e")
    return query.t_s, query.t_e


_LEVELS = {"activity": _activity_level, "object": _object_level, "time": _time_level}
