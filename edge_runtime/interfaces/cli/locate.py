"""Which memory or catalogue a person means who names none, or a camera, or a configuration."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.config.paths import cameras_root, catalogue_root, latest_state
from edge_runtime.config.schema import load_config
from edge_runtime.persistence import FILE
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.service.camera_settings import make_camera_settings
from edge_runtime.system.text import printable
from engines.errors import LvmError


def found_states(state: Path | None, camera: str | None, config: Path | None) -> dict[str, Path]:
    """State folders by their cameras' names: of `camera`, else of all that are meant; "" has no name.

    Raises LvmError where there is no such camera, or no memory at all.
    """
    if config is not None:
        named = {name: one.state for name, one in make_camera_settings(load_config(config), state).items()}
        return _only(named, camera, str(config))
    if state is None and camera is None:
        latest = latest_state()
        return _memories(cameras_root()) if latest.parent == cameras_root() else {"": latest}
    root = state or cameras_root()
    among = _memories(root)
    if camera is None and (not among or (root / FILE).exists()):
        return {"": root}
    return _only(among, camera, str(root))


def found_state(state: Path | None, camera: str | None, config: Path | None) -> Path:
    """As `found_states`, where one is wanted."""
    found = found_states(state, camera, config)
    if len(found) != 1:
        raise LvmError(f"name one of the cameras with --camera: {', '.join(found) or 'there are none'}")
    return next(iter(found.values()))


def key_of(config: Path | None, key: Path | None) -> Key | None:
    """The key of the file that was named, else of the configuration, else of the environment."""
    if key is None and config is not None:
        key = load_config(config).state.encryption.key_file
    return find_key(key)


def catalogue_of(config: Path | None, catalogue: Path | None) -> Path:
    """The catalogue that was named, else the configuration's, else the one under the state root."""
    if catalogue is None and config is not None:
        catalogue = load_config(config).objects.catalogue
    return catalogue or catalogue_root()


def _only(named: dict[str, Path], camera: str | None, where: str) -> dict[str, Path]:
    if camera is None:
        return named
    if camera not in named:
        known = ", ".join(named) or "none"
        raise LvmError(f"{where} knows no camera {printable(camera[:100])!r}; there are {known}")
    return {camera: named[camera]}


def _memories(root: Path) -> dict[str, Path]:
    return {file.parent.name: file.parent for file in sorted(root.glob(f"*/{FILE}"))}
