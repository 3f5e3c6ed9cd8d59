"""`lvm-edge activities`: show the activity log of a state folder or of a running lvm-edge."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edge_runtime.activity.row import Row, format_csv
from edge_runtime.activity.sqlite_store import LogFilter, read_rows
from edge_runtime.interfaces.cli.completion import complete_from
from edge_runtime.interfaces.cli.locate import resolve_key, resolve_states
from edge_runtime.interfaces.cli.options import AnyCamera, Ca, Configuration, KeyFile, State, Token, Url
from edge_runtime.interfaces.cli.remote import Server, resolve_server
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.persistence import StateError, load_snapshot
from edge_runtime.persistence.encryption import Key
from edge_runtime.query.answers import format_percent
from edge_runtime.query.timestamps import find_other_zone, format_instant
from edge_runtime.service.wall_clock import make_time_reader
from engines.errors import LvmError

FORMATS = ("table", "csv", "json")


def activities(
    camera: AnyCamera = None,
    start: Annotated[
        str | None, typer.Option("--from", help="seconds, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="as --from")] = None,
    text: Annotated[str, typer.Option(help="words that name or describe the activity")] = "",
    limit: Annotated[int, typer.Option(help="rows at most, the newest")] = 100,
    format: Annotated[
        str, typer.Option(help="table, csv or json", autocompletion=complete_from(*FORMATS))
    ] = "table",
    state: State = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Show which activities were recognised, newest first."""
    if format not in FORMATS:
        raise LvmError(f"--format must be table, csv or json, got {format[:50]!r}")
    if limit < 1:
        raise LvmError(f"--limit must be at least 1, got {limit}")
    server = resolve_server(url, token, ca, state=state, config=config, key=key)
    if server is not None:
        rows, more, asked = _call_server(server, camera, start, end, text, limit)
    else:
        secret, folders = resolve_key(config, key), resolve_states(state, camera, config)
        asked = {}
        logs = [
            _read_rows(folder, secret, start, end, text, limit, asked, name)
            for name, folder in folders.items()
        ]
        if not any(log is not None for log in logs):
            folder = next(iter(folders.values()))
            raise StateError(f"no memory in {folder}; run lvm-edge run --state {folder} first")
        every = sorted((row for log in logs for row in log or ()), key=lambda row: (row.written_at, row.id))
        rows, more = [row.as_json() for row in every[::-1][:limit]], len(every) > limit
    if format == "json":
        print(json.dumps({"activities": rows, "more": more} | ({"asked": asked} if start or end else {})))
    elif format == "csv":
        print(format_csv(rows), end="")
    else:
        if start or end:
            _print_spans(asked)
        _print_table(rows, more)


def _read_rows(
    folder: Path,
    key: Key | None,
    start: str | None,
    end: str | None,
    text: str,
    limit: int,
    asked: dict[str, Any],
    name: str,
) -> list[Row] | None:
    """Return rows of one log, at most `limit` + 1: the extra row tells that there are more; None where there
    is no memory. How the times were understood is added to `asked` under `name`."""
    saved = load_snapshot(folder, key=key)
    if saved is None:
        return None
    reader = make_time_reader(saved.header, saved.version.coverage)
    first, last = reader.read_span(start, end, ("--from", "--to"))
    asked[name] = reader.describe_span(first, last)
    return read_rows(folder, key, LogFilter(first, last, text, limit + 1))


def _call_server(
    server: Server, camera: str | None, start: str | None, end: str | None, text: str, limit: int
) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
    parameters = {"camera": camera, "from": start, "to": end, "text": text or None, "limit": limit}
    query = urllib.parse.urlencode({name: value for name, value in parameters.items() if value is not None})
    response = server.call("GET", f"/api/v1/activities?{query}")
    try:
        return list(response["activities"]), bool(response["more"]), dict(response.get("asked") or {})
    except (KeyError, TypeError):
        raise server.bad_response() from None


def _print_spans(asked: dict[str, Any]) -> None:
    """Print how the times were understood, for each camera: its clock is its own."""
    for name, span in asked.items():
        ends = [
            span.get(f"clock_{side}") or (None if span[side] is None else f"{span[side]:.1f} s")
            for side in ("from", "to")
        ]
        camera = f"{name}: " if name else ""
        print(f"{camera}{ends[0] or 'the beginning'} to {ends[1] or 'the end'}")


def _print_table(rows: list[dict[str, Any]], more: bool) -> None:
    if not rows:
        print("no such activity is logged")
        return
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("from", "to", "activity", "", "camera"):
        table.add_column(name, justify="right" if name in ("from", "to") else "left")
    for row in rows:
        also = f" or {', '.join(row['alternatives'])}" if row["alternatives"] else ""
        sure = format_percent(row["confidence"])
        table.add_row(*_format_times(row), f"{row['activity']}{also}", sure, row["camera"])
    print_table(table)
    if more:
        print(f"and more; --limit shows more than {len(rows)}")


def _format_times(row: dict[str, Any]) -> tuple[str, str]:
    """Return when it began and ended, as answers say it: clock times of a camera, seconds of a recording."""
    epoch = None if row.get("from_at") is None else row["from_at"] - row["from"]
    start, end = (
        format_instant(row[at], epoch, find_other_zone(row.get("clock_to"))) for at in ("from", "to")
    )
    return start, "goes on" if row["ongoing"] else end
