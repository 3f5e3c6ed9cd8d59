"""`lvm-edge init`: a first configuration, asked for on a terminal or given as options."""

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
from edge_runtime.sources import canonical
from edge_runtime.sources.discovery import present
from edge_runtime.system.text import printable
from engines.durable import fsync_folder
from engines.errors import LvmError, Unavailable

FILE_MODE = 0o600
"""An address may hold a password."""

_TEMPLATE = """\
# Made by lvm-edge init. What else can be said: lvm-edge check-config --show, docs/configuration.md.
#   lvm-edge check-config {file}
#   lvm-edge run --config {file}          kill -HUP PID reads the cameras again
version: 1

# By name: the folder of each memory is called so.
cameras:
{cameras}
# privacy zones, for every camera: what lies in them is never seen
#defaults:
#  privacy: {{zones: {{keypad: [[0.6, 0.7], [0.8, 0.7], [0.8, 0.95], [0.6, 0.95]]}}}}

model:
  backend: auto                   # the best that this machine has
{state}
http:
  enabled: {http}
  listen: {listen}
  # beyond this machine only with tokens: lvm-edge token new

# photos of products that questions may name; default: catalogue under $LVM_EDGE_STATE
#objects: {{catalogue: /etc/lvm-edge/catalogue}}
"""


def init(
    file: Annotated[Path, typer.Argument(help="where the configuration is written")] = Path("lvm-edge.yaml"),
    source: Annotated[
        list[str] | None, typer.Option(help="[NAME=]what to watch, as for run; may be repeated")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="folder of the memories; default: this user's")] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT of the HTTP door")] = "127.0.0.1:8971",
    no_http: Annotated[bool, typer.Option("--no-http", help="do not listen")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> None:
    """Write a first configuration. Asks on a terminal what no option says; elsewhere it takes the cameras
    that there are."""
    if file.exists() and not force:
        raise LvmError(f"{file} exists already: name another file, or --force to replace it")
    named = source or _sources()
    if not source and _is_terminal():
        named = _asked(named)
        state = state or _asked_state()
    if not named:
        raise Unavailable("no camera was found here: name what to watch with --source")
    _write(file, _text(file, _cameras(named), state, listen, not no_http), force)
    print(
        f"{file}: written, {len(named)} camera{'s' if len(named) > 1 else ''}; lvm-edge run --config {file}"
    )


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _sources() -> list[str]:
    return [one.source for one in present() if one.problem is None]


def _asked(found: Sequence[str]) -> list[str]:
    for one in present():
        typer.echo(
            f"  {one.source:8} {one.name} at {one.path}" + (f" ({one.problem})" if one.problem else "")
        )
    answer: str = typer.prompt(
        "What to watch (camera numbers, files or addresses, with blanks between; demo needs none)",
        default=" ".join(found) or "demo",
    )
    return answer.split()


def _asked_state() -> Path | None:
    answer: str = typer.prompt("Folder of the memories", default=str(state_root()))
    return None if answer == str(state_root()) else Path(answer)


def _cameras(named: Sequence[str]) -> dict[str, str]:
    """Sources by the camera's name: what stands before =, else camera1, camera2, …"""
    cameras: dict[str, str] = {}
    for number, one in enumerate(named, 1):
        name, spec = _named(one, f"camera{number}")
        if name in cameras:
            raise LvmError(f"two cameras are called {name}: give each a name, NAME=SOURCE")
        # Paths become absolute: the service that reads this starts elsewhere.
        cameras[name] = canonical(spec)
    return cameras


def _named(one: str, otherwise: str) -> tuple[str, str]:
    """Name and source of `[NAME=]SOURCE`. Raises LvmError where what stands before = can be no name."""
    name, equals, spec = one.partition("=")
    if not equals or set("/:?") & set(name) or Path(one).exists():  # the = belongs to an address or a file
        return otherwise, one
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or not spec:
        raise LvmError(
            f"NAME=SOURCE needs a name of up to 64 letters, digits, - _ and ., got {printable(name[:70])!r}"
        )
    return name, spec


def _text(file: Path, cameras: dict[str, str], state: Path | None, listen: str, http: bool) -> str:
    lines = [
        f"  {name}:\n    source: {spec if spec.isdecimal() else _quoted(spec)}\n"
        for name, spec in cameras.items()
    ]
    where = "" if state is None else f"\nstate:\n  directory: {_quoted(os.path.abspath(state))}\n"
    return _TEMPLATE.format(
        file=file, cameras="".join(lines), state=where, listen=_quoted(listen), http=json.dumps(http)
    )


def _quoted(text: str) -> str:
    """As YAML; what looks like ${NAME} stays the environment's."""
    return json.dumps(text, ensure_ascii=False)


def _write(file: Path, text: str, force: bool) -> None:
    """Whole or not at all, and only what check-config accepts. Raises LvmError."""
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
                os.link(fresh, file)  # which fails where there is one meanwhile
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
