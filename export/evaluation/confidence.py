"""Whether confidences are honest, and what makes them so: scaling fitted on validation videos.

Three confidences are said by a device: that what was asked happened (presence), that the first activity is
right, and that the first span is. Each is scaled by a few numbers of the manifest, so what is measured here
after scaling is what people read there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.decode import calibrated
from engines.manifest import Scaling, Thresholds, TimeHead
from export.data.metrics import POSITIVE_IOU, calibration_error
from export.evaluation import bootstrap, calibration
from export.evaluation.bootstrap import Interval
from export.evaluation.calibration import fit_platt, fit_points
from export.evaluation.results import Result

_BIN_LEAST = 30
_MOST_BINS = 15
_NAMES = ("presence", "activity", "span")


class Samples(NamedTuple):
    """Logits (N,) of something that was said, whether it was right (N,), and whose results they are."""

    logits: NDArray[np.float64]
    right: NDArray[np.bool_]
    of: list[Result]


class Calibration(NamedTuple):
    """Expected calibration error, before and after scaling.

    `least` is what so few samples would show on average if every confidence were honest.
    """

    before: Interval
    after: Interval
    samples: int
    least: float


def samples(results: Sequence[Result], head: TimeHead | Mapping[int, TimeHead]) -> dict[str, Samples]:
    """What was said and whether it was right, by kind of confidence; `head` may be given by seed."""
    heads = {one.seed: head if isinstance(head, str) else head[one.seed] for one in results}
    said = {
        "presence": [
            (one.presence_logit, one.happened, one) for one in results if one.presence_logit is not None
        ],
        "activity": [(*_first(one), one) for one in results if one.class_logits],
        "span": [(*_span(one, heads[one.seed]), one) for one in results if heads[one.seed] in one.spans],
    }
    return {
        name: Samples(
            np.array([logit for logit, _, _ in rows]),
            np.array([right for _, right, _ in rows], bool),
            [one for _, _, one in rows],
        )
        for name, rows in said.items()
        if rows
    }


def calibrate(validation: Sequence[Result]) -> Thresholds:
    """What the manifest needs, from validation videos: scalings, the better time head, the threshold.

    "Not seen" is said where that is likelier than not. A confidence for which there are no right or no wrong
    samples stays as it is, and so does the threshold where presence does.
    """
    head = better_head(validation)
    known = samples(validation, head)
    scaling = {name: fitted(one) for name, one in known.items() if one.right.any() and not one.right.all()}
    return Thresholds(
        presence=0.5 if "presence" in scaling else 0.0,
        time_head=head,
        **{f"{name}_scaling": scaling[name] for name in _NAMES if name in scaling},
    )


def fitted(known: Samples) -> Scaling:
    """Two numbers (Platt) or points, whichever was likelier on each video when fitted on the others."""
    videos = np.array([one.video for one in known.of])
    loss = {_platt: 0.0, _by_points: 0.0}
    for video in np.unique(videos):
        there, rest = videos == video, videos != video
        if not known.right[rest].any() or known.right[rest].all():
            return _platt(known.logits, known.right)
        for fit in loss:
            p = np.asarray(calibrated(known.logits[there], fit(known.logits[rest], known.right[rest])), float)
            p = np.clip(np.where(known.right[there], p, 1 - p), 1e-6, 1)
            loss[fit] -= float(np.log(p).sum())
    return min(loss, key=lambda fit: loss[fit])(known.logits, known.right)


def _platt(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> Scaling:
    return Scaling(**fit_platt(logits, right)._asdict())


def _by_points(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> Scaling:
    """Beyond the first and the last point Platt's slope."""
    platt = fit_platt(logits, right)
    return Scaling(a=platt.a, b=platt.b, points=fit_points(logits, right))


def better_head(validation: Sequence[Result]) -> TimeHead:
    """The time head that finds more; `pointer` where they are equal."""
    found = {
        head: sum(one.score(head) or 0.0 for one in validation if one.type == "time")
        for head in get_args(TimeHead)
    }
    return "bins" if found["bins"] > found["pointer"] else "pointer"


def calibrations(results: Sequence[Result], thresholds: Mapping[int, Thresholds]) -> dict[str, Calibration]:
    """Calibration errors of test runs, raw and with the scalings of each seed's manifest."""
    found = {}
    for name, known in samples(results, {seed: one.time_head for seed, one in thresholds.items()}).items():
        scalings = {seed: getattr(one, f"{name}_scaling") for seed, one in thresholds.items()}
        scaled = [scalings[one.seed] for one in known.of]
        before, after = ([Scaling()] * len(known.of), scaled)
        found[name] = Calibration(
            error(known, before), error(known, after), len(known.right), least_error(known, after)
        )
    return found


def error(known: Samples, scalings: Sequence[Scaling]) -> Interval:
    """Expected calibration error, each sample scaled by its own; bins hold at least 30 samples."""
    confidence, bins = _said(known, scalings)
    return bootstrap.statistic(
        lambda index: calibration_error(confidence[index], known.right[index], bins),
        [one.video for one in known.of],
        [one.seed for one in known.of],
    )


def least_error(known: Samples, scalings: Sequence[Scaling]) -> float:
    """Mean error of answers that are right just as often as they say: bins of few samples are never exact."""
    confidence, bins = _said(known, scalings)
    dice = np.random.default_rng(0)
    played = [
        calibration_error(confidence, dice.random(len(confidence)) < confidence, bins) for _ in range(200)
    ]
    return float(np.mean(played))


def _said(known: Samples, scalings: Sequence[Scaling]) -> tuple[NDArray[np.float64], int]:
    """Confidences (N,), each scaled by its own, and in how many bins they are judged."""
    confidence = np.zeros(len(known.logits))
    for scaling in set(scalings):
        of = np.array([one == scaling for one in scalings])
        confidence[of] = calibrated(known.logits[of], scaling)
    return confidence, int(np.clip(len(confidence) // _BIN_LEAST, 1, _MOST_BINS))


def _first(one: Result) -> tuple[float, bool]:
    """Logit of the first activity, and whether it is one of the right ones."""
    assert one.class_logits is not None
    first = int(np.argmax(one.class_logits))
    return one.class_logits[first], first in one.labels


def _span(one: Result, head: TimeHead) -> tuple[float, bool]:
    """Logit of the first span's probability, and whether the span was found."""
    span = one.spans[head]
    return float(calibration.logit(span.confidence)), (span.tiou or 0.0) > POSITIVE_IOU
