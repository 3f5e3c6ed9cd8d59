"""`lvm-edge init`: write a first configuration, from options or from questions on a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.config.paths import state_root
from edge_runtime.config.schema import load_config
from edge_runtime.sources import canonicalise
from edge_runtime.sources.discovery import list_cameras
from edge_runtime.system.text import printable
from engines.errors import LvmError, Unavailable
from engines.fsync import fsync_folder

FILE_MODE = 0o600
"""A source address may hold a password."""

_TEMPLATE = """\
# Made by lvm-edge init. All settings: lvm-edge check-config --show, docs/configuration.md.
#   lvm-edge check-config {file}
#   lvm-edge run --config {file}          kill -HUP PID reads the cameras again
version: 1

# By name, which is also the name of the folder of its memory.
cameras:
{cameras}
# privacy zones for every camera: they are blacked out
#defaults:
#  privacy: {{zones: {{keypad: [[0.6, 0.7], [0.8, 0.7], [0.8, 0.95], [0.6, 0.95]]}}}}

model:
  backend: auto                   # the best one on this machine
{state}
http:
  enabled: {http}
  listen: {listen}
  # other machines need a token: lvm-edge token new

# photos of products that questions may name; default: catalogue under $LVM_EDGE_STATE
#objects: {{catalogue: /etc/lvm-edge/catalogue}}
"""


def init(
    file: Annotated[Path, typer.Argument(help="file to write the configuration to")] = Path("lvm-edge.yaml"),
    source: Annotated[
        list[str] | None, typer.Option(help="[NAME=]source to watch, as for run; may be repeated")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="folder of the memories; default: that of this user")
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT of the HTTP server")] = "127.0.0.1:8971",
    no_http: Annotated[bool, typer.Option("--no-http", help="do not listen")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write a first configuration. On a terminal, asks for what no option gives; elsewhere it takes the
    cameras that are connected."""
    if file.exists() and not force:
        raise LvmError(f"{file} exists already: name another file, or --force to replace it")
    sources = source or [camera.source for camera in list_cameras() if camera.problem is None]
    if not source and _is_terminal():
        sources = _ask_sources(sources)
        state = state or _ask_state()
    if not sources:
        raise Unavailable("no camera was found here: name what to watch with --source")
    _write(file, _render(file, _name_cameras(sources), state, listen, not no_http), force)
    cameras = f"{len(sources)} camera{'s' if len(sources) > 1 else ''}"
    print(f"{file}: written, {cameras}; lvm-edge run --config {file}")


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask_sources(defaults: Sequence[str]) -> list[str]:
    for camera in list_cameras():
        typer.echo(
            f"  {camera.source:8} {camera.name} at {camera.path}"
            + (f" ({camera.problem})" if camera.problem else "")
        )
    answer: str = typer.prompt(
        "What to watch (camera numbers, files or addresses, separated by blanks; demo needs none)",
        default=" ".join(defaults) or "demo",
    )
    return answer.split()


def _ask_state() -> Path | None:
    answer: str = typer.prompt("Folder of the memories", default=str(state_root()))
    return None if answer == str(state_root()) else Path(answer)


def _name_cameras(sources: Sequence[str]) -> dict[str, str]:
    """Return the sources by camera name: the name before =, else camera1, camera2, …"""
    cameras: dict[str, str] = {}
    for number, source in enumerate(sources, 1):
        name, spec = _split_name(source, f"camera{number}")
        if name in cameras:
            raise LvmError(f"two cameras are called {name}: give each a name, NAME=SOURCE")
        # Absolute paths: the service that reads this may start in another folder.
        cameras[name] = canonicalise(spec)
    return cameras


def _split_name(source: str, default: str) -> tuple[str, str]:
    """Split `[NAME=]SOURCE` into name and source. Raises LvmError for an invalid name."""
    name, equals, spec = source.partition("=")
    if not equals or set("/:?") & set(name) or Path(source).exists():  # = is part of an address or a filename
        return default, source
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or not spec:
        raise LvmError(
            f"NAME=SOURCE needs a name of up to 64 ASCII letters, digits, - _ and ., "
            f"got {printable(name[:70])!r}"
        )
    return name, spec


def _render(file: Path, cameras: dict[str, str], state: Path | None, listen: str, http: bool) -> str:
    cameras_yaml = [
        f"  {name}:\n    source: {spec if spec.isdecimal() else _quote(spec)}\n"
        for name, spec in cameras.items()
    ]
    state_yaml = "" if state is None else f"\nstate:\n  directory: {_quote(os.path.abspath(state))}\n"
    return _TEMPLATE.format(
        file=file,
        cameras="".join(cameras_yaml),
        state=state_yaml,
        listen=_quote(listen),
        http=json.dumps(http),
    )


def _quote(text: str) -> str:
    """Return `text` as a YAML string. ${NAME} in it still refers to the environment."""
    return json.dumps(text, ensure_ascii=False)


def _write(file: Path, text: str, force: bool) -> None:
    """Write the file atomically, if check-config accepts it. Raises LvmError."""
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(descriptor)
            _check(Path(fresh), file)
            os.chmod(fresh, FILE_MODE)
            if force:
                os.replace(fresh, file)
            else:
                os.link(fresh, file)  # fails if the file exists by now
            fsync_folder(file.absolute().parent)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except OSError as error:
        raise LvmError(f"{file} cannot be written: {error.strerror}") from error


def _check(fresh: Path, file: Path) -> None:
    try:
        load_config(fresh)
    except LvmError as error:
        raise LvmError(str(error).replace(str(fresh), str(file))) from None
