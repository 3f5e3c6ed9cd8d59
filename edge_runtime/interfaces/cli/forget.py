"""`lvm-edge forget`: remove an interval from memory and disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_runtime.config.schema import load_config
from edge_runtime.interfaces.cli.locate import resolve_key, resolve_state
from edge_runtime.interfaces.cli.options import Ca, KeyFile, OneCamera, Token, Url
from edge_runtime.interfaces.cli.remote import resolve_server
from edge_runtime.persistence import StateError, load_snapshot
from edge_runtime.service.forget_folder import complete_forget_result, forget_in_folder
from edge_runtime.service.wall_clock import make_forget_reader


def forget(
    start: Annotated[str, typer.Option("--from", help="seconds, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS]")],
    end: Annotated[str, typer.Option("--to", help="as --from; not included")],
    state: Annotated[
        Path | None, typer.Option(help="folder of the memory; default: the one written last")
    ] = None,
    camera: OneCamera = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML configuration that names state, key and log")
    ] = None,
    key: KeyFile = None,
    log: Annotated[Path | None, typer.Option(help="log file to remove the interval from")] = None,
    reset_background: Annotated[
        bool, typer.Option("--reset-background", help="also reset the background model")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object")] = False,
) -> None:
    """Forget an interval: tokens, pending frames, thumbnails, activities, log lines and the previous
    snapshot."""
    server = resolve_server(url, token, ca, state=state, key=key, log=log, config=config)
    if server is not None:
        body: dict[str, Any] = {"from": start, "to": end, "reset_background": reset_background}
        if camera is not None:
            body["camera"] = camera
        result: dict[str, Any] = server.call("POST", "/api/v1/forget", body)
    else:
        result = _forget_in_folder(start, end, state, camera, config, key, log, reset_background)
    if as_json:
        print(json.dumps(result))
        return
    span = f"{result['start']:.1f} to {result['end']:.1f} s"
    if result.get("clock_from"):
        span = f"{result['clock_from']} to {result['clock_to']} ({span})"
    if not result.get("watched_s", 1) and not result["removed"]:
        print(f"nothing is removed: from {span} nothing was watched, or it was forgotten before")
        return
    print(
        f"forgotten: {span}, {result['tokens']} tokens, "
        f"{result['pending_frames']} frames of the running clip, {result['thumbnails']} thumbnails, "
        f"{result['activities']} activities, {result.get('examples', 0)} examples, "
        f"{result['log_lines']} log lines; "
        f"what remains: {result['remains']}"
    )


def _forget_in_folder(
    start: str,
    end: str,
    state: Path | None,
    camera: str | None,
    config: Path | None,
    key_file: Path | None,
    log: Path | None,
    reset: bool,
) -> dict[str, Any]:
    if config is not None:
        log = log or load_config(config).logs.file
    folder, key = resolve_state(state, camera, config), resolve_key(config, key_file)
    saved = load_snapshot(folder, key=key)
    if saved is None:
        raise StateError(f"no memory in {folder}: there is nothing to forget")
    header = saved.header
    reader = make_forget_reader(header, saved.version.coverage)
    first, last = reader.read_window(start, end, ("--from", "--to"))
    result = forget_in_folder(folder, first, last, key=key, reset_background=reset)
    return {**complete_forget_result(result, log, header).as_json(), "state": str(folder)}
