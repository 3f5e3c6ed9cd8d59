"""`lvm-edge completion`: print a shell's completion script. Also the completers of option values."""

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
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish", autocompletion=complete_from(*SHELLS))],
) -> None:
    """Print the completion script of a shell: eval "$(lvm-edge completion bash)", or put it where the shell
    looks. lvm-edge --install-completion does that for the shell that calls it."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in SHELLS:
        raise LvmError(f"the shell must be one of {', '.join(SHELLS)}, got {shell[:50]!r}")
    print(get_completion_script(prog_name="lvm-edge", complete_var="_LVM_EDGE_COMPLETE", shell=shell))


Completer = Callable[[str], list[str]]
"""Returns the values that begin with the text typed so far."""


def complete_from(*words: str) -> Completer:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_activity(incomplete: str) -> list[str]:
    """Complete the activities of the shipped bundle; another bundle may have others."""
    classes = Bundle.open(default_bundle()).manifest.classes
    return complete_from(*(activity.name for activity in classes))(incomplete)


def complete_product(incomplete: str) -> list[str]:
    """Complete the products of the default catalogue; none if it cannot be read."""
    try:
        return complete_from(*Catalogue(catalogue_root()).list_products())(incomplete)
    except LvmError:  # a completer must print no error
        return []


complete_backend = complete_from(*get_args(BackendName))
complete_sampler = complete_from(*get_args(SamplerName))
complete_question_type = complete_from("activity", "object", "time")
