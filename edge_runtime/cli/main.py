"""`lvm-edge`: thin commands that parse, call and print. Logging is set up here (and by `run` from its YAML).

Exit status: 0 done, 2 wrong use or input, 3 a gate failed, 4 something needed is missing on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli import (
    activities,
    ask,
    bench,
    catalogue,
    check_config,
    completion,
    doctor,
    forget,
    init,
    key,
    run,
    status,
    token,
    warmup,
)
from edge_runtime.cli.one_line import run_app
from edge_runtime.logs import LogSettings, set_up

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remembers hours of video in a fixed number of tokens and answers questions from them.",
)
app.command("init")(init.init)
app.command("check-config")(check_config.check_config)
app.command("run")(run.run)
app.command("ask")(ask.ask)
app.command("activities")(activities.activities)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("warmup")(warmup.warmup)
app.command("forget")(forget.forget)
app.command("completion")(completion.completion)
app.add_typer(key.app, name="key")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(token.app, name="token")


@app.callback()
def _common(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what is done")] = False,
    log_file: Annotated[Path | None, typer.Option(help="log to this file too, bounded in size")] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="one JSON object for each record")] = False,
) -> None:
    said = LogSettings(file=log_file, level="info" if verbose else "warning", json_lines=log_json)
    set_up(said)
    # What was said here goes before what a configuration says later.
    context.obj = {name: getattr(said, name) for name in _given(verbose, log_file, log_json)}


def _given(verbose: bool, log_file: Path | None, log_json: bool) -> list[str]:
    given = {"level": verbose, "file": log_file is not None, "json_lines": log_json}
    return [name for name, is_given in given.items() if is_given]


def main() -> None:
    """Entry point of `lvm-edge`."""
    run_app(app, "lvm-edge")


if __name__ == "__main__":
    main()
