"""The YAML that a person starts from. Unknown keys are refused; the message names the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.paths import configs
from edge_runtime.queries import printable
from engines.errors import LvmError

MAX_CONFIG_BYTES = 1 << 20

M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(_Strict):
    source: str | int = Field(description="camera index, path, URL, gst:PIPELINE, csi://N or demo")


class Model(_Strict):
    bundle: Path | None = None
    backend: str = "auto"
    threads: int | None = Field(default=None, ge=1, le=256)
    sampler: str = "neural"


class State(_Strict):
    directory: Path | None = None
    save_interval_s: float = Field(default=10.0, ge=0, description="least time between two snapshots")


class Http(_Strict):
    enabled: bool = True
    listen: str = "127.0.0.1:8971"


class Objects(_Strict):
    catalogue: Path | None = Field(default=None, description="folder of one sub-folder of photos a product")


class Config(_Strict):
    version: Literal[1] = 1
    cameras: dict[str, Camera] = Field(default_factory=dict)
    model: Model = Model()
    state: State = State()
    http: Http = Http()
    objects: Objects = Objects()


def load_config(path: Path) -> Config:
    """Read a configuration. Raises LvmError with file, line and the first thing that is wrong."""
    if not path.exists() and path.name == str(path) and (configs() / path.name).is_file():
        path = configs() / path.name  # one of those that ship, by its name
    config = read_settings(path, Config)
    if len(config.cameras) > 1:
        raise LvmError(
            f"{path}: this version serves one camera, got {len(config.cameras)}: {', '.join(config.cameras)}"
        )
    return config


def read_settings(path: Path, model: type[M]) -> M:
    """A YAML file as `model`; an empty file is one that names nothing.

    Raises LvmError with file, line and the first thing that is wrong.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise LvmError(f"{path}: a configuration has at most {MAX_CONFIG_BYTES} bytes, got {size}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LvmError(f"{path}: the configuration cannot be read: {error}") from error
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise LvmError(f"{path}: aliases (*name) are not allowed in a configuration; write the value out")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        # Beside its own errors yaml passes on what reading a wrong date or number raises.
        raise LvmError(f"{path}: not YAML: {printable(' '.join(str(error).split()))[:400]}") from error
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"]) or "top level"
        said = printable(f"{place[:100]}: {problem['msg']}")[:400]
        raise LvmError(f"{path}:{_line(text, problem['loc'])}: {said}") from None


def _line(text: str, location: tuple[int | str, ...]) -> int:
    """Line, from 1, of the deepest part of `location` that is written in the file."""
    node: Any = yaml.compose(text, yaml.SafeLoader)
    line = 1
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == str(part):
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
