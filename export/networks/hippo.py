"""HiPPO-LegS: the state matrix that state-space layers begin with, and its eigenvalues. N is the number of
states.

x' = A x + B u with A_nk = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it, 0 above, and B_n = sqrt(2n+1)
(Gu et al., "HiPPO", 2020). A + P P^T with P_n = sqrt(n + 1/2) is -1/2 I plus a skew matrix, so its
eigenvalues have real part -1/2: these are what S4D-LegS keeps (Gu et al., "On the Parameterization and
Initialization of Diagonal State Space Models", 2022).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


def make_legs(states: int) -> tuple[Real, Real]:
    """Return A (N, N) and B (N,) of HiPPO-LegS."""
    root = np.sqrt(2 * np.arange(states) + 1.0)
    a = -np.tril(np.outer(root, root), -1) - np.diag(np.arange(states) + 1.0)
    return a, root


def make_legs_eigenvalues(states: int) -> NDArray[np.complex128]:
    """Return the N / 2 eigenvalues with positive imaginary part of LegS's normal part, in order. N
    is even."""
    a, _ = make_legs(states)
    p = np.sqrt(np.arange(states) + 0.5)
    normal = a + np.outer(p, p)  # -1/2 I + skew
    skew = normal + 0.5 * np.eye(states)
    imaginary = np.linalg.eigvalsh(-1j * skew)
    return np.asarray(-0.5 + 1j * np.sort(imaginary[imaginary > 0]))


def make_lin_eigenvalues(states: int) -> NDArray[np.complex128]:
    """Return the eigenvalues of S4D-Lin: -1/2 + i pi n for n below N / 2."""
    return np.asarray(-0.5 + 1j * np.pi * np.arange(states // 2))
