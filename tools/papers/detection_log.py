"""How well a detection head would keep the log of activities, beside the runtime's recogniser.

    python -m tools.papers.detection_log --data DATA --output RESULTS --head svd-61-10 --learned-regions

The head is trained on the train split. Every region whose probability is above a threshold is a detection of
its clip; the runtime's own `Occurrences` joins them to rows, which are judged as tools.quality.activities
judges them: an event is found by a row of its activity with tIoU of at least 0.3, one row for one event. The
threshold is the one of 0.1, 0.15 .. 0.9 that is best on the videos it was trained on. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import Detection
from edge_runtime.activity.row import Row
from edge_runtime.frame import TICKS_PER_SECOND
from export.data.checks import read_data_folder
from export.data.files import DataFolder
from export.evaluation.run_folders import TrainedRun
from export.papers.detection.clips import Real, RegionVideo
from export.papers.detection.named import make_head
from export.papers.detection.train import predict, train_head
from tools.console import finish, run_tool
from tools.papers.detection import options, recipe_of, seen, size_of, with_learned_regions
from tools.quality.activities import Told, judged

GAP_S = 4.0
"""What two looks found within so much of each other is one row, as in the runtime."""


class Happened(NamedTuple):
    activity: int
    start: float
    end: float


class World(NamedTuple):
    events: list[Happened]


def rows_of(video: RegionVideo, probability: Real, least: float, names: Sequence[str]) -> list[Told]:
    """The rows of a log, from probabilities (n, R, C), and when each was first told."""
    ids = iter(range(1, 1_000_000))
    joined = Occurrences(names, names, lambda a, b: Row(next(ids), "", "", "", a, b, 0.0))
    rows: dict[int, Told] = {}
    for clip, tick in enumerate(video.tick / TICKS_PER_SECOND):
        start, end = tick - video.seconds / 2, tick + video.seconds / 2
        found = [
            Detection({int(c): float(region[c]) for c in np.flatnonzero(region > least)}, start, end)
            for region in probability[clip]
            if region.max() > least
        ]
        for change in joined.join(found, end, GAP_S):
            known = rows.get(change.after.id)
            rows[change.after.id] = Told(change.after, known.at if known else tick)
    return list(rows.values())


def events_of(data: DataFolder, video: RegionVideo) -> World:
    return World([Happened(one.activity, one.t_s, one.t_e) for one in data.events[video.name]])


def main() -> None:
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--head", default="svd-61-10")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = read_data_folder(arguments.data)
    train, test, names = seen(TrainedRun.open(arguments.model), arguments)
    if arguments.learned_regions:
        train, test = with_learned_regions(train, test, arguments)
    torch.manual_seed(arguments.seed)
    head = make_head(arguments.head, train[0].features.shape[-1], len(names), size=size_of(train))
    train_head(head, train, recipe_of(arguments, arguments.seed))
    log = _Log(data, names)
    known = [(video, predict(head, video)) for video in train]
    thresholds = [round(float(one), 2) for one in np.arange(0.1, 0.91, 0.05)]
    best = max(thresholds, key=lambda one: log.judge(known, one)["tiou_0.3"]["f1"])
    result = log.judge([(video, predict(head, video)) for video in test], best)
    finish({"head": arguments.head, "learned_regions": arguments.learned_regions, "threshold": best} | result)


class _Log:
    def __init__(self, data: DataFolder, names: Sequence[str]) -> None:
        self._data, self._names = data, names

    def judge(self, told: Sequence[tuple[RegionVideo, Real]], least: float) -> dict[str, object]:
        """As tools.quality.activities judges the rows of several worlds."""
        rows = [rows_of(video, probability, least, self._names) for video, probability in told]
        worlds = [events_of(self._data, video) for video, _ in told]
        seconds = min(float(video.tick[-1]) for video, _ in told) / TICKS_PER_SECOND
        return judged(rows, worlds, seconds)


if __name__ == "__main__":
    run_tool(main)
