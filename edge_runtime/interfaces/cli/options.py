"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.interfaces.cli.remote import TOKEN

Url = Annotated[str | None, typer.Option("--url", help="address of a running lvm-edge")]
Token = Annotated[
    str | None, typer.Option("--token", help="token for --url; better in the environment", envvar=TOKEN)
]
Ca = Annotated[Path | None, typer.Option("--ca", help="certificate to verify --url https://… with")]

State = Annotated[
    Path | None,
    typer.Option("--state", help="folder of the memory (or of several); default: the one written last"),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", help="YAML configuration that names the state")
]
KeyFile = Annotated[Path | None, typer.Option("--key", help="file of the key, if the state is encrypted")]
OneCamera = Annotated[str | None, typer.Option("--camera", help="name of the camera, if there are several")]
AnyCamera = Annotated[str | None, typer.Option("--camera", help="name of the camera; default: all of them")]
BundleFolder = Annotated[Path | None, typer.Option("--bundle", help="bundle directory or archive")]
