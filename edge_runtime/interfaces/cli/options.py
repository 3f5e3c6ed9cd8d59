"""Options that several commands take, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.interfaces.cli.remote import TOKEN

Url = Annotated[str | None, typer.Option("--url", help="address of a running lvm-edge")]
Token = Annotated[
    str | None, typer.Option("--token", help="token for --url; better in the environment", envvar=TOKEN)
]
Ca = Annotated[Path | None, typer.Option("--ca", help="certificate that --url https://… is checked by")]

State = Annotated[
    Path | None,
    typer.Option("--state", help="folder of the memory (or of several); default: the one written last"),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", help="YAML configuration that says where it lies")
]
KeyFile = Annotated[Path | None, typer.Option("--key", help="file of the key, where the state is encrypted")]
OneCamera = Annotated[
    str | None, typer.Option("--camera", help="name of the camera, where there are several")
]
AnyCamera = Annotated[str | None, typer.Option("--camera", help="name of the camera; default: all of them")]
BundleFolder = Annotated[Path | None, typer.Option("--bundle", help="bundle directory or archive")]
