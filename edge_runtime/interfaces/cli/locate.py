"""Find the state folders, the key and the catalogue that the options of a command mean."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.config.paths import cameras_root, catalogue_root, find_latest_state
from edge_runtime.config.schema import load_config
from edge_runtime.persistence import FILE
from edge_runtime.persistence.encryption import Key, find_key
from edge_runtime.service.camera_settings import make_camera_settings
from edge_runtime.system.text import printable
from engines.errors import LvmError


def resolve_states(state: Path | None, camera: str | None, config: Path | None) -> dict[str, Path]:
    """Return state folders by camera name, or only that of `camera`. The name is "" if the state has none.

    Raises LvmError if there is no such camera, or no memory at all.
    """
    if config is not None:
        settings = load_config(config)
        folders = {name: own.state for name, own in make_camera_settings(settings, state).items()}
        if folders:
            return _select(folders, camera, str(config))
        state = state or settings.state.directory  # that of a source named on the command line
        if state is None:
            raise LvmError(f"{config} names no camera; name the memory with --state")
    if state is None and camera is None:
        latest = find_latest_state()
        return _find_memories(cameras_root()) if latest.parent == cameras_root() else {"": latest}
    root = state or cameras_root()
    folders = _find_memories(root)
    if camera is None and (not folders or (root / FILE).exists()):
        return {"": root}
    if not folders and (root / FILE).exists():
        raise LvmError(f"{root} is the memory of one camera: leave --camera out")
    return _select(folders, camera, str(root))


def resolve_state(state: Path | None, camera: str | None, config: Path | None) -> Path:
    """Return the only folder of `resolve_states`. Raises LvmError if there are several, or none."""
    folders = resolve_states(state, camera, config)
    if len(folders) != 1:
        raise LvmError(f"name one of the cameras with --camera: {', '.join(folders) or 'there are none'}")
    return next(iter(folders.values()))


def resolve_key(config: Path | None, key: Path | None) -> Key | None:
    """Return the key from `--key`, else from the configuration, else from the environment."""
    if key is None and config is not None:
        key = load_config(config).state.encryption.key_file
    return find_key(key)


def resolve_catalogue(config: Path | None, catalogue: Path | None) -> Path:
    """Return `--catalogue`, else that of the configuration, else the one under the state root."""
    if catalogue is None and config is not None:
        catalogue = load_config(config).objects.catalogue
    return catalogue or catalogue_root()


def _select(folders: dict[str, Path], camera: str | None, where: str) -> dict[str, Path]:
    if camera is None:
        return folders
    if camera not in folders:
        known = f"there are {', '.join(folders)}" if folders else "there is no camera's memory"
        raise LvmError(f"{where} knows no camera {printable(camera[:100])!r}; {known}")
    return {camera: folders[camera]}


def _find_memories(root: Path) -> dict[str, Path]:
    return {file.parent.name: file.parent for file in sorted(root.glob(f"*/{FILE}"))}
