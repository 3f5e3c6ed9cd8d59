"""What a person can say about one camera, and the state header that it begins or goes on with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.persistence import MIN_FPS, Header, Snapshot, StateError, check_owner, model_digest
from edge_runtime.sources import is_live
from edge_runtime.system.secrets import redact
from engines.bundle import Bundle
from engines.errors import LvmError

LIVE_CHANGES = {"source", "save_interval_s", "privacy"}
"""Settings that may change while the camera runs; the others need another memory or other objects."""


@dataclass(frozen=True)
class CameraSettings:
    """One camera. `sample_fps` None is the bundle's rate; `name` "" is the source's own name."""

    source: str = field(repr=False)  # it may hold credentials
    state: Path
    name: str = ""
    sampler: str = "neural"
    catalogue: Path | None = None
    save_interval_s: float = 1.0
    sample_fps: float | None = None
    privacy: PrivacySettings = PrivacySettings()
    patient: bool = False
    """Whether a live source that is missing or refuses at the first opening is waited for, too."""

    @property
    def source_name(self) -> str:
        """The source for people, logs and the state file: without credentials."""
        return redact(self.source) if is_live(self.source) else self.source

    @property
    def shown_name(self) -> str:
        return self.name or self.source_name


def check_change(now: CameraSettings, wanted: CameraSettings) -> None:
    """Raise LvmError unless a running camera may take the other settings and keep its memory."""
    fixed = [key for key in vars(now) if vars(now)[key] != vars(wanted)[key] and key not in LIVE_CHANGES]
    if fixed:
        raise LvmError(
            f"camera {now.shown_name}: {fixed[0]} is fixed while it runs; remove the camera and add it again"
        )
    if wanted.source_name != now.source_name and not (is_live(wanted.source) and is_live(now.source)):
        raise LvmError(
            f"camera {now.shown_name} remembers {now.source_name}: only a live source can take a live one's "
            f"place, got {wanted.source_name}; add it as another camera"
        )


def first_header(settings: CameraSettings, bundle: Bundle, resumed: Snapshot | None) -> Header:
    """The header of a new memory, or of the one that was found if it is this camera's and this bundle's.

    Raises StateError where it is not, LvmError for a rate that the bundle does not have.
    """
    fastest, digest = bundle.manifest.network.sample_fps, model_digest(bundle)
    rate = settings.sample_fps or fastest
    if not MIN_FPS <= rate <= fastest:
        raise LvmError(
            f"camera {settings.shown_name}: sample_fps must be at least {MIN_FPS:g} and at most the "
            f"bundle's {fastest:g}, got {rate:g}"
        )
    place = str(bundle.path.resolve())
    if resumed is None:
        return Header(
            model=digest,
            bundle=place,
            source=settings.source_name,
            camera=settings.name or None,
            sampler=settings.sampler,
            epoch=time.time(),
            sample_fps=rate,
            network=bundle.manifest.network,
        )
    header = resumed.header
    source, name = settings.source_name, settings.name or None
    check_owner(header, model=digest, source=source, camera=name, folder=settings.state)
    if header.sampler != settings.sampler:
        raise StateError(
            f"state {settings.state} was chosen by sampler {header.sampler}, not {settings.sampler}; name "
            "another --state"
        )
    here = {"bundle": place, "sample_fps": rate, "network": bundle.manifest.network}
    here |= {"source": source, "camera": name or header.camera}
    return header.model_copy(update={"ended": False, **here})
