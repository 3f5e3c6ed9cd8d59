"""Online SVD: the dominant directions of all rows so far, in r rows (online MeMSVD, Algorithm 1).

Letters: r rank, d width of a row, n new rows of one update, q ≤ n directions that are new.

The algorithm is Brand's incremental SVD in row form with a forgetting factor: project the new rows on the
basis, orthonormalise the residual, and take the SVD of a small (r+n, r+q) matrix. Where the residual is long,
one round of Cholesky is enough, because its loss is repaired in the r rows of the result; else it takes two.
The new directions are never multiplied out: rows of width d meet the small matrices once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating[Any]]

_SINGLE_ROUND = 0.05
"""Shortest pivot of the residual over the longest row, from which one round of Cholesky is enough.

Its backward error is the rounding error divided by this share: 20 roundings of the longest row at most.
"""
_MAX_DRIFT = 1e-3
"""Up to here one Newton step makes the rows orthonormal to the last digits (it squares the error)."""


@dataclass(frozen=True)
class OnlineSVD:
    """An immutable state; `update` returns the next one.

    `basis` (r, d) orthonormal rows, `strength` (r,) singular values in descending order, `mean` (d,) running
    mean of all rows (only used to orient new basis rows), `rows_effective` the sum of the rows' weights.
    """

    rank: int
    forgetting: float
    basis: Rows  # (r, d)
    strength: Rows  # (r,)
    mean: Rows  # (d,)
    rows_effective: float = 0.0
    updates: int = 0

    @classmethod
    def empty(
        cls, rank: int, width: int, *, forgetting: float = 1.0, dtype: type[np.floating[Any]] = np.float64
    ) -> OnlineSVD:
        """Return the state before the first row."""
        if not (rank >= 1 and width >= 1 and 0 < forgetting <= 1):
            raise ValueError(
                f"rank and width must be >= 1 and forgetting in (0, 1], got {rank}, {width}, {forgetting}"
            )
        return cls(rank, forgetting, np.zeros((0, width), dtype), np.zeros(0, dtype), np.zeros(width, dtype))

    def update(self, rows: Rows) -> OnlineSVD:
        """Return the state after `rows` (n, d). Raises ValueError for a wrong shape, NaN or Inf."""
        rows = self._check_rows(rows)
        if rows.shape[0] == 0:
            return self
        mean, weight = self._running_mean(rows)
        split = _split_fast(self.basis, rows) or _split(self.basis, rows)
        r = len(self.strength)
        values, right = decompose(self._small_problem(split))
        tolerance = 1e-5 if rows.dtype == np.float32 else 1e-7
        keep = min(
            self.rank, int(np.count_nonzero(values > tolerance * max(values[0], np.finfo(float).tiny)))
        )
        # New rows in terms of the old basis and of `split.rows`; right[:, :r] are their cosines with the old.
        by_basis = right[:keep, :r] + right[:keep, r:] @ split.by_basis  # (keep, r)
        by_rows = right[:keep, r:] @ split.by_rows
        along_mean = by_basis @ (self.basis @ mean) + by_rows @ (split.rows @ mean)
        signs = _signs(right[:keep, :r], along_mean)[:, None]
        basis: Rows = (signs * by_basis) @ self.basis + (signs * by_rows) @ split.rows  # (keep, d)
        return replace(
            self,
            basis=_orthonormalise(basis),
            strength=values[:keep],
            mean=mean,
            rows_effective=weight,
            updates=self.updates + 1,
        )

    def project(self, rows: Rows) -> Rows:
        """Return the part of `rows` (n, d) that lies in the basis: (h Uᵀ) U, MeMSVD's memory read-out. (n,
        d)"""
        return np.asarray((rows @ self.basis.T) @ self.basis)

    def residual(self, rows: Rows) -> Rows:
        """Return the length of each row's part outside the basis, of (n, d). (n,)"""
        return self.residual_in_place(np.array(rows, self.basis.dtype))

    def residual_in_place(self, rows: Rows) -> Rows:
        """As `residual`, overwriting `rows`, of the basis's dtype, with their residuals. (n,)"""
        # |e|² - |P|² would be cheaper and lose half the digits where a row is nearly in the span.
        rows -= (rows @ self.basis.T) @ self.basis
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)))

    def summary_strength(self) -> Rows:
        """Return log(1 + S / √rows): a feature that does not grow with the hours watched. (r,)"""
        return np.asarray(np.log1p(self.strength / np.sqrt(max(self.rows_effective, 1.0))))

    def _check_rows(self, rows: Rows) -> Rows:
        rows = np.asarray(rows, self.basis.dtype)
        if rows.ndim != 2 or rows.shape[1] != self.basis.shape[1]:
            raise ValueError(f"rows must be (n, {self.basis.shape[1]}), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("rows must be finite, got NaN or Inf; the basis is unchanged")
        return rows

    def _small_problem(self, split: _Split) -> Rows:
        """Return K (r+n, r+q), in coordinates of the basis followed by the q new directions."""
        r, (n, q) = len(self.strength), split.coefficients.shape
        small = np.zeros((r + n, r + q), self.basis.dtype)
        small[range(r), range(r)] = self.forgetting * self.strength
        small[r:, :r] = split.within
        small[r:, r:] = split.coefficients
        return small

    def _running_mean(self, rows: Rows) -> tuple[Rows, float]:
        old_weight = self.forgetting**2 * self.rows_effective
        weight = old_weight + len(rows)
        return (self.mean * old_weight + rows.sum(axis=0)) / weight, weight


def decompose(small: Rows) -> tuple[Rows, Rows]:
    """Return singular values and right singular rows.

    LAPACK's divide and conquer fails to converge on rare finite matrices (a rank-deficient one of 112 x 112
    with OpenBLAS 0.3.31 on AVX-512, in both precisions), which must not end a stream. The transpose is
    eliminated in another order and converged there.
    """
    try:
        _, values, right = np.linalg.svd(small, full_matrices=False)
    except np.linalg.LinAlgError:
        left, values, _ = np.linalg.svd(np.ascontiguousarray(small.T), full_matrices=False)
        right = left.T
    return values, right


@dataclass(frozen=True)
class _Split:
    """New rows H = P U + C Q, and Q = A U + B X without multiplying it out.

    `within` P (n, r), `coefficients` C (n, q), `by_basis` A (q, r), `by_rows` B (q, n'), `rows` X (n', d).
    """

    within: Rows
    coefficients: Rows
    by_basis: Rows
    by_rows: Rows
    rows: Rows


def _split(basis: Rows, rows: Rows) -> _Split:
    """Split by two projections and Householder's QR: also for dependent rows and more rows than columns."""
    within = rows @ basis.T  # (n, r)
    rest = rows - within @ basis  # (n, d)
    again = rest @ basis.T
    rest -= again @ basis
    new, coefficients = np.linalg.qr(rest.T)  # (d, q), (q, n)
    q = new.shape[1]
    by_basis, by_rows = np.zeros((q, len(basis)), rows.dtype), np.eye(q, dtype=rows.dtype)
    return _Split(within + again, coefficients.T, by_basis, by_rows, new.T)


def _split_fast(basis: Rows, rows: Rows) -> _Split | None:
    """Split by block Gram-Schmidt with Cholesky factors; None where rows are too dependent for it."""
    first = _cholesky_round(basis, rows)
    if first is None or _residual_share(first) >= _SINGLE_ROUND:
        return first
    # A second round on the nearly orthonormal result repairs the loss of the first.
    second = _cholesky_round(basis, first.by_basis @ basis + first.by_rows @ rows)
    if second is None:
        return None
    lower = first.coefficients
    return replace(
        second, within=first.within + lower @ second.within, coefficients=lower @ second.coefficients
    )


def _cholesky_round(basis: Rows, rows: Rows) -> _Split | None:
    within = rows @ basis.T  # (n, r)
    try:
        # By Pythagoras the Gram matrix of the residual, without the residual.
        lower = np.linalg.cholesky(rows @ rows.T - within @ within.T)
    except np.linalg.LinAlgError:
        return None
    split = _Split(within, lower, np.zeros_like(within), np.zeros_like(lower), rows)
    # The Gram matrix squares the condition number: beyond √(1/eps) a second round cannot repair it.
    if _residual_share(split) < 8 * np.sqrt(np.finfo(rows.dtype).eps):
        return None
    # Inverting the small factor and multiplying takes a fifth of numpy's solve with d right-hand sides.
    inverse = np.linalg.inv(lower)
    return replace(split, by_basis=-inverse @ within, by_rows=inverse)


def _residual_share(split: _Split) -> float:
    """Return the shortest pivot of the residual over the longest row."""
    longest = np.sqrt((split.within**2).sum(axis=1) + (split.coefficients**2).sum(axis=1)).max()
    return float(np.diagonal(split.coefficients).min() / longest)


def _orthonormalise(basis: Rows) -> Rows:
    """Return the nearest orthonormal rows; signs follow the given rows, not LAPACK's."""
    drift = basis @ basis.T - np.eye(len(basis), dtype=basis.dtype)
    if np.abs(drift).max(initial=0.0) <= _MAX_DRIFT:
        return np.asarray(basis - (drift / 2) @ basis)
    q, r = np.linalg.qr(basis.T)
    return np.ascontiguousarray((q * np.sign(np.diagonal(r))).T)


def _signs(cosines: Rows, along_mean: Rows) -> Rows:
    """Return signs that do not jump: each new row agrees with the old row that it continues, else the
    mean."""
    signs = np.where(along_mean < 0, -1.0, 1.0).astype(cosines.dtype)
    if cosines.size == 0:
        return signs
    nearest = np.abs(cosines).argmax(axis=1)
    followed = cosines[np.arange(len(cosines)), nearest]
    return np.asarray(np.where(np.abs(followed) > 0.5, np.sign(followed), signs))
