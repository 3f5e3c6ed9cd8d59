"""`lvm-edge completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_runtime.cli.completed import among
from engines.errors import LvmError

SHELLS = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish", autocompletion=among(*SHELLS))],
) -> None:
    """Print the completion script of a shell: eval "$(lvm-edge completion bash)", or put it where the shell
    looks. lvm-edge --install-completion does that for the shell that calls it."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in SHELLS:
        raise LvmError(f"the shell must be one of {', '.join(SHELLS)}, got {shell[:50]!r}")
    print(get_completion_script(prog_name="lvm-edge", complete_var="_LVM_EDGE_COMPLETE", shell=shell))
