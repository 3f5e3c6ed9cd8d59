"""`lvm-edge check-config`: check a configuration and print the settings that it gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from edge_runtime.config.schema import Config, load_config
from edge_runtime.service.camera_settings import make_camera_settings, merge_camera_settings
from edge_runtime.sources import canonicalise, is_demo, is_live
from edge_runtime.sources.spec import has_source
from edge_runtime.system.secrets import hide_all, hide_secrets, mask_secrets, show_source
from engines.errors import LvmError


def check_config(
    file: Annotated[
        Path | None, typer.Argument(help="YAML configuration, or the name of one that ships")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="print all settings in effect, without secrets")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of configurations")] = False,
) -> None:
    """Check a configuration without starting anything. Exit status 2, with file and line, if it is wrong.
    What is only missing on this machine is a note, since the configuration may be meant for another
    machine."""
    if schema:
        print(json.dumps(make_config_schema(), indent=2))
        return
    if file is None:
        raise LvmError("name the configuration: lvm-edge check-config FILE")
    config = load_config(file)
    if show:
        # Every setting in effect, also of each camera. Tokens and credentials are blanked.
        settings = config.model_dump(mode="json", by_alias=True)
        for name, camera in settings["cameras"].items():
            merged_camera = merge_camera_settings(config, name)
            camera |= {
                "sampler": merged_camera.sampler,
                "sample_fps": merged_camera.sample_fps,
                "save_interval_s": merged_camera.save_interval_s,
                "connection": merged_camera.connection.model_dump(mode="json"),
                "privacy": merged_camera.privacy.model_dump(mode="json"),
            }
        print(
            mask_secrets(yaml.safe_dump(hide_all(settings), sort_keys=False, allow_unicode=True)),
            end="",
        )
    for note in find_missing(config):
        typer.echo(f"{file}: note: {hide_secrets(note)}", err=True)
    if not show:
        cameras = ", ".join(config.cameras) or "no cameras: name one with --camera or --source"
        print(f"{file}: sound; {cameras}")


def make_config_schema() -> dict[str, Any]:
    """Return the JSON schema of configurations, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def find_missing(config: Config) -> Iterator[str]:
    """Yield a message for each thing that the configuration names and this machine lacks."""
    for name, camera in config.cameras.items():
        spec = canonicalise(str(camera.source))
        device = f"/dev/video{spec}" if spec.isdecimal() else spec
        if device.startswith("/dev/video"):
            if not Path(device).exists():
                yield f"cameras.{name}.source: there is no {device} here"
        elif not is_live(spec) and not is_demo(spec) and not has_source(spec):
            yield f"cameras.{name}.source: there is no file {show_source(spec)} here"
    paths = {"model.bundle": config.model.bundle, "objects.catalogue": config.objects.catalogue}
    paths["state.encryption.key_file"] = config.state.encryption.key_file
    for setting, path in paths.items():
        if path is not None and not path.exists():
            yield f"{setting}: there is no {path} here"
    key = config.state.encryption.key_file
    if key is None or key.exists():
        try:
            make_camera_settings(config)
        except LvmError as error:
            yield str(error)
    if not config.cameras:
        yield "cameras: there are none; lvm-edge run needs --camera or --source"
