"""`lvm-edge`: the commands. Logging is set up here (and by `run` from its configuration).

Exit status: 0 success, 2 wrong use or input, 3 a gate failed, 4 something is missing on this machine.
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
    mqtt_withdraw,
    run,
    status,
    teach,
    token,
    warmup,
)
from edge_runtime.interfaces.cli.error_exit import exit_despite_threads, run_app
from edge_runtime.system.logs import LogSettings, set_up_logging
from edge_runtime.system.release import read_version

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Remembers hours of video in a fixed number of tokens and answers questions from them.",
)
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "init": (init.init, "Write a first configuration."),
    "check-config": (check_config.check_config, "Check a configuration."),
    "run": (run.run, "Watch, remember and answer questions."),
    "ask": (ask.ask, "Ask what was done, where something was, or when."),
    "activities": (activities.activities, "Show, search or export what was recognised."),
    "status": (status.status, "Show what is remembered."),
    "doctor": (doctor.doctor, "Check this machine, and say what to do."),
    "bench": (bench.bench, "Measure the speed on this machine."),
    "warmup": (warmup.warmup, "Build TensorRT plans before the first start."),
    "forget": (forget.forget, "Remove what was watched in an interval."),
    "mqtt-withdraw": (mqtt_withdraw.mqtt_withdraw, "Take back what a broker that is left retains."),
    "completion": (completion.completion, "Print the completion script of a shell."),
}
GROUPS = {
    "catalogue": (catalogue.app, "Keep the products that questions may name."),
    "teach": (teach.app, "Teach a camera activities from a few examples."),
    "key": (key.app, "Make keys for encryption on disk."),
    "token": (token.app, "Make access tokens for HTTP."),
}
for _name, (_function, _help) in COMMANDS.items():
    app.command(_name, short_help=_help)(_function)
for _name, (_group, _help) in GROUPS.items():
    app.add_typer(_group, name=_name, short_help=_help)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"lvm-edge {read_version()}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit"),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log more")] = False,
    log_file: Annotated[Path | None, typer.Option(help="log to this file too, limited in size")] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="one JSON object for each record")] = False,
) -> None:
    settings = LogSettings(file=log_file, level="info" if verbose else "warning", json_lines=log_json)
    set_up_logging(settings)
    # Options given here override the configuration that `run` reads later.
    given = {"level": verbose, "file": log_file is not None, "json_lines": log_json}
    context.obj = {name: getattr(settings, name) for name, is_given in given.items() if is_given}


def main() -> None:
    """Parse the command line, run the command and exit."""
    run_app(app, "lvm-edge")


def run_process() -> None:
    """Run `main` as the whole process: exit although daemon threads may hang."""
    try:
        main()
    except SystemExit as ended:
        exit_despite_threads(ended)
        raise


if __name__ == "__main__":
    run_process()
