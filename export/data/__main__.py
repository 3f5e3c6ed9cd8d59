"""`python -m export.data`: make, check and complete folders of labelled video.

    python -m export.data world DIR --train 0-7 --test 100-101     checkout worlds
    python -m export.data own DIR --events list.csv                your own videos and events
    python -m export.data import FORMAT FILES... DIR --videos DIR  annotations of CVAT, COCO, ELAN and others
    python -m export.data export DIR cvat OUT                      back to CVAT, with a memory's answers
    python -m export.data adl DIR --annotations DIR --videos DIR   annotations in the format of ADL
    python -m export.data without DIR --activity bag --before scan a class for events without an earlier one
    python -m export.data check DIR                                problems, with file and line
    python -m export.data queries DIR                              questions, chance levels, rejections

The last line of standard output is one JSON object. Exit status: 0 done, 2 wrong use or input.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

from edge_runtime.interfaces.cli.error_exit import run_app
from engines.errors import LvmError
from export.data.adl import AdlRules, write_adl_dataset
from export.data.candidates import QueryRules
from export.data.checks import find_problems, read_data_folder
from export.data.derived_labels import split_activity
from export.data.example_counts import warn_of_scarce_classes
from export.data.exporting import MAP_FILE, export_cvat
from export.data.files import check_overwritable
from export.data.formats.forms import Place, ReadOptions, Report
from export.data.formats.parsers import PARSERS
from export.data.importing import ImportRules, import_annotations, make_video_finder, read_annotations
from export.data.label_map import read_label_map
from export.data.query_writer import write_queries
from export.data.records import Knob, Split
from export.data.rest_questions import import_questions, write_questions
from export.data.user_dataset import write_user_dataset
from export.data.video_files import VideoFolder
from export.data.world_set import make_world_video, write_worlds

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Argument(help="data folder")]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="regular expression: videos whose names match it alike are cut from one recording, and must be "
        "in one split"
    ),
]


@app.command("check")
def check_folder(
    folder: Folder, limit: Annotated[int, typer.Option(min=1, help="maximum number of problems")] = 20
) -> None:
    """List the problems of a data folder, with file and line."""
    problems = find_problems(folder, limit)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        typer.echo(json.dumps({"folder": str(folder), "problems": len(problems)}))
        raise typer.Exit(2)
    typer.echo(json.dumps(_summarise(folder)))


@app.command()
def world(
    folder: Folder,
    train: Annotated[str, typer.Option(help="seeds of training videos, like 0-7 or 3,5")] = "",
    val: Annotated[str, typer.Option(help="seeds of validation videos")] = "",
    test: Annotated[str, typer.Option(help="seeds of test videos")] = "",
    level: Annotated[str, typer.Option(help="L0 to L3")] = "L1",
    minutes: Annotated[float, typer.Option(min=0.1, help="of each video")] = 30.0,
    products: Annotated[Path | None, typer.Option(help="folder of real products")] = None,
    backgrounds: Annotated[Path | None, typer.Option(help="folder of real pictures")] = None,
    only: Annotated[list[str] | None, typer.Option(help="only this product; may be repeated")] = None,
    knob: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the world; may be repeated")] = None,
) -> None:
    """Write checkout worlds as a data folder: events, boxes, classes; no pixels."""
    check_overwritable(folder)
    knobs = dict(_parse_knob(text) for text in knob or [])
    seeds: dict[Split, str] = {"train": train, "val": val, "test": test}
    videos = [
        make_world_video(
            seed, level=level, minutes=minutes, split=split, products=products, backgrounds=backgrounds,
            only=only, knobs=knobs,
        )
        for split, text in seeds.items()
        for seed in _parse_seeds(text)
    ]  # fmt: skip
    if not videos:
        raise LvmError("no seeds were given; name some with --train, --val or --test, like --train 0-7")
    console = Console(stderr=True)
    write_worlds(folder, videos, progress=lambda name: console.print(f"{name} done", highlight=False))
    typer.echo(json.dumps(_summarise(folder)))


@app.command()
def own(
    folder: Folder,
    events: Annotated[Path, typer.Option(help="list of events, CSV or JSON Lines")],
    boxes: Annotated[Path | None, typer.Option(help="list of boxes, CSV or JSON Lines")] = None,
    doing: Annotated[list[str] | None, typer.Option(help="NAME=what a person does; may be repeated")] = None,
    accuses: Annotated[
        list[str] | None,
        typer.Option(help="activity that accuses somebody, logged only if surer; may be repeated"),
    ] = None,
    split: Annotated[str, typer.Option(help="of videos for which the list names none")] = "train",
    group_by: GroupBy = None,
) -> None:
    """Make a data folder of your own videos and your own list of events."""
    check_overwritable(folder)
    phrases = dict(_split_pair(text, "--doing") for text in doing or [])
    write_user_dataset(
        folder, events, boxes=boxes, doing=phrases, accuses=accuses or (), split=_check_split(split),
        group_by=group_by,
    )  # fmt: skip
    typer.echo(json.dumps(_summarise(folder)))


@app.command("import")
def import_files(
    format: Annotated[str, typer.Argument(help=f"one of {', '.join(PARSERS)}, rest")],
    files: Annotated[
        list[Path], typer.Argument(help="what the tool wrote: files, or folders of yolo and mot")
    ],
    folder: Folder,
    videos: Annotated[Path | None, typer.Option(help="folder with the videos, and folders in it")] = None,
    map: Annotated[Path | None, typer.Option(help="YAML that says what labels are")] = None,
    video: Annotated[str | None, typer.Option(help="the video that all files are about")] = None,
    split: Annotated[str, typer.Option(help="of videos for which nothing says it")] = "train",
    val: Annotated[list[str] | None, typer.Option(help="a held-out video; may be repeated")] = None,
    test: Annotated[list[str] | None, typer.Option(help="a test video; may be repeated")] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="rate at which the tool counted frames, if not the video's")
    ] = None,
    first_frame: Annotated[int | None, typer.Option(min=0, help="number of a video's first frame")] = None,
    shift: Annotated[float, typer.Option(help="seconds to add to every time")] = 0.0,
    group_by: GroupBy = None,
    skip: Annotated[bool, typer.Option(help="leave out what is wrong instead of stopping")] = False,
    dry_run: Annotated[bool, typer.Option(help="say what would be written, and write nothing")] = False,
) -> None:
    """Make a data folder of the annotations of another tool."""
    check_overwritable(folder)
    report = Report()
    if format == "rest":
        _import_questions(folder, files, report, map, fps, write=not dry_run, skip=skip)
        return
    if videos is None:
        raise LvmError("--videos is missing: name the folder of the videos")
    rules = ImportRules(fps, shift, _check_split(split), _name_splits(val, test), group_by)
    labels = read_label_map(map)
    find = make_video_finder(VideoFolder(videos), video)
    annotations = read_annotations(format, files, report, ReadOptions(first_frame))
    imported = import_annotations(annotations, find, labels, rules, report)
    for label in labels.unused:
        report.note(Place(map or folder), f"label {label!r} is in no file")
    _print_report(report)
    stopped = not imported.videos or bool(report.refused) and not skip
    result = {
        "folder": str(folder),
        "problems": report.refused,
        "notes": len(report.notes),
        **imported.summarise(),
    }
    if not stopped and not dry_run:
        imported.write(folder)
    typer.echo(json.dumps(result | {"written": not stopped and not dry_run}))
    if stopped:
        raise typer.Exit(2)


def _import_questions(
    folder: Path,
    files: list[Path],
    report: Report,
    map: Path | None,
    fps: float | None,
    *,
    write: bool,
    skip: bool,
) -> None:
    """Add the questions of ReST's files to a data folder that is there."""
    queries = import_questions(files, folder, report, keys=map, fps=fps)
    _print_report(report)
    stopped = bool(report.refused) and not skip
    if write and not stopped:
        write_questions(folder, queries)
    result = {"folder": str(folder), "problems": report.refused, "queries": len(queries)}
    typer.echo(json.dumps(result | {"written": write and not stopped}))
    if stopped:
        raise typer.Exit(2)


