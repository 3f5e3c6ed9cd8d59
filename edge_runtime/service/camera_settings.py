"""Settings of a camera: from a configuration or the command line, and the state header that they begin.

Where the memory of a configured camera lies:

    one camera      state.directory, else a folder named after its source
    several         FOLDER/NAME of each, FOLDER being state.directory, else `cameras` under the state root

A camera's own `state` comes before both. A configuration that grows from one camera to several, or shrinks
again, finds the memory where it lay.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.config.connection import ConnectionSettings, merge_connection
from edge_runtime.config.paths import cameras_root, catalogue_root, default_state_folder
from edge_runtime.config.privacy import PrivacySettings, merge_privacy
from edge_runtime.config.schema import Config
from edge_runtime.persistence import (
    MIN_FPS,
    Header,
    Snapshot,
    StateError,
    StateFolder,
    check_owner,
    is_same_source,
    load_header,
    model_digest,
)
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.persistence.load import check_source
from edge_runtime.persistence.set_aside import bring_back, set_aside
from edge_runtime.sources import canonicalise, is_live
from edge_runtime.sources.spec import identify_source
from edge_runtime.system.secrets import show_source
from engines.bundle import Bundle
from engines.errors import LvmError

log = logging.getLogger(__name__)

LIVE_CHANGES = {"source", "save_interval_s", "privacy", "connection", "title"}
"""Settings that may change while the camera runs; the others need another memory or other objects."""


@dataclass(frozen=True)
class CameraSettings:
    """Settings of one camera. `sample_fps` None is the bundle's rate; `name` "" is the source's own name."""

    source: str = field(repr=False)  # it may hold credentials
    state: Path
    name: str = ""
    title: str | None = None
    """For people; None is its name."""
    sampler: str = "neural"
    catalogue: Path | None = None
    save_interval_s: float = 1.0
    sample_fps: float | None = None
    privacy: PrivacySettings = PrivacySettings()
    connection: ConnectionSettings = ConnectionSettings()
    patient: bool = False
    """Whether to wait for a live source that is missing or refuses at the first opening, too."""

    @property
    def source_name(self) -> str:
        """The source for people, logs and the state file: without credentials."""
        return show_source(self.source)

    @property
    def source_fields(self) -> dict[str, str]:
        """The source in a state's header."""
        return {"source": self.source_name, "source_id": identify_source(self.source)}

    @property
    def display_name(self) -> str:
        return self.name or self.source_name


def check_change(old: CameraSettings, new: CameraSettings, *, recorded: bool = False) -> None:
    """Raise LvmError unless a running camera may take the new settings and keep its memory.

    `recorded` says that the old source, an address, is a recording.
    """
    fixed = [key for key in vars(old) if vars(old)[key] != vars(new)[key] and key not in LIVE_CHANGES]
    if fixed:
        raise LvmError(
            f"camera {old.display_name}: {fixed[0]} is fixed while it runs; remove the camera and add it "
            "again"
        )
    if new.source_fields != old.source_fields and not (
        is_live(new.source) and is_live(old.source) and not recorded
    ):
        raise LvmError(
            f"camera {old.display_name} remembers {old.source_name}: only a live source can take a live "
            f"one's place, got {new.source_name}; add it as another camera"
        )


def set_other_bundle_aside(settings: CameraSettings, folder: StateFolder, bundle: Bundle) -> None:
    """Set a memory of this camera that another bundle made aside, and take up that of this one if it waits.

    Raises StateError for another camera's memory, and where the files cannot be moved.
    """
    header, model = load_header(folder.folder, folder.key), model_digest(bundle)
    if header is None or header.model == model:
        return
    check_source(header, source=settings.source, camera=settings.name or None, folder=settings.state)
    try:
        place = set_aside(folder.folder, header.model, header.bundle, folder.disk)
        back = bring_back(folder.folder, model, folder.disk)
    except OSError as error:
        raise StateError(
            f"state {folder.folder}: the memory of another bundle cannot be set aside ({error.strerror})"
        ) from error
    log.warning(
        "%s: its memory was made by another bundle (%s) and is set aside in %s; %s",
        settings.display_name, header.bundle, place,
        "an earlier memory of this bundle goes on" if back else "a new memory begins",
    )  # fmt: skip


