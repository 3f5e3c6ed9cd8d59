"""`lvm-edge status`: what a state folder, or a running lvm-edge, remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_runtime.interfaces.cli.locate import found_states, key_of
from edge_runtime.interfaces.cli.options import AnyCamera, Ca, Configuration, KeyFile, State, Token, Url
from edge_runtime.interfaces.cli.remote import Server, server_of
from edge_runtime.persistence import load_snapshot
from edge_runtime.persistence.encryption import Key
from edge_runtime.privacy.saved_settings import load_memo
from edge_runtime.query.timestamps import span
from edge_runtime.service.status import make_status
from edge_runtime.sources import is_live
from engines.errors import LvmError


def status(
    camera: AnyCamera = None,
    state: State = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON object")] = False,
) -> None:
    """Show what is remembered. A folder without a memory has seen 0 frames."""
    server = server_of(url, token, ca, state=state, config=config, key=key)
    if server is not None:
        found = _of_running(server, camera)
    else:
        secret = key_of(config, key)
        folders = found_states(state, camera, config)
        found = {name: _status(folder, secret) for name, folder in folders.items()}
    if as_json:
        print(json.dumps(next(iter(found.values())) if len(found) == 1 else {"cameras": found}))
        return
    for name, fields in found.items():
        table = Table.grid(padding=(0, 3))
        if name:
            table.add_row("camera", name)
        for field, value in fields.items():
            table.add_row(field, _shown(field, value, is_live(str(fields.get("source", "")))))
        Console(highlight=False).print(table)


def _shown(field: str, value: Any, live: bool) -> str:
    """A field for a person."""
    if value is None or value in ([], {}):
        return "-"
    if field == "coverage":
        return _coverage(value, live)
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _coverage(told: Mapping[str, Any], live: bool) -> str:
    """From when to when was watched, by the clock where there is one, and how much of it was not."""
    if told["from"] is None:
        return "nothing was watched yet"
    watched = span(told["from"], told["to"], told["epoch"] if live else None)
    gaps = told["gaps"]
    missed = sum(gap["to"] - gap["from"] for gap in gaps)
    return f"{watched}, {f'{len(gaps)} gaps of {missed:.0f} s together' if gaps else 'without a gap'}"


def _of_running(server: Server, camera: str | None) -> dict[str, dict[str, Any]]:
    """Of each camera, or of the one that is meant."""
    try:
        told = server.call("GET", "/api/v1/cameras")
        found = {str(one["camera"]): dict(one) for one in (*told["cameras"], *told.get("awaited", ()))}
    except (KeyError, TypeError, ValueError):
        raise server.not_understood() from None
    if camera is None:
        return found
    if camera not in found:
        raise LvmError(f"{server.url} has no camera {camera!r}, it has {', '.join(found) or 'none'}")
    return {camera: found[camera]}


def _status(folder: Path, key: Key | None) -> dict[str, Any]:
    snapshot = load_snapshot(folder, key=key)
    found: dict[str, Any] = {"frames": 0} if snapshot is None else make_status(snapshot, folder).as_json()
    return found | {"state": str(folder), "paused": load_memo(folder).paused}