@app.command("export")
def export_folder(
    source: Annotated[Path, typer.Argument(help="data folder, or a video file for answers alone")],
    format: Annotated[str, typer.Argument(help="cvat")],
    out: Annotated[Path, typer.Argument(help="folder to write to")],
    answers: Annotated[
        list[Path] | None, typer.Option(help="JSON of lvm-edge ask or activities; may be repeated")
    ] = None,
    label: Annotated[str, typer.Option(help="of answers that name no activity")] = "answer",
) -> None:
    """Write annotations and a memory's answers for an annotation tool, to be corrected there."""
    if format != "cvat":
        raise LvmError(f"the format must be cvat, got {format!r:.60}")
    written = export_cvat(source, out, answers or [], label)
    typer.echo(json.dumps({"folder": str(out), "files": written, "map": MAP_FILE}))


@app.command("adl")
def adl_folder(
    folder: Folder,
    annotations: Annotated[Path, typer.Option(help="folder with object_annot_P_XX.txt and P_XX.txt")],
    videos: Annotated[Path, typer.Option(help="folder with the videos P_XX")],
    test: Annotated[list[str] | None, typer.Option(help="a test video, like P_17; may be repeated")] = None,
    val: Annotated[list[str] | None, typer.Option(help="a held-out video that chooses the weights")] = None,
    fps: Annotated[float, typer.Option(min=1.0, help="frames a second of the annotated numbers")] = 30.0,
    size: Annotated[
        str, typer.Option(help="WIDTHxHEIGHT of the picture in which boxes are given")
    ] = "640x480",
) -> None:
    """Make a data folder of annotations in the format of ADL."""
    check_overwritable(folder)
    sides = [int(side) for side in size.split("x") if side.isdigit()]
    if len(sides) != 2 or min(sides) < 1:
        raise LvmError(f"--size must be WIDTHxHEIGHT, got {size!r}; try 640x480")
    rules = AdlRules(fps=fps, box_size=(sides[0], sides[1]))
    write_adl_dataset(folder, annotations, videos, _name_splits(val, test), rules)
    typer.echo(json.dumps(_summarise(folder)))


