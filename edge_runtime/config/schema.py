"""The YAML that a person starts from. Unknown keys are refused; the message names the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_serializer

from edge_runtime.config.activities import ActivitySettings
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.config.paths import configs
from edge_runtime.config.privacy import EncryptionSettings, PrivacySettings
from edge_runtime.config.yaml_loader import MAX_CONFIG_BYTES, read_settings
from edge_runtime.system.logs import LogSettings
from edge_runtime.system.secrets import masked, redacted
from edge_runtime.system.validation import StrictModel

__all__ = ["MAX_CONFIG_BYTES", "Config", "load_config", "read_settings"]


def _camera_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ValueError("a camera's name is up to 64 letters, digits, - _ and . since a folder gets it")
    return name


SamplerName = Literal["neural", "svd-novelty", "random", "fifo"]
BackendName = Literal["auto", "tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime"]
CameraName = Annotated[str, AfterValidator(_camera_name)]


class CameraDefaults(StrictModel):
    """What each camera may have otherwise: its own value, else `defaults`, else that of `model` and `state`.

    Privacy zones of `defaults` are every camera's, beside its own.
    """

    sampler: SamplerName | None = Field(default=None, description="who decides what is remembered")
    sample_fps: float | None = Field(
        default=None, ge=1e-4, allow_inf_nan=False, description="frames a second, at most the bundle's rate"
    )
    save_interval_s: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="as state.save_interval_s"
    )
    privacy: PrivacySettings | None = None


class Camera(CameraDefaults):
    """One camera; its name is that of its folder. Credentials in `source` are shown nowhere."""

    source: str | int = Field(
        repr=False, description="camera index, path, URL, gst:PIPELINE, csi://N or demo"
    )
    state: Path | None = Field(default=None, description="folder of its memory")

    @field_serializer("source")
    def _redacted(self, source: str | int) -> str | int:
        return masked(redacted(source)) if isinstance(source, str) else source


class Model(StrictModel):
    bundle: Path | None = Field(
        default=None, description="bundle directory or archive, else the one that ships"
    )
    backend: BackendName = Field(default="auto", description="auto: the first of those named that runs here")
    threads: int | None = Field(default=None, ge=1, le=256, description="of each engine, else all cores")
    sampler: SamplerName = Field(default="neural", description="who decides what is remembered")


class State(StrictModel):
    directory: Path | None = Field(
        default=None, description="the memory of one camera, or a folder with one of each camera's name"
    )
    save_interval_s: float = Field(
        default=1.0,
        ge=0,
        description="time until a file's frames survive a power cut; a camera's do at once",
    )
    encryption: EncryptionSettings = EncryptionSettings()


class Objects(StrictModel):
    catalogue: Path | None = Field(
        default=None,
        description="folder of one sub-folder of photos a product, else catalogue under $LVM_EDGE_STATE",
    )


class Config(StrictModel):
    version: Literal[1] = 1
    defaults: CameraDefaults = CameraDefaults()
    cameras: dict[CameraName, Camera] = Field(default_factory=dict)
    model: Model = Model()
    state: State = State()
    http: HttpSettings = HttpSettings()
    mqtt: MqttSettings = MqttSettings()
    objects: Objects = Objects()
    activities: ActivitySettings = ActivitySettings()
    logs: LogSettings = LogSettings()


def load_config(path: Path) -> Config:
    """Read a configuration. Raises LvmError with file, line and the first thing that is wrong."""
    if not path.exists() and path.name == str(path) and (configs() / path.name).is_file():
        path = configs() / path.name  # one of those that ship, by its name
    return read_settings(path, Config)
