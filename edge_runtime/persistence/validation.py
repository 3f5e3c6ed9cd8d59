"""Check that arrays read from a file are such as a run leaves behind.

A correct checksum says only that nothing was changed since.

Letters: k merged gaps, m slots, d width of a token, P cells, f frames of the running clip, r ≤ rank rows
of the basis.

A state that passes can be asked, continued and saved again without an exception. Bounds are loose, since a
memory that is refused without need is a memory lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_runtime.frame import MAX_TICK
from edge_runtime.memory.coverage import MAX_MERGED
from edge_runtime.memory.recurrent_state import ArraySpec, state_specs
from edge_runtime.persistence.errors import StateError
from edge_runtime.persistence.header import Header
from engines.network_config import GRID, NetworkConfig
from engines.spec import Array

MAX_SLOTS, MIN_WIDTH, MAX_WIDTH, MAX_CLIP = 1_000_000, 1, 8192, 4096
"""Of any bundle (engines/manifest.py), where there is none to compare with."""

HALF = 65504.0
MAX_LENGTH = 4 * HALF * MAX_WIDTH**0.5
"""No residual of tokens in half precision, around means of such tokens, is longer."""
_MAX_BASIS_ENTRY = 1.01
"""Rows of the basis are orthonormal within 1e-3."""
STATE_PREFIX = "carried."
"""In a file before the names of the recurrent state's arrays (`edge_runtime.memory.recurrent_state`)."""
MERGED_GAPS = "coverage.merged"
"""The coverage's merged gaps: from, to, seconds watched at least and at most."""
_LIMITS = {
    "memory.features": HALF,
    "memory.score": float(np.finfo(np.float32).max),
    "pending": HALF,
    "pending_residual": MAX_LENGTH,
    "svd.basis": _MAX_BASIS_ENTRY,
    "svd.strength": 1e18,
    "svd.mean": 4 * HALF,
    "cell_means": 2 * HALF,
    "novelty_scale": MAX_LENGTH,
}
"""Greatest magnitude of each array of numbers."""


def check_arrays(arrays: Mapping[str, Array], header: Header) -> None:
    """Raise ValueError unless names, types, shapes and values are those of a version with this header."""
    features = arrays.get("memory.features")
    if features is None or features.ndim != 2:
        raise ValueError("it holds no memory.features (m, d)")
    cells = _count_cells(header)
    specs = _expected_arrays(header, arrays, cells)
    state = _state_specs(header.network)
    specs |= {name: (spec.dtype, spec.shape) for name, spec in state.items()}
    limits = _LIMITS | {name: spec.limit for name, spec in state.items()}
    unknown = sorted(arrays.keys() - specs.keys())
    if unknown:
        raise ValueError(f"it holds an array too many, {unknown[0][:40]!r}")
    for name, (dtype, shape) in specs.items():
        if name not in arrays:
            raise ValueError(f"it holds no array {name}")
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name} must be {np.dtype(dtype).name} {shape}, got {array.dtype.name} {array.shape}"
            )
        if name in limits:
            check_numbers(name, array, limits[name])
    _check_slots(arrays, header, cells)
    if MERGED_GAPS in arrays:
        _check_merged_gaps(arrays[MERGED_GAPS], header)
    if "svd.strength" in arrays and (arrays["svd.strength"] < 0).any():
        raise ValueError("svd.strength must not be negative")


def check_numbers(name: str, array: Array, limit: float) -> None:
    """Raise ValueError unless all are finite and within ±`limit`."""
    if not np.all(np.abs(array) <= array.dtype.type(limit)):  # false for NaN
        raise ValueError(f"{name} must be finite and within ±{limit:.3g}")


def check_network(arrays: Mapping[str, Array], header: Header, network: NetworkConfig) -> None:
    """Raise StateError unless the arrays are of a version that this network leaves behind."""
    same = (
        arrays["memory.features"].shape == (network.memory_tokens, network.d_backbone)
        and (header.svd[0] if header.svd else 0) == network.svd_rank
        and len(header.pending_ticks) < network.clip_frames
        and {name: array.shape for name, array in arrays.items() if name.startswith(STATE_PREFIX)}
        == {name: spec.shape for name, spec in _state_specs(network).items()}
    )
    if not same:
        raise StateError("its shapes are of another bundle")