@app.command()
def without(
    folder: Folder,
    activity: Annotated[str, typer.Option(help="whose events are split")],
    before: Annotated[str, typer.Option(help="what must have gone on before them")],
    within: Annotated[float, typer.Option(min=0.1, help="maximum seconds before the event")] = 30.0,
    name: Annotated[str, typer.Option(help="of the new class; default ACTIVITY_without_BEFORE")] = "",
    doing: Annotated[str, typer.Option(help="what a person does there")] = "",
) -> None:
    """Give events without an earlier event a class of their own, like bagging without a scan."""
    new = name or f"{activity}_without_{before}"
    counts = split_activity(folder, activity, before, within, new, doing or new.replace("_", " "))
    typer.echo(json.dumps({"folder": str(folder), "events": counts}))


@app.command()
def queries(
    folder: Folder,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    per_cell: Annotated[
        int, typer.Option(min=1, help="maximum number of questions of a type and duration a video")
    ] = 40,
    negatives: Annotated[float, typer.Option(min=0.0, max=0.9, help="share that never happened")] = 0.2,
    tight: Annotated[float, typer.Option(min=0.0, max=1.0, help="share asked at the event's own time")] = 0.5,
    photos: Annotated[
        Path | None, typer.Option(help="folder with one sub-folder of photos a product")
    ] = None,
) -> None:
    """Ask about every video of a data folder; write questions, chance levels and the rejection log."""
    rules = QueryRules(per_cell=per_cell, negatives=negatives, tight=tight)
    counts = write_queries(folder, seed=seed, rules=rules, photos=photos)
    typer.echo(json.dumps({"folder": str(folder), **counts}))


def _check_split(split: str) -> Split:
    if split not in get_args(Split):
        raise LvmError(f"--split must be one of {', '.join(get_args(Split))}, got {split!r}")
    return cast(Split, split)


def _name_splits(val: list[str] | None, test: list[str] | None) -> dict[str, Split]:
    """Return the splits of the videos that the options name. Raises LvmError for a video that both name."""
    splits: dict[str, Split] = dict.fromkeys(val or [], "val")
    if both := sorted(splits.keys() & set(test or [])):
        raise LvmError(f"{both[0]} is named by --val and by --test: a video has one split")
    return splits | dict.fromkeys(test or [], "test")


def _print_report(report: Report) -> None:
    """Print what is odd to standard error, and what is wrong to standard output, as `check` does."""
    for message, (place, count) in report.notes.items():
        typer.echo(f"note: {place}: {message}" + (f" ({count} times)" if count > 1 else ""), err=True)
    for problem in report.problems:
        typer.echo(problem)
    if more := report.refused - len(report.problems):
        typer.echo(f"and {more} more problems")


def _summarise(folder: Path) -> dict[str, Any]:
    data = read_data_folder(folder)
    return {
        "folder": str(folder),
        "problems": 0,
        "warnings": warn_of_scarce_classes(data),
        "videos": dict(Counter(video.split for video in data.videos.values())),
        "hours": round(sum(video.duration_s for video in data.videos.values()) / 3600.0, 3),
        "events": sum(len(events) for events in data.events.values()),
        "boxes": sum(len(tracks.tick5) for tracks in data.tracks.values()),
        "queries": dict(Counter(f"{query.type}/{query.duration}" for query in data.queries)),
        "activities": len(data.classes),
    }


def _parse_seeds(text: str) -> list[int]:
    """Return the numbers of `0-7`, `3,5` or `0-3,9`. Raises LvmError."""
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or int(last or first) - int(first) > 9999:
            raise LvmError(f"seeds are numbers and ranges like 0-7 or 3,5, got {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _split_pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise LvmError(f"{option} must be NAME=VALUE, got {text!r}")
    return name, value


def _parse_knob(text: str) -> tuple[str, Knob]:
    """Return name and value of `closeup=0.3`, `object_size=[0.1,0.2]`; the value is JSON. Raises LvmError."""
    name, value = _split_pair(text, "--knob")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise LvmError(f"--knob {name} must have a JSON value, got {value!r}; try {name}=0.3") from error
    return name, cast(Knob, tuple(parsed) if isinstance(parsed, list) else parsed)


def main() -> None:
    """Entry point of `python -m export.data`."""
    run_app(app, "export.data")


if __name__ == "__main__":
    main()
