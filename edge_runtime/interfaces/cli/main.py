"""`lvm-edge`: thin commands that parse, call and print. Logging is set up here (and by `run` from its YAML).

Exit status: 0 done, 2 wrong use or input, 3 a gate failed, 4 something needed is missing on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.interfaces.cli import (
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
from edge_runtime.interfaces.cli.error_exit import leave_threads, run_app
from edge_runtime.system.logs import LogSettings, set_up

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remembers hours of video in a fixed number of tokens and answers questions from them.",
)
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "init": (init.init, "Write a first configuration."),
    "check-config": (check_config.check_config, "Say what is wrong with a configuration."),
    "run": (run.run, "Watch, remember, and answer meanwhile."),
    "ask": (ask.ask, "Ask what was done, where something was, or when."),
    "activities": (activities.activities, "Show, search or export what was recognised."),
    "status": (status.status, "Show what is remembered."),
    "doctor": (doctor.doctor, "Look at this machine, and say what to do about it."),
    "bench": (bench.bench, "Measure how fast it is here."),
    "warmup": (warmup.warmup, "Build TensorRT's plans before the first start."),
    "forget": (forget.forget, "Remove what was watched in an interval."),
    "completion": (completion.completion, "Print the completion script of a shell."),
}
GROUPS = {
    "catalogue": (catalogue.app, "Keep the products that questions may name."),
    "key": (key.app, "Make keys for encryption on disk."),
    "token": (token.app, "Make tokens for those who ask over HTTP."),
}
for _name, (_function, _said) in COMMANDS.items():
    app.command(_name, short_help=_said)(_function)
for _name, (_group, _said) in GROUPS.items():
    app.add_typer(_group, name=_name, short_help=_said)


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
    """Parse and do."""
    run_app(app, "lvm-edge")


def program() -> None:
    """`main` in a process of its own; `start.main` is the entry point of `lvm-edge`."""
    try:
        main()
    except SystemExit as ended:
        leave_threads(ended)
        raise


if __name__ == "__main__":
    program()