def _count_cells(header: Header) -> int:
    """Return the cells of a frame. Version 1 did not say of which network it was."""
    return GRID * GRID if header.network is None else header.network.cells


def _state_specs(network: NetworkConfig | None) -> dict[str, ArraySpec]:
    """Return the arrays of the recurrent state, by their names in a file. Version 1 had none."""
    return (
        {} if network is None else {STATE_PREFIX + name: spec for name, spec in state_specs(network).items()}
    )


def _expected_arrays(
    header: Header, arrays: Mapping[str, Array], cells: int
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Return type and shape of every array that must be there."""
    m, d = arrays["memory.features"].shape
    f, k = len(header.pending_ticks), len(arrays.get(MERGED_GAPS, ()))
    if not (1 <= m <= MAX_SLOTS and MIN_WIDTH <= d <= MAX_WIDTH and f < MAX_CLIP):
        raise ValueError(f"no bundle has {m} slots of width {d} and {f} frames waiting")
    specs: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "memory.features": (np.float16, (m, d)),
        "memory.tick": (np.int64, (m,)),
        "memory.cell": (np.int32, (m,)),
        "memory.score": (np.float32, (m,)),
        "memory.valid": (np.bool_, (m,)),
    }
    if k:
        specs[MERGED_GAPS] = (np.float64, (min(k, MAX_MERGED), 4))
    if f:
        specs |= {"pending": (np.float16, (f, cells, d)), "pending_residual": (np.float32, (f, cells))}
    if header.svd is not None:
        strength = arrays.get("svd.strength")
        r = len(strength) if strength is not None and strength.ndim == 1 else 0
        if r > min(header.svd[0], d):
            raise ValueError(f"svd.strength must have at most {min(header.svd[0], d)} numbers, got {r}")
        specs |= {
            "svd.basis": (np.float32, (r, d)),
            "svd.strength": (np.float32, (r,)),
            "svd.mean": (np.float32, (d,)),
        }
        # Both come with the first clip; files of version 1 may have the first without the second.
        if "cell_means" in arrays:
            specs["cell_means"] = (np.float32, (cells, d))
        if "novelty_scale" in arrays:
            specs["novelty_scale"] = (np.float32, (2, cells))
    return specs


def _check_slots(arrays: Mapping[str, Array], header: Header, cells: int) -> None:
    """Raise ValueError unless filled slots come first, by tick and cell, none after the newest frame."""
    tick, cell, valid = (arrays[f"memory.{name}"] for name in ("tick", "cell", "valid"))
    if (valid.view(np.uint8) > 1).any():
        raise ValueError("memory.valid must be true or false")
    n = int(np.count_nonzero(valid))
    if not valid[:n].all():
        raise ValueError("memory.valid must have its filled slots first")
    if (cell < 0).any() or (cell >= cells).any():
        raise ValueError(f"memory.cell must be in 0..{cells - 1}")
    if (tick < -MAX_TICK).any() or (tick > MAX_TICK).any():
        raise ValueError(f"memory.tick must be within ±{MAX_TICK}")
    stamp = tick[:n] * cells + cell[:n]
    if (stamp[1:] <= stamp[:-1]).any():
        raise ValueError("memory.tick and memory.cell must ascend")
    if n and (header.last_tick is None or tick[n - 1] > header.last_tick):
        raise ValueError("memory.tick must not be after the newest frame")


def _check_merged_gaps(gaps: Array, header: Header) -> None:
    """Raise ValueError unless merged gaps (k, 4) follow each other and come before the other gaps."""
    start, end, newer = header.coverage
    if start is None or end is None:
        raise ValueError(f"{MERGED_GAPS} must be of a coverage")
    times = np.concatenate([[start], gaps[:, :2].ravel(), [newer[0][0] if newer else end]])
    low, high = gaps[:, 2], gaps[:, 3]
    # Not turned around: false for NaN.
    if not ((times[1:] >= times[:-1]).all() and (low >= 0).all() and (low <= high).all()):
        raise ValueError(f"{MERGED_GAPS} must ascend")
    if not (high <= (gaps[:, 1] - gaps[:, 0]) * (1 + 1e-6) + 1e-3).all():
        raise ValueError(f"{MERGED_GAPS} must not be watched for longer than they are")
