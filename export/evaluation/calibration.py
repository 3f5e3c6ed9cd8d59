"""Scaling of logits so that a probability of 0.8 is right eight times in ten; fitted on validation videos.

N samples, C classes. The probability is sigmoid(a x + b): temperature scaling where b = 0 and 1/a is the
temperature, Platt scaling where both are fitted. A confidence that is no logit (the probability of a span, a
softmax) is scaled by way of `logit`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engines.errors import LvmError

Real = NDArray[np.float64]

_STEPS = 100
_CONVERGED = 1e-10


class Platt(NamedTuple):
    """probability = sigmoid(a * logit + b); a >= 0, as calibration must not reverse an order."""

    a: float
    b: float

    def __call__(self, logits: ArrayLike) -> Real:
        """Logits of any shape -> probabilities of that shape."""
        return _sigmoid(self.a * np.asarray(logits, np.float64) + self.b)


def fit_platt(logits: ArrayLike, truth: ArrayLike) -> Platt:
    """The a and b of least cross-entropy; logits and truth (bool) of one shape, (N,) or (N, C) pooled."""
    x, target = _samples(logits, truth)
    scaling = _newton(np.stack([x, np.ones_like(x)], axis=1), target)
    if scaling[0] < 0:  # the loss is convex: the best a >= 0 is then 0, and b the base rate's logit
        return Platt(0.0, float(logit(target.mean())))
    return Platt(float(scaling[0]), float(scaling[1]))


def logit(probability: ArrayLike) -> Real:
    """Inverse of the sigmoid, kept finite: probabilities are cut to [1e-6, 1 - 1e-6]."""
    p = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p) - np.log1p(-p))


def _samples(logits: ArrayLike, truth: ArrayLike) -> tuple[Real, Real]:
    """Flat logits and targets (N,): Platt's, a little inside 0 and 1, keep separable data finite."""
    x, y = np.asarray(logits, np.float64), np.asarray(truth, bool)
    if x.shape != y.shape:
        raise LvmError(f"logits and truth must have one shape, got {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise LvmError("logits must be finite, got NaN or infinity: leave out what cannot be answered")
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise LvmError(f"calibration needs right and wrong samples, got {positives} and {negatives}")
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    return x.ravel(), np.where(y, high, low).ravel()


def _newton(x: Real, target: Real) -> Real:
    """Weights (K,) of least cross-entropy of sigmoid(x w) with target; x (N, K), target (N,)."""
    w = np.zeros(x.shape[1])
    loss = _loss(x @ w, target)
    for _ in range(_STEPS):
        p = _sigmoid(x @ w)
        slope = x.T @ (p - target) / len(x)  # (K,)
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(x)  # (K, K)
        step = np.linalg.solve(curve + 1e-12 * np.eye(len(w)), slope)
        if slope @ step < _CONVERGED:
            break
        w, loss = _descend(x, target, w, step, loss)
    return w


def _descend(x: Real, target: Real, w: Real, step: Real, loss: float) -> tuple[Real, float]:
    """The first of full, half, quarter ... step that lowers the loss: far from the optimum it overshoots."""
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
