"""Scale logits so that a probability of 0.8 is right eight times in ten; fitted on validation videos.

N samples, C classes. The probability is sigmoid(a x + b): temperature scaling where b = 0 and 1/a is the
temperature, Platt scaling where both are fitted. Or it follows a line through points that rises everywhere:
isotonic regression of bins of equal mass (Zadrozny and Elkan, 2002). A confidence that is no logit (the
probability of a span, a softmax) is scaled by way of `logit`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engines.errors import LvmError

Real = NDArray[np.float64]

_POINT_SAMPLES = 50
_MAX_POINTS = 16
_MIN_SLOPE, _MIN_STEP = 0.02, 0.02
_MAX_STEPS = 100
_CONVERGED = 1e-10


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


Points = tuple[tuple[float, float], ...]


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
