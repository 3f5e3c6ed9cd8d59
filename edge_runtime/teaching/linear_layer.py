"""Fit a linear layer to a few examples, and say by leaving each out how right it is.

Ridge regression on labels +1 and -1, where both labels weigh alike. With few examples and many numbers it is
as good as logistic regression, and leaving out a group of examples has a closed form: with H the matrix that
turns labels into fitted values, the values of group g without g are y_g - (I - H_gg)^-1 (y_g - f_g) (Allen
1974, PRESS, for groups). So confidences are those of examples that the layer was not fitted to.

Letters: n examples, w numbers of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Values = NDArray[np.float64]

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridges that are tried, in units of the mean of the kernel's diagonal. The best when left out is taken, by
the logarithmic loss of its calibrated confidences: values shrink with the ridge, so that losses of the values
themselves say more of their size than of their order."""
_STEPS = 50


@dataclass(frozen=True)
class LinearLayer:
    """p = sigmoid(x . weights + shift) of a description x (w,)."""

    weights: Rows
    shift: float

    def score(self, rows: Rows) -> Values:
        """Return the confidence (n,) of each of the rows (n, w)."""
        return _sigmoid((rows @ self.weights).astype(np.float64) + self.shift)


@dataclass(frozen=True)
class Fit:
    """A layer, and the confidence (n,) of each of its examples by layers that were fitted without its group;
    None where there are too few groups to leave one out."""

    layer: LinearLayer
    left_out: Values | None


def fit_layer(rows: Rows, positive: Sequence[bool], groups: Sequence[int]) -> Fit:
    """Fit a layer to rows (n, w), of which those that are `positive` show the class.

    Rows of one group come from one stretch of video and are left out together. Raises ValueError where all
    rows are positive or none is.
    """
    label = np.where(np.asarray(positive, bool), 1.0, -1.0)
    if len(set(label)) < 2:
        raise ValueError("a layer needs rows that show the class, and rows that do not")
    rows = np.asarray(rows, np.float32)
    centre, scale = rows.mean(0), rows.std(0)
    scale = np.maximum(scale, 0.1 * float(scale.mean()) + 1e-6).astype(np.float32)
    x = ((rows - centre) / scale).astype(np.float64)
    group = np.unique(np.asarray(groups), return_inverse=True)[1]

    # Weighted ridge regression in its dual form; the constant is one more number of each row.
    weight = np.where(label > 0, 0.5 / (label > 0).sum(), 0.5 / (label < 0).sum()) * len(label)
    root = np.sqrt(weight)
    kernel = x @ x.T
    unit = max(float(np.trace(kernel)) / len(x), 1e-9)  # rows that are all alike have no spread
    kernel = kernel + unit
    weighted = root[:, None] * kernel * root
    eigenvalues, vectors = np.linalg.eigh(weighted)
    can_leave_out = all(len(set(label[group != number])) == 2 for number in range(int(group.max()) + 1))

    best: tuple[float, Values, Values, tuple[float, float]] | None = None
    """Loss, dual weights, values when left out, slope and shift."""
    for ridge in RIDGES if can_leave_out else RIDGES[:1]:
        shrunk = eigenvalues / (eigenvalues + ridge * unit)
        hat = (vectors * shrunk) @ vectors.T
        aimed = root * label
        fitted = hat @ aimed
        dual = vectors @ ((vectors.T @ aimed) / (eigenvalues + ridge * unit))
        values = np.empty_like(label)
        if can_leave_out:
            for number in range(int(group.max()) + 1):
                own = np.flatnonzero(group == number)
                block = np.eye(len(own)) - hat[np.ix_(own, own)]
                values[own] = (aimed[own] - np.linalg.solve(block, aimed[own] - fitted[own])) / root[own]
        else:
            values = fitted / root
        curve = _calibrate(values, label) if can_leave_out else (2.0, 0.0)
        loss = float((weight * np.logaddexp(0, -label * (curve[0] * values + curve[1]))).mean())
        if best is None or loss < best[0]:
            best = loss, dual, values, curve
    assert best is not None
    _, dual, values, (slope, shift) = best
    # The layer takes rows as they are: it has the scaling of the numbers in it.
    weights = slope * (x.T @ (root * dual)) / scale
    constant = slope * unit * float((root * dual).sum())
    layer = LinearLayer(weights.astype(np.float32), shift + constant - float(weights @ centre))
    return Fit(layer, _sigmoid(slope * values + shift) if can_leave_out else None)


def _calibrate(values: Values, label: Values) -> tuple[float, float]:
    """Return slope and shift of the logistic curve through `values` (n,), with Platt's smoothed targets."""
    right, wrong = int((label > 0).sum()), int((label < 0).sum())
    target = np.where(label > 0, (right + 1) / (right + 2), 1 / (wrong + 2))
    # Both labels weigh alike: how often a class happens in the examples says nothing of the shop.
    weight = np.where(label > 0, 0.5 / right, 0.5 / wrong)
    design = np.stack([values, np.ones_like(values)], axis=1)
    answer = np.array([1.0, 0.0])
    for _ in range(_STEPS):  # Newton's method, held back by a weak prior of slope 2
        p = _sigmoid(design @ answer)
        gradient = design.T @ (weight * (p - target)) + 0.02 * (answer - [2.0, 0.0])
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + 0.02 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        answer = answer - step
        if np.abs(step).max() < 1e-9:
            break
    return max(float(answer[0]), 0.1), float(answer[1])


def _sigmoid(x: NDArray[np.float64]) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))), np.float64)
