"""`lvm-edge status`: what a state folder remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_runtime.paths import latest_state
from edge_runtime.state import load_snapshot
from edge_runtime.status import status_of


def status(
    state: Annotated[
        Path | None, typer.Option(help="folder of the memory; default: the one written last")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON object")] = False,
) -> None:
    """Show what is remembered. A folder without a memory has seen 0 frames."""
    folder = state or latest_state()
    snapshot = load_snapshot(folder)
    found: dict[str, Any] = {"frames": 0} if snapshot is None else status_of(snapshot, folder).as_json()
    found["state"] = str(folder)
    if as_json:
        print(json.dumps(found))
        return
    table = Table.grid(padding=(0, 3))
    for name, value in found.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else str(value))
    Console(highlight=False).print(table)
