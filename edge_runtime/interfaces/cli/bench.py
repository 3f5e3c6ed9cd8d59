"""`lvm-edge bench`: print a table for people and, as the last line, one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.options import BundleFolder
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.service.runtime import MAX_CAMERAS
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.select import choose, find_backend_problems, usable_cores


def bench(
    bundle: BundleFolder = None,
    backend: Annotated[str, typer.Option(help="one backend instead of all that run here")] = "all",
    rounds: Annotated[
        int | None, typer.Option(help="rounds of four clips; default: 30, with --cameras 3")
    ] = None,
    questions: Annotated[int, typer.Option(help="questions of each type for each backend")] = 300,
    threads: Annotated[int | None, typer.Option(help="threads of each engine; default: all cores")] = None,
    cameras: Annotated[
        int | None, typer.Option(help="measure 1, 2, 4 … up to this many cameras instead")
    ] = None,
    seconds: Annotated[float, typer.Option(help="with --cameras: seconds of each measurement")] = 8.0,
    density: Annotated[
        bool,
        typer.Option(
            "--density/--no-density", help="with --cameras: how many cameras keep up at their frame rate"
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="only the JSON line")] = False,
) -> None:
    """Measure ingest, sampler, SVD, questions, state and resident memory on this machine."""
    rounds = (30 if cameras is None else 3) if rounds is None else rounds
    if rounds < 1 or questions < 1:
        raise LvmError(f"--rounds and --questions must be at least 1, got {rounds} and {questions}")
    if threads is not None and threads < 1:
        raise LvmError(f"--threads must be at least 1, got {threads}")
    if cameras is not None and not 1 <= cameras <= MAX_CAMERAS:
        raise LvmError(f"--cameras must be 1 to {MAX_CAMERAS}, got {cameras}")
    if not 0 < seconds < 3600:
        raise LvmError(f"--seconds must be above 0 and below 3600, got {seconds}")
    from edge_runtime.benchmarks.engines import bench_engines as measure

    opened = Bundle.open(bundle or default_bundle())
    choice = choose("auto" if backend == "all" else backend, opened.manifest)
    auto = {"backend": choice.backend, "why": choice.why, "threads": threads or usable_cores()}
    if cameras is not None:
        results = _bench_cameras(opened, choice.backend, cameras, rounds, seconds, threads, density)
        if not as_json:
            print_table(_cameras_table(results))
        print(json.dumps({**auto, **results}))
        return
    names = [choice.backend]
    if backend == "all":
        names = [name for name, reason in find_backend_problems(opened.manifest).items() if reason is None]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        engines = measure(
            opened,
            names,
            rounds=rounds,
            questions=questions,
            threads=threads,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )
    if not as_json:
        print_table(_engines_table(engines))
    print(json.dumps({**auto, **engines[choice.backend], "engines": engines}))


def _bench_cameras(
    bundle: Bundle,
    backend: str,
    cameras: int,
    rounds: int,
    seconds: float,
    threads: int | None,
    density: bool,
) -> dict[str, Any]:
    from edge_runtime.benchmarks.cameras import bench_cameras

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        return bench_cameras(
            bundle,
            backend,
            cameras,
            rounds=rounds,
            seconds=seconds,
            threads=threads,
            density=density,
            progress=lambda what: bar.update(task, description=what),
        )


def _cameras_table(results: dict[str, Any]) -> Table:
    table = Table(title="demo cameras, as fast as they go")
    for name in (
        "cameras",
        "frames/s",
        "each",
        "slowest/fastest",
        "of one",
        "CPU ms a frame",
        "one more stalls",
    ):
        table.add_column(name, justify="right")
    for count, demo in results["demo"].items():
        stalled = results["stalled"][count]
        table.add_row(
            count,
            f"{demo['frames_per_s']:.0f}",
            f"{demo['frames_per_s'] / int(count):.1f}",
            f"{demo['fairness']:.2f}",
            f"{demo['ratio']:.2f}",
            f"{demo['cpu_ms_per_frame']:.1f}",
            f"{stalled['ratio']:.2f} of it, {stalled['fairness']:.2f}",
        )
    if "density" in results:
        table.add_section()
        for point in results["density"]["curve"]:
            table.add_row(
                f"{point['cameras']} live × {point['speed']}",
                f"{point['frames_per_s']:.0f}",
                "",
                "",
                "",
                f"{point['cpu_ms_per_frame']:.1f}",
                f"{point['dropped']:.2%} dropped",
            )
        table.add_row("most that fit", f"{results['density']['most_cameras']}")
    return table


def _engines_table(engines: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="medians of one interleaved run")
    table.add_column("")
    for name in engines:
        table.add_column(name, justify="right")
    rows: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
        ("ingest, frames/s", lambda e: f"{e['ingest']['frames_per_s']:.0f}"),
        ("ingest / bare engines", lambda e: f"{e['ingest']['ratio']:.3f}"),
        ("backbone, ms a frame", lambda e: f"{e['backbone']['ms']:.2f}"),
        ("sampler, ms a clip", lambda e: f"{e['sampler']['ms']:.2f}"),
        ("SVD update, ms a clip", lambda e: f"{e['svd']['ms']:.2f}"),
        *((f"{kind} question, ms p50 / p99", _latency(kind)) for kind in ("activity", "object", "time")),
        ("state, bytes", lambda e: f"{e['state']['bytes']:,}"),
        ("resident, MB", lambda e: f"{e['rss']['bytes'] / 1e6:.0f}"),
    )
    for name, format_cell in rows:
        table.add_row(name, *(format_cell(engine) for engine in engines.values()))
    return table


def _latency(kind: str) -> Callable[[dict[str, Any]], str]:
    return lambda e: f"{e['query'][kind]['p50_ms']:.1f} / {e['query'][kind]['p99_ms']:.1f}"
