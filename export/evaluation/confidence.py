"""Measure whether confidences are calibrated, and fit the scaling on validation videos.

A device gives three confidences: that what was asked happened (presence), that the first activity is right,
and that the first span is. Each is scaled by a few numbers of the manifest, so the scaled values measured
here are those that people get.

Scaling: a probability of 0.8 is right eight times in ten. The probability is sigmoid(a x + b): temperature
scaling where b = 0 and 1/a is the temperature, Platt scaling where both are fitted. Or it follows a line
through points that rises everywhere: isotonic regression of bins of equal mass (Zadrozny and Elkan, 2002). A
confidence that is no logit (the probability of a span, a softmax) is scaled by way of `logit`.

Letters: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.query.decode import calibrated
from engines.errors import LvmError
from engines.manifest import Scaling, Thresholds, TimeHead
from export.data.metrics import POSITIVE_IOU, calibration_error
from export.evaluation import bootstrap
from export.evaluation.bootstrap import Interval
from export.evaluation.results import Result

Real = NDArray[np.float64]

_POINT_SAMPLES = 50
_MAX_POINTS = 16
_MIN_SLOPE, _MIN_STEP = 0.02, 0.02
_MAX_STEPS = 100
_CONVERGED = 1e-10
Points = tuple[tuple[float, float], ...]
_MIN_BIN_SAMPLES = 30
_MAX_BINS = 15
_NAMES = ("presence", "activity", "span")


class Platt(NamedTuple):
    """probability = sigmoid(a * logit + b); a >= 0, as calibration must not reverse an order."""

    a: float
    b: float

    def __call__(self, logits: ArrayLike) -> Real:
        """Map logits of any shape to probabilities of that shape."""
        return _sigmoid(self.a * np.asarray(logits, np.float64) + self.b)


def fit_platt(logits: ArrayLike, truth: ArrayLike) -> Platt:
    """Fit the a and b of least cross-entropy; logits and truth (bool) have one shape, (N,) or (N,
    C) pooled."""
    x, target = _make_targets(logits, truth)
    scaling = _minimise(np.stack([x, np.ones_like(x)], axis=1), target)
    if scaling[0] < 0:  # the loss is convex: the best a >= 0 is then 0, and b the base rate's logit
        return Platt(0.0, float(logit(target.mean())))
    return Platt(float(scaling[0]), float(scaling[1]))


def fit_points(logits: ArrayLike, truth: ArrayLike) -> Points:
    """Fit points (logit, calibrated logit) of a rising line; shapes as for `fit_platt`. Empty below 100
    samples, or where all logits are the same."""
    x, y = _flatten(logits, truth)
    count = min(len(x) // _POINT_SAMPLES, _MAX_POINTS)
    bins = np.array_split(np.argsort(x, kind="stable"), max(count, 1))
    place = np.array([x[rows].mean() for rows in bins])
    bins = [rows for i, rows in enumerate(bins) if i == 0 or place[i] > place[i - 1] + _MIN_STEP]
    if len(bins) < 2:
        return ()
    place = np.array([x[rows].mean() for rows in bins])
    # Half a sample right and half a sample wrong more, so that none is certain.
    rate = _pool_violators([(y[rows].sum() + 0.5, len(rows) + 1.0) for rows in bins])
    honest = np.asarray(logit(rate))
    # Neighbours that were pooled would be equal: a little of the slope stays, so that no order is lost.
    honest += _MIN_SLOPE * (place - place[0])
    return tuple((round(float(a), 4), round(float(b), 4)) for a, b in zip(place, honest, strict=True))


def _pool_violators(bins: list[tuple[float, float]]) -> Real:
    """Return rates of (right, all) that never fall: neighbours that do are pooled (pool adjacent
    violators)."""
    pools: list[list[float]] = []  # right, all, bins
    for right, count in bins:
        pools.append([right, count, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return np.concatenate([[right / count] * int(n) for right, count, n in pools])


def logit(probability: ArrayLike) -> Real:
    """Invert the sigmoid; probabilities are clipped to [1e-6, 1 - 1e-6], so the result is finite."""
    p = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p) - np.log1p(-p))


def _make_targets(logits: ArrayLike, truth: ArrayLike) -> tuple[Real, Real]:
    """Return flat logits and targets (N,): Platt's targets, a little inside 0 and 1, keep separable data
    finite."""
    x, y = _flatten(logits, truth)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise LvmError(f"calibration needs right and wrong samples, got {positives} and {negatives}")
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    return x, np.where(y, high, low)


def _flatten(logits: ArrayLike, truth: ArrayLike) -> tuple[Real, NDArray[np.bool_]]:
    x, y = np.asarray(logits, np.float64), np.asarray(truth, bool)
    if x.shape != y.shape:
        raise LvmError(f"logits and truth must have one shape, got {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise LvmError("logits must be finite, got NaN or infinity: leave out what cannot be answered")
    return x.ravel(), y.ravel()


def _minimise(x: Real, target: Real) -> Real:
    """Return the weights (K,) of least cross-entropy of sigmoid(x w) with target; x (N, K), target (N,)."""
    w = np.zeros(x.shape[1])
    loss = _loss(x @ w, target)
    for _ in range(_MAX_STEPS):
        p = _sigmoid(x @ w)
        slope = x.T @ (p - target) / len(x)  # (K,)
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(x)  # (K, K)
        step = np.linalg.solve(curve + 1e-12 * np.eye(len(w)), slope)
        if slope @ step < _CONVERGED:
            break
        w, loss = _descend(x, target, w, step, loss)
    return w


def _descend(x: Real, target: Real, w: Real, step: Real, loss: float) -> tuple[Real, float]:
    """Take the first of full, half, quarter ... step that lowers the loss: far from the optimum it
    overshoots."""
    for _ in range(60):
        lower = _loss(x @ (w - step), target)
        if lower <= loss:
            return w - step, lower
        step = step / 2
    return w, loss


def _loss(z: Real, target: Real) -> float:
    return float((np.logaddexp(0, z) - target * z).mean())


def _sigmoid(z: Real) -> Real:
    return np.asarray(np.exp(-np.logaddexp(0, -z)))


class Samples(NamedTuple):
    """Logits (N,) of a kind of confidence, whether each was right (N,), and the results they belong to."""

    logits: NDArray[np.float64]
    right: NDArray[np.bool_]
    results: list[Result]


class Calibration(NamedTuple):
    """Expected calibration error, before and after scaling.

    `honest_error` is the average error of so few samples if every confidence were right as often as it says.
    """

    before: Interval
    after: Interval
    samples: int
    honest_error: float


def collect_samples(results: Sequence[Result], head: TimeHead | Mapping[int, TimeHead]) -> dict[str, Samples]:
    """Collect logits and whether they were right, by kind of confidence; `head` may be given by seed."""
    heads = {result.seed: head if isinstance(head, str) else head[result.seed] for result in results}
    rows_by_name = {
        "presence": [
            (result.presence_logit, result.happened, result)
            for result in results
            if result.presence_logit is not None
        ],
        "activity": [(*_first_activity(result), result) for result in results if result.class_logits],
        "span": [
            (*_first_span(result, heads[result.seed]), result)
            for result in results
            if heads[result.seed] in result.spans
        ],
    }
    return {
        name: Samples(
            np.array([logit for logit, _, _ in rows]),
            np.array([right for _, right, _ in rows], bool),
            [result for _, _, result in rows],
        )
        for name, rows in rows_by_name.items()
        if rows
    }


def calibrate(validation: Sequence[Result]) -> Thresholds:
    """Fit what the manifest needs on validation videos: scalings, the better time head, the threshold.

    "Not seen" is answered where it is likelier than not. A confidence without right or without wrong samples
    stays unscaled, and so does the threshold where presence does.
    """
    head = choose_time_head(validation)
    known = collect_samples(validation, head)
    scaling = {
        name: fit_scaling(known_samples)
        for name, known_samples in known.items()
        if known_samples.right.any() and not known_samples.right.all()
    }
    return Thresholds(
        presence=0.5 if "presence" in scaling else 0.0,
        time_head=head,
        **{f"{name}_scaling": scaling[name] for name in _NAMES if name in scaling},
    )


def fit_scaling(known: Samples) -> Scaling:
    """Fit two numbers (Platt) or points, whichever was likelier on each video when fitted on the others."""
    videos = np.array([result.video for result in known.results])
    loss = {_fit_platt_scaling: 0.0, _fit_point_scaling: 0.0}
    for video in np.unique(videos):
        there, rest = videos == video, videos != video
        if not known.right[rest].any() or known.right[rest].all():
            return _fit_platt_scaling(known.logits, known.right)
        for fit in loss:
            p = np.asarray(calibrated(known.logits[there], fit(known.logits[rest], known.right[rest])), float)
            p = np.clip(np.where(known.right[there], p, 1 - p), 1e-6, 1)
            loss[fit] -= float(np.log(p).sum())
    return min(loss, key=lambda fit: loss[fit])(known.logits, known.right)


def _fit_platt_scaling(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> Scaling:
    return Scaling(**fit_platt(logits, right)._asdict())


def _fit_point_scaling(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> Scaling:
    """Fit points; beyond the first and the last point Platt's slope applies."""
    platt = fit_platt(logits, right)
    return Scaling(a=platt.a, b=platt.b, points=fit_points(logits, right))


