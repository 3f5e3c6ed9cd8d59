"""Whether arrays that were read are such as a run leaves behind. A right checksum says only that
nothing was changed since.

Letters: m slots, d width of a token, P = 49 cells, f frames of the running clip, r ≤ rank rows of the basis.

What passes here can be asked, fed on and saved again without an exception; bounds are the loosest that
measured numbers keep, since a memory that is refused for nothing is a memory lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_runtime.frame import CELLS, MAX_TICK
from edge_runtime.memory.recurrent_state import ArraySpec, state_specs
from edge_runtime.persistence.errors import StateError
from edge_runtime.persistence.header import Header
from engines.network_config import NetworkConfig
from engines.spec import Array

MAX_SLOTS, MIN_WIDTH, MAX_WIDTH, MAX_CLIP = 1_000_000, 1, 8192, 4096
"""Of any bundle (engines/manifest.py), where none is at hand to compare with."""

HALF = 65504.0
MAX_LENGTH = 4 * HALF * MAX_WIDTH**0.5
"""No residual of tokens in half precision, around means of such tokens, is longer."""
_ENTRY = 1.01
"""Rows of the basis are orthonormal within 1e-3."""
CARRIED = "carried."
"""Before the names of what `edge_runtime.memory.recurrent_state` adds."""
_LIMITS = {
    "memory.features": HALF,
    "memory.score": float(np.finfo(np.float32).max),
    "pending": HALF,
    "pending_residual": MAX_LENGTH,
    "svd.basis": _ENTRY,
    "svd.strength": 1e18,
    "svd.mean": 4 * HALF,
    "cell_means": 2 * HALF,
    "novelty_scale": MAX_LENGTH,
}
"""Greatest magnitude of each array of numbers."""


def check_arrays(arrays: Mapping[str, Array], header: Header) -> None:
    """Raises ValueError unless names, types, shapes and values are those of a version with this header."""
    features = arrays.get("memory.features")
    if features is None or features.ndim != 2:
        raise ValueError("it holds no memory.features (m, d)")
    wanted = _wanted(header, arrays, *features.shape)
    carried = _carried(header.network)
    wanted |= {name: (kept.dtype, kept.shape) for name, kept in carried.items()}
    limits = _LIMITS | {name: kept.limit for name, kept in carried.items()}
    unknown = sorted(arrays.keys() - wanted.keys())
    if unknown:
        raise ValueError(f"it holds an array too many, {unknown[0][:40]!r}")
    for name, (dtype, shape) in wanted.items():
        if name not in arrays:
            raise ValueError(f"it holds no array {name}")
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name} must be {np.dtype(dtype).name} {shape}, got {array.dtype.name} {array.shape}"
            )
        if name in limits:
            check_numbers(name, array, limits[name])
    _check_slots(arrays, header)
    if "svd.strength" in arrays and (arrays["svd.strength"] < 0).any():
        raise ValueError("svd.strength must not be negative")


def check_numbers(name: str, array: Array, limit: float) -> None:
    """Raises ValueError unless all are finite and within ±`limit`."""
    if not np.all(np.abs(array) <= array.dtype.type(limit)):  # which NaN is not
        raise ValueError(f"{name} must be finite and within ±{limit:.3g}")


def check_network(arrays: Mapping[str, Array], header: Header, network: NetworkConfig) -> None:
    """Raises StateError unless they are of a version that this network leaves behind."""
    same = (
        arrays["memory.features"].shape == (network.memory_tokens, network.d_backbone)
        and (header.svd[0] if header.svd else 0) == network.svd_rank
        and len(header.pending_ticks) < network.clip_frames
        and {name: array.shape for name, array in arrays.items() if name.startswith(CARRIED)}
        == {name: kept.shape for name, kept in _carried(network).items()}
    )
    if not same:
        raise StateError("its shapes are of another bundle")


def _carried(network: NetworkConfig | None) -> dict[str, ArraySpec]:
    """What of `edge_runtime.memory.recurrent_state` is in a file, by its name there. Version 1 knew nothing
    of it."""
    return {} if network is None else {CARRIED + name: kept for name, kept in state_specs(network).items()}


def _wanted(
    header: Header, arrays: Mapping[str, Array], m: int, d: int
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of every array that there must be."""
    f = len(header.pending_ticks)
    if not (1 <= m <= MAX_SLOTS and MIN_WIDTH <= d <= MAX_WIDTH and f < MAX_CLIP):
        raise ValueError(f"no bundle has {m} slots of width {d} and {f} frames waiting")
    wanted: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "memory.features": (np.float16, (m, d)),
        "memory.tick": (np.int64, (m,)),
        "memory.cell": (np.int32, (m,)),
        "memory.score": (np.float32, (m,)),
        "memory.valid": (np.bool_, (m,)),
    }
    if f:
        wanted |= {"pending": (np.float16, (f, CELLS, d)), "pending_residual": (np.float32, (f, CELLS))}
    if header.svd is not None:
        strength = arrays.get("svd.strength")
        r = len(strength) if strength is not None and strength.ndim == 1 else 0
        if r > min(header.svd[0], d):
            raise ValueError(f"svd.strength must have at most {min(header.svd[0], d)} numbers, got {r}")
        wanted |= {
            "svd.basis": (np.float32, (r, d)),
            "svd.strength": (np.float32, (r,)),
            "svd.mean": (np.float32, (d,)),
        }
        # Both come with the first clip; files of version 1 know the one without the other.
        if "cell_means" in arrays:
            wanted["cell_means"] = (np.float32, (CELLS, d))
        if "novelty_scale" in arrays:
            wanted["novelty_scale"] = (np.float32, (2, CELLS))
    return wanted


def _check_slots(arrays: Mapping[str, Array], header: Header) -> None:
    """Filled slots come first, in order of tick and cell, none of them after the newest frame."""
    tick, cell, valid = (arrays[f"memory.{name}"] for name in ("tick", "cell", "valid"))
    if (valid.view(np.uint8) > 1).any():
        raise ValueError("memory.valid must be true or false")
    n = int(np.count_nonzero(valid))
    if not valid[:n].all():
        raise ValueError("memory.valid must have its filled slots first")
    if (cell < 0).any() or (cell >= CELLS).any():
        raise ValueError(f"memory.cell must be in 0..{CELLS - 1}")
    if (tick < -MAX_TICK).any() or (tick > MAX_TICK).any():
        raise ValueError(f"memory.tick must be within ±{MAX_TICK}")
    stamp = tick[:n] * CELLS + cell[:n]
    if (stamp[1:] <= stamp[:-1]).any():
        raise ValueError("memory.tick and memory.cell must ascend")
    if n and (header.last_tick is None or tick[n - 1] > header.last_tick):
        raise ValueError("memory.tick must not be after the newest frame")
