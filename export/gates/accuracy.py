"""Gate (c): what a labelled set says of the export and of its network, asked the same questions."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, Manifest, Precision
from export.data.checks import read
from export.data.files import Dataset
from export.data.records import QueryRecord, QueryType
from export.evaluation import bootstrap
from export.evaluation.evaluate import Setting, evaluate_video
from export.evaluation.report import recall_1x
from export.evaluation.results import Result
from export.evaluation.stream_run import Model
from export.evaluation.videos import caches_of, crops_of
from export.gates.finite_guard import Ended, watched
from export.gates.limit_checks import of_end
from export.gates.limits import GateSettings
from export.gates.result import Accuracy, Finding, Recall
from export.networks.model import LvmNet
from export.networks.torch_engine import TorchEngine
from export.parity.relative_error import Graphs


def accuracy_of(
    bundle: Bundle,
    network: LvmNet,
    export: Graphs,
    precisions: Mapping[GraphName, Precision],
    settings: GateSettings,
) -> Accuracy:
    """Recall@1x of each kind of question of the data folder in `settings`, by the export and by `network`.

    Each sees the videos with its own backbone. Raises LvmError where the folder asks nothing of the split.
    """
    assert settings.data is not None
    data = read(settings.data)
    reference: Graphs = {name: TorchEngine(network, name) for name in GRAPHS}
    by = watched(reference, reference=True)
    wanted = answers(_model(bundle.manifest, by), data, settings)
    limit = settings.limits.of(precisions.values()).recall_drop
    try:
        got = answers(_model(bundle.manifest, watched(export)), data, settings)
    except Ended as error:
        ended = (of_end(error, None),)
        return Accuracy(data=str(settings.data), split=settings.split, recall={}, findings=ended)
    recall = compared(wanted, got, bundle.manifest)
    return Accuracy(
        data=str(settings.data),
        split=settings.split,
        recall=recall,
        findings=tuple(_lost(kind, one, limit) for kind, one in recall.items() if _drop(one) > limit + 1e-9),
    )


def answers(model: Model, data: Dataset, settings: GateSettings) -> list[Result]:
    """The results of one model; its view of the videos is kept nowhere."""
    asked: dict[str, list[QueryRecord]] = defaultdict(list)
    for query in data.queries:
        if data.videos[query.video].split == settings.split:
            asked[query.video].append(query)
    if not asked:
        raise LvmError(
            f"{data.root} asks nothing of split {settings.split}: "
            f"run python -m export.data queries {data.root}"
        )
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="lvm-gates-") as folder:
        caches = caches_of(data, settings.split, model.network, model.backbone, "gates", Path(folder))
        for cache in caches:
            queries, video = asked[cache.name], data.videos[cache.name]
            crops = crops_of(data, video, queries, model.network, model.backbone)
            found += evaluate_video(model, cache, queries, Setting(seed=settings.seed), crops).results
    return found


def compared(wanted: Sequence[Result], got: Sequence[Result], manifest: Manifest) -> dict[QueryType, Recall]:
    """Recall of both, of each kind that was asked about something that happened."""
    metric, out = recall_1x(manifest.thresholds.time_head), dict[QueryType, Recall]()
    for kind in get_args(QueryType):
        pairs = [
            (one, metric(one), metric(two)) for one, two in zip(wanted, got, strict=True) if one.type == kind
        ]
        scored = [(one.video, a, b) for one, a, b in pairs if a is not None and b is not None]
        if not scored:
            continue
        videos = [video for video, _, _ in scored]
        ours = bootstrap.by_video([b for _, _, b in scored], videos)
        theirs = bootstrap.by_video([a for _, a, _ in scored], videos)
        interval = bootstrap.difference(ours, theirs)
        out[kind] = Recall(
            questions=len(scored),
            reference=sum(a for _, a, _ in scored) / len(scored),
            export=sum(b for _, _, b in scored) / len(scored),
            difference=(interval.low, interval.high),
        )
    return out


def _model(manifest: Manifest, graphs: Graphs) -> Model:
    return Model(manifest, graphs["backbone"], graphs["sampler"], graphs["reader"])


def _drop(one: Recall) -> float:
    return one.reference - one.export


def _lost(kind: QueryType, one: Recall, limit: float) -> Finding:
    return Finding(
        quantity="recall",
        frame=None,
        value=_drop(one),
        limit=limit,
        graph=None,
        certain=False,
        words=f"recall of {one.questions} {kind} questions falls from {one.reference:.3f} to "
        f"{one.export:.3f}, by at most {limit:g} expected",
    )
