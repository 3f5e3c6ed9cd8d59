"""Measure how well a detection head would write the activity log, beside the runtime's recogniser.

    python -m tools.papers.detection_log --data DATA --output RESULTS --head svd-61-10 --learned-regions

The head is trained on the train split. Every region whose probability is above a threshold is a detection of
its clip. The runtime's own `Occurrences` joins them to rows, which are scored as tools.quality.activities
does it: a row of an event's activity matches the event if their tIoU is at least 0.3, one row for one event.
Of the thresholds 0.1, 0.15 .. 0.9 the one is used that is best on the training videos. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import Detection
from edge_runtime.activity.row import Row
from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.schedule import Event
from export.data.checks import read_data_folder
from export.data.files import DataFolder
from export.evaluation.run_folders import TrainedRun
from export.papers.detection.clips import Real, RegionVideo
from export.papers.detection.named import make_head
from export.papers.detection.train import predict, train_head
from tools.console import finish, run_tool
from tools.papers.detection import learn_regions, load_videos, make_parser, make_recipe, read_clip_size
from tools.quality.activities import LoggedRow, evaluate_rows

GAP_S = 4.0
"""Detections of two clips with a smaller gap between them are one row, as in the runtime."""


def make_rows(
    video: RegionVideo, probability: Real, threshold: float, names: Sequence[str]
) -> list[LoggedRow]:
    """Return the rows of a log, from probabilities (n, R, C), and when each was first logged."""
    ids = iter(range(1, 1_000_000))
    joined = Occurrences(names, names, lambda a, b: Row(next(ids), "", "", "", a, b, 0.0))
    rows: dict[int, LoggedRow] = {}
    for clip, t in enumerate(video.tick / TICKS_PER_SECOND):
        start, end = t - video.seconds / 2, t + video.seconds / 2
        detections = [
            Detection({int(c): float(region[c]) for c in np.flatnonzero(region > threshold)}, start, end)
            for region in probability[clip]
            if region.max() > threshold
        ]
        for change in joined.join(detections, end, GAP_S):
            known = rows.get(change.after.id)
            rows[change.after.id] = LoggedRow(change.after, known.first_t if known else t)
    return list(rows.values())


def main() -> None:
    parser = make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--head", default="svd-61-10")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = read_data_folder(arguments.data)
    train, test, names = load_videos(TrainedRun.open(arguments.model), arguments)
    if arguments.learned_regions:
        train, test = learn_regions(train, test, arguments)
    torch.manual_seed(arguments.seed)
    head = make_head(arguments.head, train[0].features.shape[-1], len(names), size=read_clip_size(train))
    train_head(head, train, make_recipe(arguments, arguments.seed))

    known = [(video, predict(head, video)) for video in train]
    thresholds = [round(float(threshold), 2) for threshold in np.arange(0.1, 0.91, 0.05)]
    best = max(thresholds, key=lambda threshold: evaluate(data, names, known, threshold)["tiou_0.3"]["f1"])
    result = evaluate(data, names, [(video, predict(head, video)) for video in test], best)
    finish({"head": arguments.head, "learned_regions": arguments.learned_regions, "threshold": best} | result)


def evaluate(
    data: DataFolder, names: Sequence[str], predictions: Sequence[tuple[RegionVideo, Real]], threshold: float
) -> dict[str, Any]:
    """Score the rows of all videos together, as tools.quality.activities does with several worlds."""
    rows = [make_rows(video, probability, threshold, names) for video, probability in predictions]
    events = [
        [Event(event.activity, -1, event.t_s, event.t_e) for event in data.events[video.name]]
        for video, _ in predictions
    ]
    seconds = min(float(video.tick[-1]) for video, _ in predictions) / TICKS_PER_SECOND
    return evaluate_rows(rows, events, seconds)


if __name__ == "__main__":
    run_tool(main)
