"""What survives the power switch: one checksummed file, replaced atomically, the previous one kept.

    memory.state            magic, SHA-256 of the rest, safetensors with the clock in its header
    memory.state.previous   the snapshot before
    lock                    held by the process that writes here

Arrays are exactly those of a `Version`, so a resumed run continues bit for bit. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_runtime.background import Background
from edge_runtime.coverage import Coverage
from edge_runtime.ingest import Version, empty_version
from edge_runtime.memory import TokenMemory
from edge_runtime.svd import OnlineSVD
from engines.bundle import Bundle
from engines.durable import fsync_folder
from engines.errors import LvmError
from engines.manifest import NetworkConfig
from engines.spec import Array

log = logging.getLogger(__name__)

FORMAT_VERSION: Literal[1] = 1
MAGIC = b"LVMSTAT1"
FILE = "memory.state"
PREVIOUS = "memory.state.previous"


class StateError(LvmError):
    """A state that cannot be read, belongs elsewhere or is in use. It is never overwritten for that."""


class Header(BaseModel):
    """Everything of a snapshot that is no array. `epoch` is the wall-clock time of the stream's second 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    model: str
    bundle: str
    source: str
    sampler: str
    epoch: float
    sample_fps: float
    last_t: float | None = None
    ended: bool = False
    seen: int = 0
    dropped: int = 0
    frames: int = 0
    last_tick: int | None = None
    memory_version: int = 0
    coverage: tuple[float | None, float | None, tuple[tuple[float, float], ...]] = (None, None, ())
    pending_ticks: tuple[int, ...] = ()
    svd: tuple[int, float, float, int] | None = None

    def resume_at(self) -> float:
        """Second of the first sampling period that was not ingested."""
        if self.last_t is None:
            return 0.0
        return (int(self.last_t * self.sample_fps + 1e-6) + 1) / self.sample_fps


@dataclass(frozen=True)
class Snapshot:
    header: Header
    version: Version


def model_digest(bundle: Bundle) -> str:
    """Identity of what makes memories comparable: the weights and the shapes, not their export."""
    manifest = bundle.manifest
    weights = manifest.files[manifest.weights].sha256 if manifest.weights else bundle.digest
    return hashlib.sha256((weights + manifest.network.model_dump_json()).encode()).hexdigest()


class StateFolder:
    """The folder that one running process writes; `with` holds its lock. Raises StateError if it is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._wrote = False

    def __enter__(self) -> StateFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise StateError(
                f"state {self.folder} cannot be written: {error.strerror}; name another --state"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError(
                f"state {self.folder} is in use by another lvm-edge; name another --state"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def save(self, snapshot: Snapshot) -> int:
        """Write atomically: a power cut leaves the old snapshot or the new one. Returns bytes written."""
        payload = save(arrays_of(snapshot.version), {"header": _header(snapshot).model_dump_json()})
        data = MAGIC + hashlib.sha256(payload).digest() + payload
        fresh, current = self.folder / (FILE + ".new"), self.folder / FILE
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A damaged file must not push out the sound one before it; what we wrote ourselves is sound.
            if self._wrote or _is_sound(current):
                _keep_as(self.folder / PREVIOUS, current)
            os.replace(fresh, current)
            fsync_folder(self.folder)
            self._wrote = True
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise StateError(f"state {self.folder} cannot be saved: {error.strerror}") from error
        return len(data)


def load_snapshot(folder: Path, network: NetworkConfig | None = None) -> Snapshot | None:
    """The newest sound snapshot, None where there is none. `network` checks that shapes fit.

    Raises StateError if files are there but none can be used; nothing is deleted.
    """
    problems: list[str] = []
    if folder.is_file():
        raise StateError(f"state {folder} must be a folder, got a file")
    for name in (FILE, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            snapshot = _parse(path.read_bytes(), network)
            if problems:
                log.warning("state %s: %s; the snapshot before is used", folder, problems[0])
            return snapshot
        except (StateError, OSError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise StateError(
            f"state {folder} cannot be used: {'; '.join(problems)}; move it away or name another --state"
        )
    return None


def _parse(data: bytes, network: NetworkConfig | None) -> Snapshot:
    if data[:8] != MAGIC:
        raise StateError("not a state of this version")
    if not _checksum_fits(data):
        raise StateError("damaged (checksum)")
    try:
        size = int.from_bytes(data[40:48], "little")
        header = Header.model_validate_json(json.loads(data[48 : 48 + size])["__metadata__"]["header"])
        version = _version(load(data[40:]), header, network)
    except (ValidationError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise StateError(f"not understood ({type(error).__name__})") from error
    return Snapshot(header, version)


def _checksum_fits(data: bytes) -> bool:
    return hashlib.sha256(data[40:]).digest() == data[8:40]


def _is_sound(file: Path) -> bool:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return False
    return data[:8] == MAGIC and _checksum_fits(data)


def _header(snapshot: Snapshot) -> Header:
    version = snapshot.version
    background, coverage = version.background, version.coverage
    svd = background.svd if background else None
    return snapshot.header.model_copy(
        update={
            "frames": version.frames,
            "last_tick": version.last_tick,
            "memory_version": version.memory.version,
            "coverage": (coverage.start, coverage.end, coverage.gaps),
            "pending_ticks": version.pending_ticks,
            "svd": (svd.rank, svd.forgetting, svd.rows_effective, svd.updates) if svd else None,
        }
    )


def arrays_of(version: Version) -> dict[str, Array]:
    """Everything of a version that is an array, by its name in the file."""
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
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _version(arrays: dict[str, Array], header: Header, network: NetworkConfig | None) -> Version:
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
    version = Version(
        memory,
        background,
        Coverage(*header.coverage),
        pending,
        tuple(arrays["pending_residual"]) if pending else (),
        header.pending_ticks,
        header.last_tick,
        header.frames,
    )
    if network is not None:
        _check_shapes(version, empty_version(network), network)
    return version


def _check_shapes(version: Version, wanted: Version, network: NetworkConfig) -> None:
    same = (
        all(
            getattr(version.memory, name).shape == getattr(wanted.memory, name).shape
            for name in ("features", "tick", "cell", "score", "valid")
        )
        and (version.background is None) == (wanted.background is None)
        and len(version.pending) == len(version.pending_ticks) < network.clip_frames
        and len(version.pending) == len(version.pending_residual)
        and all(one.shape == (49,) for one in version.pending_residual)
        and all(frame.shape == (49, network.d_backbone) for frame in version.pending)
    )
    if not same:
        raise StateError("its shapes are of another bundle")


def check_belongs(header: Header, *, model: str, source: str, folder: Path) -> None:
    """Raises StateError unless the snapshot was made by this model from this source."""
    if header.model != model:
        raise StateError(
            f"state {folder} was made by another bundle ({header.bundle}); use that one or another --state"
        )
    if header.source != source:
        raise StateError(
            f"state {folder} belongs to source {header.source}, not {source}; name another --state"
        )


def _keep_as(previous: Path, current: Path) -> None:
    """`current` under the name `previous` too, so that it is never away for whoever reads meanwhile."""
    spare = previous.with_name(previous.name + ".new")
    spare.unlink(missing_ok=True)
    try:
        os.link(current, spare)
    except OSError:  # FAT and its like know no second names: there it is away for the moment of a rename
        spare = current
    os.replace(spare, previous)
