"""`lvm-edge`: thin commands that parse, call and print. Logging is configured here and nowhere else.

Exit status: 0 done, 2 wrong use or input, 3 a gate failed, 4 something needed is missing on this machine.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console

from edge_runtime.cli import ask, bench, doctor, run, status
from engines.errors import LvmError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remembers hours of video in a fixed number of tokens and answers questions from them.",
)
app.command("run")(run.run)
app.command("ask")(ask.ask)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


@app.callback()
def _common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what is done")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Entry point: every expected error is one sentence on stderr and an exit status."""
    try:
        sys.exit(app(standalone_mode=False))
    except LvmError as error:
        _say(str(error))
        sys.exit(error.exit_status)
    except typer.Abort:
        sys.exit(130)  # Ctrl-C before or after the part that ends by it in good order
    except BrokenPipeError:
        # Whoever read our output has gone (for example `| head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A path that the system refuses: too long, not allowed, gone in the meantime.
        if error.filename is None:
            raise
        _say(f"{str(error.filename)[:200]}: {error.strerror}")
        sys.exit(2)
    except Exception as error:
        # typer's own errors of use share no public class, but this method.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        print(message if "\n" in message else f"lvm-edge: {message}", file=sys.stderr)
        sys.exit(2)


def _say(sentence: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    console.print(f"lvm-edge: {' '.join(sentence.splitlines())}", markup=False)


if __name__ == "__main__":
    main()