def choose_time_head(validation: Sequence[Result]) -> TimeHead:
    """Choose the time head with the higher recall; `pointer` where they are equal."""
    recall = {
        head: sum(result.score(head) or 0.0 for result in validation if result.type == "time")
        for head in get_args(TimeHead)
    }
    return "bins" if recall["bins"] > recall["pointer"] else "pointer"


def measure_calibration(
    results: Sequence[Result], thresholds: Mapping[int, Thresholds]
) -> dict[str, Calibration]:
    """Measure calibration errors of test runs, raw and with the scalings of each seed's manifest."""
    calibrations = {}
    for name, known in collect_samples(
        results, {seed: values.time_head for seed, values in thresholds.items()}
    ).items():
        scalings = {seed: getattr(values, f"{name}_scaling") for seed, values in thresholds.items()}
        scaled = [scalings[result.seed] for result in known.results]
        before, after = ([Scaling()] * len(known.results), scaled)
        calibrations[name] = Calibration(
            measure_error(known, before),
            measure_error(known, after),
            len(known.right),
            simulate_honest_error(known, after),
        )
    return calibrations


def measure_error(known: Samples, scalings: Sequence[Scaling]) -> Interval:
    """Measure the expected calibration error, each sample scaled by its own scaling; bins hold at least 30
    samples."""
    confidence, bins = _scale_confidences(known, scalings)
    return bootstrap.statistic_interval(
        lambda index: calibration_error(confidence[index], known.right[index], bins),
        [result.video for result in known.results],
        [result.seed for result in known.results],
    )


