"""`lvm-edge token`: make access tokens for the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_runtime.config.access_tokens import ROLES, hash_token, new_token
from edge_runtime.config.http import TokenSettings
from edge_runtime.interfaces.cli.completion import complete_from
from engines.errors import LvmError

app = typer.Typer(no_args_is_help=True, help="Make access tokens for HTTP.")


@app.command("new")
def new(
    role: Annotated[
        str,
        typer.Option(
            help="viewer (read, ask), operator (pause, …) or admin", autocompletion=complete_from(*ROLES)
        ),
    ] = "viewer",
    name: Annotated[str, typer.Option(help="name of the client, for the log")] = "",
) -> None:
    """Print a new token, and the lines of the configuration that accept it.

    The token is not stored; the configuration needs only its hash.
    """
    if role not in ROLES:
        raise LvmError(f"--role must be {', '.join(ROLES)}, got {role[:50]!r}")
    token = new_token()
    try:
        settings = TokenSettings(name=name or role, role=role, token_hash=hash_token(token))
    except ValueError:
        raise LvmError(
            f"--name must be up to 64 ASCII letters, digits, spaces, - _ and ., got {name[:80]!r}"
        ) from None
    print(f"token: {token}")
    print("http:")
    print("  tokens:")
    print(f"    - {{name: {settings.name}, role: {settings.role}, token_hash: '{settings.token_hash}'}}")


@app.callback()
def _tokens() -> None:
    """Tokens for the HTTP API."""
