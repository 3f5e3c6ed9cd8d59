"""Cache the TensorRT plans built on this device, beside the bundle. The cache may be lost at any time.

A file is one line of JSON (what the plan was built from and for, its length and SHA-256) and the plan. Only
a plan with exactly the requested line is used: one of another GPU, of another TensorRT, of an older export or
cut off by a power switch counts as none, and is replaced.

    kiosk-bundle.plans/backbone-orin-8.7.plan     one for each graph and kind of GPU
    kiosk-bundle.plans/timings-orin-8.7.plan      what kernels took, so that the next build is faster
    kiosk-bundle.plans/lock                       held while building

Where the bundle's folder cannot be written, plans go to the user's cache folder; both are read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engines.fsync import fsync_folder
from engines.home import home_folder

log = logging.getLogger(__name__)

_FORMAT = 1
_MAX_HEADER_BYTES = 1 << 16
_TIMINGS = "timings"

Build = Callable[[bytes], tuple[bytes, bytes]]
"""Takes the timings of earlier builds (or b"") and returns a plan and the timings to store."""


@dataclass(frozen=True)
class PlanKey:
    """Everything that a plan depends on. Two plans with equal keys answer alike."""

    graph: str
    digest: str
    """SHA-256 of the graph and of the weights that it points into."""
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    shapes: str
    """Batch sizes of each optimisation profile; all other sizes are in the graph."""
    builder: int
    """Version of our own builder: what it asks of TensorRT is in the plan."""

    @property
    def file_name(self) -> str:
        """One name for each graph and kind of GPU, so that a stale plan is overwritten."""
        gpu = re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")[:60]
        return f"{self.graph}-{gpu}-{self.compute_capability}.plan"


@dataclass(frozen=True)
class Plan:
    """A plan, its file (None: it could not be written) and whether it was built just now."""

    data: bytes
    path: Path | None
    built: bool


class PlanCache:
    """The plans of one bundle. Safe under several processes and under a kill at any moment."""

    def __init__(self, bundle: Path) -> None:
        self.folders = (folder_beside(bundle), folder_in_cache(bundle))

    def load(self, key: PlanKey) -> Plan | None:
        """Return the plan with exactly this key, None where there is none."""
        for folder in self.folders:
            path = folder / key.file_name
            data = _read(path, key)
            if data is not None:
                return Plan(data, path, built=False)
        return None

    def get(self, key: PlanKey, build: Build, *, fresh: bool = False) -> Plan:
        """Return the plan with this key, built if there is none; `fresh` builds it in any case.

        While another process builds, this one waits and then uses that plan: two builds on one GPU would
        spoil each other's timings. What `build` raises is passed on, and nothing is written then.
        """
        plan = None if fresh else self.load(key)
        if plan is not None:
            return plan
        folder = next((folder for folder in self.folders if _writable(folder)), None)
        timings = replace(key, graph=_TIMINGS, digest="", precision="", shapes="")
        if folder is None:
            log.warning(
                "plans cannot be stored in %s: each start builds them", " or ".join(map(str, self.folders))
            )
            return Plan(build(b"")[0], None, built=True)
        with _locked(folder / "lock"):
            plan = None if fresh else self.load(key)
            if plan is not None:
                return plan
            data, measured = build(_read(folder / timings.file_name, timings) or b"")
            _write(folder / timings.file_name, timings, measured)
            written = _write(folder / key.file_name, key, data)
        return Plan(data, folder / key.file_name if written else None, built=True)


def folder_beside(bundle: Path) -> Path:
    """Return the folder of plans beside a bundle directory or archive."""
    path = bundle.absolute()
    return path.with_name(path.name + ".plans")


def folder_in_cache(bundle: Path) -> Path:
    """Return the folder of plans of a bundle whose own folder cannot be written."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or home_folder(".cache", or_else="/var/cache"))
    digest = hashlib.sha256(str(bundle.absolute()).encode()).hexdigest()[:12]
    return root / "lvm-edge" / "plans" / digest


def _read(path: Path, key: PlanKey) -> bytes | None:
    """Return what was stored under exactly this key; None for anything else."""
    try:
        with path.open("rb") as file:
            if not _trusted(os.fstat(file.fileno())):
                log.warning("plan %s is not used: users other than you and root may have written it", path)
                return None
            line = file.readline(_MAX_HEADER_BYTES)
            data = file.read()
    except OSError:
        return None
    return data if line == _header(key, data) else None


def _trusted(info: os.stat_result) -> bool:
    """Whether a file may be used: a plan is code, so only this user or root may be able to write it."""
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid()) and not info.st_mode & others


def _header(key: PlanKey, data: bytes) -> bytes:
    fields = {
        "format": _FORMAT,
        **asdict(key),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return json.dumps(fields, sort_keys=True).encode() + b"\n"


def _write(path: Path, key: PlanKey, data: bytes) -> bool:
    """Write as a whole or not at all. Returns False, with a warning, where that fails: it is only a cache."""
    fresh = path.with_name(path.name + ".new")  # one name: the rest of a killed build is overwritten
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: root builds for the service's user
            file.write(_header(key, data))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        fsync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        log.warning("%s cannot be written: %s", path, error.strerror)
        return False
    return True


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a"):
            return True
    except OSError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock, as one process at a time; the system releases it when a process ends in any way."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process builds plans in %s; waiting for it", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