def make_header(settings: CameraSettings, bundle: Bundle, resumed: Snapshot | None) -> Header:
    """Make the header of a new memory, or continue that of a saved memory of this camera and bundle.

    Raises StateError for the memory of another, LvmError for a rate that the bundle does not have.
    """
    fastest, digest = bundle.manifest.network.sample_fps, model_digest(bundle)
    rate = settings.sample_fps or fastest
    if not MIN_FPS <= rate <= fastest:
        raise LvmError(
            f"camera {settings.display_name}: sample_fps must be at least {MIN_FPS:g} and at most the "
            f"bundle's {fastest:g}, got {rate:g}"
        )
    bundle_path, name = str(bundle.path.resolve()), settings.name or None
    if resumed is None:
        return Header(
            model=digest,
            bundle=bundle_path,
            **settings.source_fields,
            camera=name,
            sampler=settings.sampler,
            epoch=time.time(),
            sample_fps=rate,
            network=bundle.manifest.network,
        )
    header = resumed.header
    check_owner(header, model=digest, source=settings.source, camera=name, folder=settings.state)
    if header.sampler != settings.sampler:
        raise StateError(
            f"state {settings.state} was made with sampler {header.sampler}, not {settings.sampler}; name "
            "another --state"
        )
    changes = {"ended": False, "bundle": bundle_path, "sample_fps": rate, "network": bundle.manifest.network}
    return header.model_copy(update={**changes, **settings.source_fields, "camera": name or header.camera})


def make_source_settings(
    config: Config, source: str, state: Path | None, sampler: str | None
) -> CameraSettings:
    """Make the settings of a source that was named on the command line; the rest is the configuration's."""
    source, defaults = canonicalise(source), config.defaults
    return CameraSettings(
        source=source,
        state=state or config.state.directory or default_state_folder(source),
        sampler=sampler or defaults.sampler or config.model.sampler,
        catalogue=config.objects.catalogue or catalogue_root(),
        save_interval_s=_first(defaults.save_interval_s, config.state.save_interval_s),
        sample_fps=defaults.sample_fps,
        privacy=merge_privacy(defaults.privacy, None),
        connection=merge_connection(defaults.connection, None),
    )


def make_camera_settings(
    config: Config, state: Path | None = None, sampler: str | None = None
) -> dict[str, CameraSettings]:
    """Make the settings of all configured cameras, by name. `state` and `sampler` are the command line's."""
    return {name: _make_settings(config, name, state, sampler) for name in config.cameras}


def merge_camera_settings(config: Config, name: str, sampler: str | None = None) -> CameraSettings:
    """Return a camera's own settings, else those of `defaults`, else the general ones.

    `state` is the camera's own or Path().
    """
    own, defaults = config.cameras[name], config.defaults
    return CameraSettings(
        source=canonicalise(str(own.source)),
        state=own.state or Path(),
        name=name,
        title=own.title,
        sampler=sampler or own.sampler or defaults.sampler or config.model.sampler,
        catalogue=config.objects.catalogue or catalogue_root(),
        save_interval_s=_first(own.save_interval_s, defaults.save_interval_s, config.state.save_interval_s),
        sample_fps=own.sample_fps or defaults.sample_fps,
        privacy=merge_privacy(defaults.privacy, own.privacy),
        connection=merge_connection(defaults.connection, own.connection),
        patient=True,  # at a kiosk nobody reads the error: the camera may be switched on later
    )


def _make_settings(config: Config, name: str, state: Path | None, sampler: str | None) -> CameraSettings:
    settings = merge_camera_settings(config, name, sampler)
    folder = config.cameras[name].state or _find_folder(config, name, state, settings)
    products = settings.catalogue
    if products is not None and (folder == products or products in folder.parents):
        raise LvmError(
            f"the memory of camera {name} would lie among the products of the catalogue {products}; give the "
            f"camera another name or a state: of its own (if there is a memory in {folder}, move it there)"
        )
    return replace(settings, state=folder)


def _find_folder(config: Config, name: str, state: Path | None, camera: CameraSettings) -> Path:
    """Return the usual state folder, or the other one where only that has this camera's memory."""
    root = state or config.state.directory
    alone = root or default_state_folder(camera.source)
    among = (root or cameras_root()) / name
    usual, other = (among, alone) if len(config.cameras) > 1 else (alone, among)
    source, key = camera.source, find_key(config.state.encryption.key_file)
    if _has_memory(other, source, name, key) and not _has_memory(usual, source, name, key):
        return other
    return usual


def _has_memory(folder: Path, source: str, name: str, key: Key | None) -> bool:
    # Not the journal: every SIGHUP asks, and replaying it for each camera took 17 MB that stayed.
    header = load_header(folder, key)
    return header is not None and is_same_source(header, source=source, camera=name)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
