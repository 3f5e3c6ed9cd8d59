"""`lvm-edge status`: show what a state folder or a running lvm-edge remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edge_runtime.interfaces.cli.locate import resolve_key, resolve_states
from edge_runtime.interfaces.cli.options import AnyCamera, Ca, Configuration, KeyFile, State, Token, Url
from edge_runtime.interfaces.cli.remote import Server, resolve_server
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.persistence import Snapshot, StateError, load_snapshot
from edge_runtime.privacy.saved_settings import load_saved_settings
from edge_runtime.query.answers import format_share
from edge_runtime.query.timestamps import find_other_zone, format_span
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
    """Show what is remembered. Of several cameras, one without a memory has seen 0 frames."""
    server = resolve_server(url, token, ca, state=state, config=config, key=key)
    if server is not None:
        statuses = _call_server(server, camera)
    else:
        secret = resolve_key(config, key)
        folders = resolve_states(state, camera, config)
        saved = {name: load_snapshot(folder, key=secret) for name, folder in folders.items()}
        if not any(saved.values()):
            folder = next(iter(folders.values()))
            raise StateError(f"no memory in {folder}; run lvm-edge run --state {folder} first")
        statuses = {name: _make_status(saved[name], folder) for name, folder in folders.items()}
    if as_json:
        print(json.dumps(next(iter(statuses.values())) if len(statuses) == 1 else {"cameras": statuses}))
        return
    for name, fields in statuses.items():
        table = Table.grid(padding=(0, 3))
        if name:
            table.add_row("camera", name)
        for field, value in fields.items():
            table.add_row(field, _format_field(field, value, _is_on_clock(fields)))
        print_table(table)


def _is_on_clock(fields: Mapping[str, Any]) -> bool:
    """Return whether a camera has clock times; an earlier version says only what its source is."""
    return bool(fields.get("on_clock", is_live(str(fields.get("source", "")))))


def _format_field(field: str, value: Any, on_clock: bool) -> str:
    if value is None or value in ([], {}):
        return "-"
    if field == "coverage":
        return _format_coverage(value, on_clock)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _format_coverage(coverage: Mapping[str, Any], on_clock: bool) -> str:
    """Return the time watched, with times of day if it has a clock, how much of it, and its gaps."""
    if coverage["from"] is None:
        return "nothing was watched yet"
    epoch, zone = coverage["epoch"] if on_clock else None, find_other_zone(coverage.get("clock_to"))
    watched = format_span(coverage["from"], coverage["to"], epoch, zone=zone)
    gaps, share = coverage["gaps"], coverage.get("watched_share")
    missed = sum((gap["to"] - gap["from"]) * (1 - sum(gap.get("watched_share", (0,))) / 2) for gap in gaps)
    more = "over " if any("watched_share" in gap for gap in gaps) else ""
    several = f"{more}{len(gaps)} gaps of {missed:.0f} s together" if gaps else "without a gap"
    counted = f"1 gap of {missed:.0f} s" if len(gaps) == 1 else several
    return f"{format_share(share)}{watched}, {counted}"


def _call_server(server: Server, camera: str | None) -> dict[str, dict[str, Any]]:
    """Return the status of each camera, or only that of `camera`."""
    try:
        response = server.call("GET", "/api/v1/cameras")
        rows = (*response["cameras"], *response.get("awaited", ()))
        cameras = {str(row["camera"]): dict(row) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise server.bad_response() from None
    if camera is None:
        return cameras
    if camera not in cameras:
        raise LvmError(f"{server.masked_url} has no camera {camera!r}, it has {', '.join(cameras) or 'none'}")
    return {camera: cameras[camera]}


def _make_status(snapshot: Snapshot | None, folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = {"frames": 0} if snapshot is None else make_status(snapshot, folder).as_json()
    return fields | {"state": str(folder), "paused": load_saved_settings(folder).paused}
