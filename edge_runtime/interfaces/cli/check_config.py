"""`lvm-edge check-config`: whether a configuration is sound, and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from edge_runtime.config.schema import Config, load_config
from edge_runtime.service.camera_settings import make_camera_settings, merge_camera_settings
from edge_runtime.sources import canonical, is_demo, is_live
from edge_runtime.system.secrets import masked
from engines.errors import LvmError


def check_config(
    file: Annotated[
        Path | None, typer.Argument(help="YAML configuration, or the name of one that ships")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="print all settings as they will be, secrets blanked")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of configurations")] = False,
) -> None:
    """Check a configuration without starting anything. Exit status 2, with file and line, where it is wrong;
    what is missing on this machine only is a note, since it may be meant for another."""
    if schema:
        print(json.dumps(schema_of_config(), indent=2))
        return
    if file is None:
        raise LvmError("name the configuration: lvm-edge check-config FILE")
    config = load_config(file)
    if show:
        print(masked(yaml.safe_dump(effective(config), sort_keys=False, allow_unicode=True)), end="")
    for said in absent(config):
        typer.echo(f"{file}: note: {masked(said)}", err=True)
    if not show:
        cameras = ", ".join(config.cameras) or "no cameras: name one with --camera or --source"
        print(f"{file}: sound; {cameras}")


def schema_of_config() -> dict[str, Any]:
    """For editors, which complete and check with it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def effective(config: Config) -> dict[str, Any]:
    """Every setting with its value, written or not, for each camera with what `defaults` and the sections for
    all say; tokens and credentials are blanked."""
    shown = config.model_dump(mode="json", by_alias=True)
    for name, camera in shown["cameras"].items():
        holds = merge_camera_settings(config, name)
        camera |= {
            "sampler": holds.sampler,
            "sample_fps": holds.sample_fps,
            "save_interval_s": holds.save_interval_s,
            "privacy": holds.privacy.model_dump(mode="json"),
        }
    return shown


def absent(config: Config) -> Iterator[str]:
    """What the configuration names and this machine has not, a sentence each."""
    for name, camera in config.cameras.items():
        spec = canonical(str(camera.source))
        device = f"/dev/video{spec}" if spec.isdecimal() else spec
        if device.startswith("/dev/video"):
            if not Path(device).exists():
                yield f"cameras.{name}.source: there is no {device} here"
        elif not is_live(spec) and not is_demo(spec) and not Path(spec.removeprefix("follow:")).exists():
            yield f"cameras.{name}.source: there is no file {spec} here"
    named = {"model.bundle": config.model.bundle, "objects.catalogue": config.objects.catalogue}
    named["state.encryption.key_file"] = config.state.encryption.key_file
    for place, path in named.items():
        if path is not None and not path.exists():
            yield f"{place}: there is no {path} here"
    key = config.state.encryption.key_file
    if key is None or key.exists():
        try:
            make_camera_settings(config)
        except LvmError as error:
            yield str(error)
    if not config.cameras:
        yield "cameras: there are none; lvm-edge run needs --camera or --source"