def simulate_honest_error(known: Samples, scalings: Sequence[Scaling]) -> float:
    """Return the mean error of answers that are right as often as they say: bins of few samples are never
    exact."""
    confidence, bins = _scale_confidences(known, scalings)
    rng = np.random.default_rng(0)
    played = [
        calibration_error(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(200)
    ]
    return float(np.mean(played))


def _scale_confidences(known: Samples, scalings: Sequence[Scaling]) -> tuple[NDArray[np.float64], int]:
    """Return the confidences (N,), each scaled by its own scaling, and the number of bins to
    measure them in."""
    confidence = np.zeros(len(known.logits))
    for scaling in set(scalings):
        matches = np.array([other == scaling for other in scalings])
        confidence[matches] = calibrated(known.logits[matches], scaling)
    return confidence, int(np.clip(len(confidence) // _MIN_BIN_SAMPLES, 1, _MAX_BINS))


def _first_activity(result: Result) -> tuple[float, bool]:
    """Return the logit of the first activity, and whether it is a right one."""
    assert result.class_logits is not None
    first = int(np.argmax(result.class_logits))
    return result.class_logits[first], first in result.labels


def _first_span(result: Result, head: TimeHead) -> tuple[float, bool]:
    """Return the logit of the first span's probability, and whether the span was found."""
    span = result.spans[head]
    return float(logit(span.confidence)), (span.tiou or 0.0) > POSITIVE_IOU
