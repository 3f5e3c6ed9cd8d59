"""How every program of the project ends: wrong use and wrong input are one sentence and an exit status."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from engines.errors import LvmError

# typer exports the subclass only; its base is what every wrong option or argument raises.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app and exit: 0 done, the error's own status, or 2 for wrong use."""
    say = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        sys.exit(app(standalone_mode=False, prog_name=name) or 0)
    except LvmError as error:
        say.print(f"{name}: {error}", markup=False)
        sys.exit(error.exit_status)
    except _UsageError as error:
        words = getattr(error, "ctx", None)
        command = words.command_path if words is not None else name
        if type(error).__name__ == "NoArgsIsHelpError":
            say.print(str(error), markup=False)
            sys.exit(2)
        said = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
        say.print(f"{name}: {said}; see {command} --help", markup=False)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has gone (for example `| head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(0)
    except typer.Abort:
        sys.exit(130)
