"""`lvm-edge status`: what a state folder remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_runtime.found import found_states, key_of
from edge_runtime.privacy.memo import load_memo
from edge_runtime.privacy.sealing import Key
from edge_runtime.state import load_snapshot
from edge_runtime.status import status_of


def status(
    camera: Annotated[str | None, typer.Option(help="name of the camera; default: all of them")] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="folder of the memory, or of several cameras'; default: the one written last"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration that says where it lies")] = None,
    key: Annotated[Path | None, typer.Option(help="file of the key, where the state is encrypted")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON object")] = False,
) -> None:
    """Show what is remembered. A folder without a memory has seen 0 frames."""
    secret = key_of(config, key)
    found = {name: _status(folder, secret) for name, folder in found_states(state, camera, config).items()}
    if as_json:
        print(json.dumps(next(iter(found.values())) if len(found) == 1 else {"cameras": found}))
        return
    for name, fields in found.items():
        table = Table.grid(padding=(0, 3))
        if name:
            table.add_row("camera", name)
        for field, value in fields.items():
            table.add_row(field, json.dumps(value) if isinstance(value, dict) else str(value))
        Console(highlight=False).print(table)


def _status(folder: Path, key: Key | None) -> dict[str, Any]:
    snapshot = load_snapshot(folder, key=key)
    found: dict[str, Any] = {"frames": 0} if snapshot is None else status_of(snapshot, folder).as_json()
    return found | {"state": str(folder), "paused": load_memo(folder).paused}
