"""Settings of a camera: from a configuration or the command line, and the state header that they begin.

    one camera      state.directory, else a folder named after its source
    several         FOLDER/NAME of each, FOLDER being state.directory, else `cameras` under the state root

A camera's own `state` comes before both. A configuration that grows from one camera to several, or shrinks
again, finds the memory where it lay.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.config.paths import cameras_root, catalogue_root, state_of
from edge_runtime.config.privacy import PrivacySettings, together
from edge_runtime.config.schema import Config
from edge_runtime.persistence import (
    LEAST_FPS,
    Header,
    Snapshot,
    StateError,
    belongs,
    check_belongs,
    load_header,
    model_digest,
)
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.sources import canonicalise, is_live
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
    if not LEAST_FPS <= rate <= fastest:
        raise LvmError(
            f"camera {settings.shown_name}: sample_fps must be at least {LEAST_FPS:g} and at most the "
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
    check_belongs(header, model=digest, source=source, camera=name, folder=settings.state)
    if header.sampler != settings.sampler:
        raise StateError(
            f"state {settings.state} was chosen by sampler {header.sampler}, not {settings.sampler}; name "
            "another --state"
        )
    here = {"bundle": place, "sample_fps": rate, "network": bundle.manifest.network}
    here |= {"source": source, "camera": name or header.camera}
    return header.model_copy(update={"ended": False, **here})


def one_camera(config: Config, source: str, state: Path | None, sampler: str | None) -> CameraSettings:
    """The camera that a person named on the command line; the rest is the configuration's."""
    wanted, defaults = canonicalise(source), config.defaults
    return CameraSettings(
        source=wanted,
        state=state or config.state.directory or state_of(wanted),
        sampler=sampler or defaults.sampler or config.model.sampler,
        catalogue=config.objects.catalogue or catalogue_root(),
        save_interval_s=_first(defaults.save_interval_s, config.state.save_interval_s),
        sample_fps=defaults.sample_fps,
        privacy=together(defaults.privacy, None),
    )


def cameras_of(
    config: Config, state: Path | None = None, sampler: str | None = None
) -> dict[str, CameraSettings]:
    """The cameras of a configuration, by name. `state` and `sampler` are the command line's."""
    return {name: _camera(config, name, state, sampler) for name in config.cameras}


def merged(config: Config, name: str, sampler: str | None = None) -> CameraSettings:
    """What holds for a camera: its own, else of `defaults`, else of all. `state` is its own or Path()."""
    own, defaults = config.cameras[name], config.defaults
    return CameraSettings(
        source=canonicalise(str(own.source)),
        state=own.state or Path(),
        name=name,
        sampler=sampler or own.sampler or defaults.sampler or config.model.sampler,
        catalogue=config.objects.catalogue or catalogue_root(),
        save_interval_s=_first(own.save_interval_s, defaults.save_interval_s, config.state.save_interval_s),
        sample_fps=own.sample_fps or defaults.sample_fps,
        privacy=together(defaults.privacy, own.privacy),
        patient=True,  # at a kiosk nobody reads the error: the camera may be switched on later
    )


def _camera(config: Config, name: str, state: Path | None, sampler: str | None) -> CameraSettings:
    settings = merged(config, name, sampler)
    folder = config.cameras[name].state or _folder(config, name, state, settings)
    products = settings.catalogue
    if products is not None and (folder == products or products in folder.parents):
        raise LvmError(
            f"the memory of camera {name} would lie among the products of the catalogue {products}; give the "
            f"camera another name or a state: of its own (if there is a memory in {folder}, move it there)"
        )
    return replace(settings, state=folder)


def _folder(config: Config, name: str, state: Path | None, camera: CameraSettings) -> Path:
    root = state or config.state.directory
    alone = root or state_of(camera.source)
    among = (root or cameras_root()) / name
    usual, other = (among, alone) if len(config.cameras) > 1 else (alone, among)
    source, key = camera.source_name, find_key(config.state.encryption.key_file)
    if _remembers(other, source, name, key) and not _remembers(usual, source, name, key):
        return other
    return usual


def _remembers(folder: Path, source: str, name: str, key: Key | None) -> bool:
    # Not the journal: every SIGHUP asks, and replaying it for each camera took 17 MB that stayed.
    header = load_header(folder, key)
    return header is not None and belongs(header, source=source, camera=name)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
