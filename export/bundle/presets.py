"""Load named network configurations: YAML files that ship with the project."""

from __future__ import annotations

from pathlib import Path

import yaml

from edge_runtime.config.paths import configs
from engines.errors import LvmError
from engines.network_config import NetworkConfig


def preset_names() -> tuple[str, ...]:
    """Return the names that `load_preset` knows, sorted."""
    files = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def load_preset(name: str) -> NetworkConfig:
    """Load the configuration in `configs/presets/<name>.yaml`. Raises LvmError for an unknown name."""
    if name not in preset_names():
        raise LvmError(f"preset must be one of {', '.join(preset_names())}, got {name}")
    text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return NetworkConfig.model_validate(yaml.safe_load(text))


def _folder() -> Path:
    return configs() / "presets"
