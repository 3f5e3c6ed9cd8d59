"""A snapshot: its content and its bytes.

magic    8 bytes, the last one the version
SHA-256  of the magic and of the rest (version 1: of the rest), so that a flipped bit is never taken for a
         later version
sealed   safetensors, with everything that is no array in its header
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_runtime.memory.background_model import Background
from edge_runtime.memory.coverage import Coverage, Gap
from edge_runtime.memory.online_svd import OnlineSVD
from edge_runtime.memory.token_memory import TokenMemory
from edge_runtime.memory.version import Version
from edge_runtime.persistence.encryption import SNAPSHOT, Seal
from edge_runtime.persistence.errors import Damaged, NewerState, StateError
from edge_runtime.persistence.header import FORMAT_VERSION, Header
from edge_runtime.persistence.validation import MERGED_GAPS, STATE_PREFIX, check_arrays, check_network
from edge_runtime.system.validation import describe_first_problem
from engines.network_config import NetworkConfig
from engines.spec import Array

MAGIC = b"LVMSTAT2"
MAGIC_1 = b"LVMSTAT1"
OLD_MAX_GAPS = 256
"""Until version 2 watched time between more gaps than these was lost: then none of them is certain."""
_FAMILY = MAGIC[:7]
_SUM_END = len(MAGIC) + 32
FILE = "memory.state"
PREVIOUS = "memory.state.previous"


@dataclass(frozen=True)
class SaveStatus:
    """Bytes written for this memory so far, and why the newest state is not saved, None where it is."""

    written: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Snapshot:
    header: Header
    version: Version
    saving: SaveStatus = SaveStatus()


def encode(snapshot: Snapshot, seal: Seal) -> bytes:
    """Return the bytes of a snapshot file."""
    payload = save(to_arrays(snapshot.version), {"header": _to_header(snapshot).model_dump_json()})
    sealed = seal.seal(payload, role=SNAPSHOT)
    return MAGIC + hashlib.sha256(MAGIC + sealed).digest() + sealed


def decode(data: bytes, seal: Seal, network: NetworkConfig | None = None) -> Snapshot:
    """Return the snapshot of a file's bytes. `network` checks that shapes fit.

    Raises Damaged where the bytes are not as they were written, NewerState for a later version and StateError
    where they are sound but cannot be used.
    """
    check_sound(data)
    payload = seal.open(data[_SUM_END:], role=SNAPSHOT)
    try:
        size = int.from_bytes(payload[:8], "little")
        plain: dict[str, Any] = json.loads(json.loads(payload[8 : 8 + size])["__metadata__"]["header"])
        if plain["format_version"] > FORMAT_VERSION:
            raise NewerState("written by a newer lvm-edge")
        header = Header.model_validate(plain)
        arrays = load(payload)
    except ValidationError as error:
        raise StateError(f"not understood ({describe_first_problem(error)})") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise StateError(f"not understood ({type(error).__name__})") from error
    try:
        check_arrays(arrays, header)
    except ValueError as error:
        raise StateError(f"not understood ({error})") from error
    for config in (network, header.network):
        if config is not None:
            check_network(arrays, header, config)
    return Snapshot(header, _to_version(arrays, header))


def check_sound(data: bytes) -> None:
    """Raise Damaged unless these are the bytes of a snapshot, NewerState for a later version."""
    magic, total, rest = data[:8], data[8:_SUM_END], data[_SUM_END:]
    if magic[:7] != _FAMILY:
        raise Damaged("damaged or no state")
    covered = rest if magic == MAGIC_1 else magic + rest
    if hashlib.sha256(covered).digest() != total:
        raise Damaged("damaged (checksum)")
    if magic not in (MAGIC, MAGIC_1):
        raise NewerState("written by a newer lvm-edge")


def _to_header(snapshot: Snapshot) -> Header:
    version = snapshot.version
    background, coverage = version.background, version.coverage
    svd = background.svd if background else None
    return snapshot.header.model_copy(
        update={
            "format_version": FORMAT_VERSION,
            "frames": version.frames,
            "last_tick": version.last_tick,
            "memory_version": version.memory.version,
            "coverage": (coverage.start, coverage.end, coverage.gaps),
            "coverage_notes": coverage.notes,
            "coverage_frames": coverage.frames,
            "frame_period": coverage.period,
            "pending_ticks": version.pending_ticks,
            "svd": (svd.rank, svd.forgetting, svd.rows_effective, svd.updates) if svd else None,
        }
    )


def to_arrays(version: Version) -> dict[str, Array]:
    """Return all arrays of a version, by their names in the file."""
    memory, background = version.memory, version.background
    arrays: dict[str, Array] = {
        "memory.features": memory.features.astype(np.float16),
        "memory.tick": memory.tick,
        "memory.cell": memory.cell,
        "memory.score": memory.score,
        "memory.valid": memory.valid,
    }
    if version.pending:
        arrays["pending"] = np.stack(version.pending).astype(np.float16)
        arrays["pending_residual"] = np.stack(version.pending_residual)
    if background is not None:
        svd = background.svd
        arrays |= {"svd.basis": svd.basis, "svd.strength": svd.strength, "svd.mean": svd.mean}
        if background.cell_means is not None:
            arrays["cell_means"] = background.cell_means
        if background.scale is not None:
            arrays["novelty_scale"] = background.scale
    if version.coverage.merged:
        arrays[MERGED_GAPS] = np.array(
            [(gap.start, gap.end, gap.min_watched, gap.max_watched) for gap in version.coverage.merged]
        )
    arrays |= {STATE_PREFIX + name: array for name, array in version.recurrent_state.items()}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _to_coverage(arrays: dict[str, Array], header: Header) -> Coverage:
    start, end, gaps = header.coverage
    rows = arrays.get(MERGED_GAPS, np.empty((0, 4))).tolist()
    if header.format_version < FORMAT_VERSION and len(gaps) >= OLD_MAX_GAPS:
        rows, gaps = [(a, b, 0.0, b - a) for a, b in gaps], ()
    return Coverage(
        start,
        end,
        gaps,
        header.coverage_notes,
        tuple(Gap(a, b, None, low, high) for a, b, low, high in rows),
        header.coverage_frames,
        header.frame_period,
    )


def _to_version(arrays: dict[str, Array], header: Header) -> Version:
    memory = TokenMemory(
        arrays["memory.features"].astype(np.float32),
        arrays["memory.tick"],
        arrays["memory.cell"],
        arrays["memory.score"],
        arrays["memory.valid"],
        header.memory_version,
    )
    background = None
    if header.svd is not None:
        rank, forgetting, rows, updates = header.svd
        svd = OnlineSVD(
            rank, forgetting, arrays["svd.basis"], arrays["svd.strength"], arrays["svd.mean"], rows, updates
        )
        background = Background(svd, arrays.get("cell_means"), arrays.get("novelty_scale"))
    pending = tuple(arrays["pending"].astype(np.float32)) if "pending" in arrays else ()
    recurrent = {
        name.removeprefix(STATE_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(STATE_PREFIX)
    }
    for array in recurrent.values():
        array.flags.writeable = False
    return Version(
        memory,
        background,
        _to_coverage(arrays, header),
        pending,
        tuple(arrays["pending_residual"]) if pending else (),
        header.pending_ticks,
        header.last_tick,
        header.frames,
        recurrent,
    )
