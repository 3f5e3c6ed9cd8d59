"""`lvm-edge token`: tokens for the HTTP door."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_runtime.config.access_tokens import ROLES, hash_of, new_token
from edge_runtime.config.http import TokenSettings
from edge_runtime.interfaces.cli.completion import among
from engines.errors import LvmError

app = typer.Typer(no_args_is_help=True, help="Make tokens for those who ask over HTTP.")


@app.command("new")
def new(
    role: Annotated[
        str,
        typer.Option(help="viewer (read, ask), operator (pause, …) or admin", autocompletion=among(*ROLES)),
    ] = "viewer",
    name: Annotated[str, typer.Option(help="whose it is, for the log")] = "",
) -> None:
    """Print a new token, and the lines of the configuration that let in whoever has it.

    The token is shown this once and kept nowhere; the configuration needs its hash only.
    """
    if role not in ROLES:
        raise LvmError(f"--role must be {', '.join(ROLES)}, got {role[:50]!r}")
    token = new_token()
    try:
        made = TokenSettings(name=name or role, role=role, token_hash=hash_of(token))
    except ValueError:
        raise LvmError(
            f"--name must be up to 64 letters, digits, spaces, - _ and ., got {name[:80]!r}"
        ) from None
    print(f"token: {token}")
    print("http:")
    print("  tokens:")
    print(f"    - {{name: {made.name}, role: {made.role}, token_hash: '{made.token_hash}'}}")


@app.callback()
def _tokens() -> None:
    """Tokens for the HTTP door."""
