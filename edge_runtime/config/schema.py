"""Schema of the YAML configuration. Unknown keys are refused; the message names the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_serializer, field_validator

from edge_runtime.config.connection import ConnectionSettings
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.config.paths import configs
from edge_runtime.config.privacy import EncryptionSettings, PrivacySettings
from edge_runtime.config.yaml_loader import MAX_CONFIG_BYTES, read_settings
from edge_runtime.system.logs import LogSettings
from edge_runtime.system.secrets import mask_secrets, register_source, show_source
from edge_runtime.system.validation import StrictModel


class ActivitySettings(StrictModel):
    """Recognition of activities and the log of them, which lies in the state folder of each camera."""

    enabled: bool = True
    max_rows: int = Field(default=20_000, ge=1, le=1_000_000, description="maximum rows of a camera's log")
    keep_days: float = Field(default=90.0, gt=0, le=3650, description="age at which a row is removed")
    min_confidence: float = Field(default=0.9, ge=0, le=1, description="below it, an activity is not logged")
    class_confidence: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict,
        description="instead of min_confidence, for activities by name; else those that accuse somebody "
        "need at least 0.97",
    )


__all__ = ["MAX_CONFIG_BYTES", "Config", "load_config", "read_settings"]


def _check_camera_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ValueError(
            "a camera's name is up to 64 ASCII letters, digits, - _ and . since a folder gets it"
        )
    return name


def _check_title(title: str) -> str:
    title = title.strip()
    if not (1 <= len(title) <= MAX_TITLE and title.isprintable()):
        raise ValueError(f"a camera's title has 1 to {MAX_TITLE} printable characters")
    return title


MAX_TITLE = 64
SamplerName = Literal["neural", "svd-novelty", "random", "fifo"]
BackendName = Literal["auto", "tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime"]
CameraName = Annotated[str, AfterValidator(_check_camera_name)]


class CameraDefaults(StrictModel):
    """Settings of each camera: its own value, else that of `defaults`, else that of `model` or `state`.

    The privacy zones of `defaults` apply to every camera, besides its own.
    """

    sampler: SamplerName | None = Field(default=None, description="chooses which tokens are remembered")
    sample_fps: float | None = Field(
        default=None, ge=1e-4, allow_inf_nan=False, description="frames a second, at most the bundle's rate"
    )
    save_interval_s: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="see state.save_interval_s"
    )
    connection: ConnectionSettings | None = None
    privacy: PrivacySettings | None = None


class Camera(CameraDefaults):
    """A camera; its folder has its name. Credentials in `source` are never shown."""

    source: str | int = Field(
        repr=False, description="camera number or device, path, pattern, URL, gst:PIPELINE, csi://N or demo"
    )
    title: Annotated[str, AfterValidator(_check_title)] | None = Field(
        default=None, description="for people: shown on the page, in the API and in Home Assistant"
    )
    state: Path | None = Field(default=None, description="folder of its memory")

    @field_validator("source")
    @classmethod
    def _register_source(cls, source: str | int) -> str | int:
        register_source(str(source))
        return source

    @field_serializer("source")
    def _show_source(self, source: str | int) -> str | int:
        return mask_secrets(show_source(source)) if isinstance(source, str) else source


class Model(StrictModel):
    bundle: Path | None = Field(
        default=None, description="bundle directory or archive; default: the one that ships"
    )
    backend: BackendName = Field(default="auto", description="auto: the first of the others that runs here")
    threads: int | None = Field(default=None, ge=1, le=256, description="per engine; default: all cores")
    sampler: SamplerName = Field(default="neural", description="chooses which tokens are remembered")


class State(StrictModel):
    directory: Path | None = Field(
        default=None, description="folder of one camera's memory, or of a subfolder for each camera"
    )
    save_interval_s: float = Field(
        default=1.0,
        ge=0,
        description="time until frames of a file survive a power cut; frames of a camera do at once",
    )
    encryption: EncryptionSettings = EncryptionSettings()


class Objects(StrictModel):
    catalogue: Path | None = Field(
        default=None,
        description="folder with a subfolder of photos for each product; default: $LVM_EDGE_STATE/catalogue",
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
    """Read a configuration. Raises LvmError with file, line and the first problem."""
    if not path.exists() and path.name == str(path) and (configs() / path.name).is_file():
        path = configs() / path.name  # a shipped configuration
    return read_settings(path, Config)
