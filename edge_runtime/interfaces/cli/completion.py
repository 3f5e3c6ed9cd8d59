"""`lvm-edge completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

import typer

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import catalogue_root, default_bundle
from edge_runtime.config.schema import BackendName, SamplerName
from engines.bundle import Bundle
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


Completer = Callable[[str], list[str]]
"""Values that begin with what is typed so far."""


def among(*words: str) -> Completer:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def activity(incomplete: str) -> list[str]:
    """Names of activities that the bundle which ships knows; another one may know others."""
    classes = Bundle.open(default_bundle()).manifest.classes
    return among(*(one.name for one in classes))(incomplete)


def product(incomplete: str) -> list[str]:
    """Names in the catalogue that is asked where none is named; none where it cannot be read."""
    try:
        return among(*Catalogue(catalogue_root()).products())(incomplete)
    except LvmError:  # a shell that completes has nobody to tell
        return []


backend = among(*get_args(BackendName))


sampler = among(*get_args(SamplerName))


kind = among("activity", "object", "time")
