"""Gate (c): compare the recall of the export and of its network on a labelled set, with the same
questions."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, Manifest, Precision
from export.data.checks import read_data_folder
from export.data.files import DataFolder
from export.data.records import QueryRecord, QueryType
from export.evaluation import bootstrap
from export.evaluation.evaluate import Setting, evaluate_video
from export.evaluation.report import make_recall_1x
from export.evaluation.results import Result
from export.evaluation.stream_run import Model
from export.evaluation.videos import encode_crops, open_caches
from export.gates.finite_guard import RunEnded, check_engines
from export.gates.limit_checks import make_end_finding
from export.gates.limits import GateSettings
from export.gates.result import Accuracy, Finding, Recall
from export.networks.model import LvmNet, TorchEngine
from export.parity.relative_error import Graphs


def measure_accuracy(
    bundle: Bundle,
    network: LvmNet,
    export: Graphs,
    precisions: Mapping[GraphName, Precision],
    settings: GateSettings,
) -> Accuracy:
    """Measure Recall@1x of each kind of question of the data folder in `settings`, for the export and for
    `network`.

    Each sees the videos with its own backbone. Raises LvmError where the folder asks nothing of the split.
    """
    assert settings.data is not None
    data = read_data_folder(settings.data)
    reference: Graphs = {name: TorchEngine(network, name) for name in GRAPHS}
    by = check_engines(reference, reference=True)
    reference_results = collect_results(_make_model(bundle.manifest, by), data, settings)
    limit = settings.limits.for_precisions(precisions.values()).recall_drop
    try:
        got = collect_results(_make_model(bundle.manifest, check_engines(export)), data, settings)
    except RunEnded as error:
        ended = (make_end_finding(error, None),)
        return Accuracy(data=str(settings.data), split=settings.split, recall={}, findings=ended)
    # Compare the recall of both, for each kind of question about something that happened.
    metric, recall = make_recall_1x(bundle.manifest.thresholds.time_head), dict[QueryType, Recall]()
    for kind in get_args(QueryType):
        pairs = [
            (expected, metric(expected), metric(answer))
            for expected, answer in zip(reference_results, got, strict=True)
            if expected.type == kind
        ]
        scored = [(result.video, a, b) for result, a, b in pairs if a is not None and b is not None]
        if not scored:
            continue
        videos = [video for video, _, _ in scored]
        ours = bootstrap.sum_by_video([b for _, _, b in scored], videos)
        theirs = bootstrap.sum_by_video([a for _, a, _ in scored], videos)
        interval = bootstrap.difference_interval(ours, theirs)
        recall[kind] = Recall(
            questions=len(scored),
            reference=sum(a for _, a, _ in scored) / len(scored),
            export=sum(b for _, _, b in scored) / len(scored),
            difference=(interval.low, interval.high),
        )
    return Accuracy(
        data=str(settings.data),
        split=settings.split,
        recall=recall,
        findings=tuple(
            _make_finding(kind, shares, limit)
            for kind, shares in recall.items()
            if _recall_drop(shares) > limit + 1e-9
        ),
    )


def collect_results(model: Model, data: DataFolder, settings: GateSettings) -> list[Result]:
    """Return the results of one model; its tokens of the videos are not stored."""
    queries_by_video: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in data.queries:
        if data.videos[query.video].split == settings.split:
            queries_by_video[query.video].append(query)
    if not queries_by_video:
        raise LvmError(
            f"{data.root} asks nothing of split {settings.split}: "
            f"run python -m export.data queries {data.root}"
        )
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="lvm-gates-") as folder:
        caches = open_caches(data, settings.split, model.network, model.backbone, "gates", Path(folder))
        for cache in caches:
            queries, video = queries_by_video[cache.name], data.videos[cache.name]
            crops = encode_crops(data, video, queries, model.network, model.backbone)
            results += evaluate_video(model, cache, queries, Setting(seed=settings.seed), crops).results
    return results


def _make_model(manifest: Manifest, graphs: Graphs) -> Model:
    return Model(manifest, graphs["backbone"], graphs["sampler"], graphs["reader"])


def _recall_drop(recall: Recall) -> float:
    return recall.reference - recall.export


def _make_finding(kind: QueryType, recall: Recall, limit: float) -> Finding:
    return Finding(
        quantity="recall",
        frame=None,
        value=_recall_drop(recall),
        limit=limit,
        graph=None,
        certain=False,
        words=f"recall of {recall.questions} {kind} questions falls from {recall.reference:.3f} to "
        f"{recall.export:.3f}, by at most {limit:g} expected",
    )
