"""Configuration to cameras: who watches what, and in which folder each memory lies.

    one camera      state.directory, else a folder named after its source
    several         FOLDER/NAME of each, FOLDER being state.directory, else `cameras` under the state root

A camera's own `state` comes before both. A configuration that grows from one camera to several, or shrinks
again, finds the memory where it lay.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_runtime.config.paths import cameras_root, catalogue_root, default_state_folder
from edge_runtime.config.privacy import merge_privacy
from edge_runtime.config.schema import Config
from edge_runtime.persistence import is_same_source, load_header
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.sources import canonicalise
from engines.errors import LvmError


def one_camera(config: Config, source: str, state: Path | None, sampler: str | None) -> CameraSettings:
    """The camera that a person named on the command line; the rest is the configuration's."""
    wanted, defaults = canonicalise(source), config.defaults
    return CameraSettings(
        source=wanted,
        state=state or config.state.directory or default_state_folder(wanted),
        sampler=sampler or defaults.sampler or config.model.sampler,
        catalogue=config.objects.catalogue or catalogue_root(),
        save_interval_s=_first(defaults.save_interval_s, config.state.save_interval_s),
        sample_fps=defaults.sample_fps,
        privacy=merge_privacy(defaults.privacy, None),
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
        privacy=merge_privacy(defaults.privacy, own.privacy),
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
    alone = root or default_state_folder(camera.source)
    among = (root or cameras_root()) / name
    usual, other = (among, alone) if len(config.cameras) > 1 else (alone, among)
    source, key = camera.source_name, find_key(config.state.encryption.key_file)
    if _remembers(other, source, name, key) and not _remembers(usual, source, name, key):
        return other
    return usual


def _remembers(folder: Path, source: str, name: str, key: Key | None) -> bool:
    # Not the journal: every SIGHUP asks, and replaying it for each camera took 17 MB that stayed.
    header = load_header(folder, key)
    return header is not None and is_same_source(header, source=source, camera=name)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
