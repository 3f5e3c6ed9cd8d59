"""`lvm-edge`: thin commands that parse, call and print. Logging is configured here and nowhere else.

Exit status: 0 done, 2 wrong use or input, 3 a gate failed, 4 something needed is missing on this machine.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from edge_runtime.cli import ask, bench, doctor, run, status, warmup
from edge_runtime.cli.one_line import run_app

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
app.command("warmup")(warmup.warmup)


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
    """Entry point of `lvm-edge`."""
    run_app(app, "lvm-edge")


if __name__ == "__main__":
    main()
