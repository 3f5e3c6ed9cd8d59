"""`lvm-edge teach`: teach a camera activities from a few examples."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.table import Table

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.locate import resolve_key, resolve_state
from edge_runtime.interfaces.cli.options import (
    BundleFolder,
    Ca,
    Configuration,
    KeyFile,
    OneCamera,
    State,
    Token,
    Url,
)
from edge_runtime.interfaces.cli.remote import EXAMPLE, Server, resolve_server
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.persistence import Header, load_header, model_digest
from edge_runtime.persistence.encryption import Key
from edge_runtime.privacy.saved_settings import load_zones
from edge_runtime.query.answers import format_percent
from edge_runtime.service.teacher import Teacher
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from edge_runtime.teaching.descriptions import Frames
from edge_runtime.teaching.examples import Video
from edge_runtime.teaching.judgement import Interval, Judgement
from edge_runtime.teaching.video import identify_video, name_recording, sample_video
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.select import choose, load_engine

app = typer.Typer(
    no_args_is_help=True,
    help="Teach a camera activities from a few examples, and see how sure it is of them.",
)
ROUTE = "/api/v1/taught"

Name = Annotated[str, typer.Argument(help="the activity's name")]
AsJson = Annotated[bool, typer.Option("--json", help="as one JSON object")]


@app.command("add")
def add(
    name: Name,
    videos: Annotated[
        list[str] | None, typer.Argument(help="videos that show it, instead of what a camera watched")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="seconds, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS]; of a video seconds"),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="as --from; not included")] = None,
    shows: Annotated[
        bool,
        typer.Option(
            "--shows/--shows-not", help="whether the span shows the activity, or only looks like it"
        ),
    ] = True,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="regular expression: videos whose names match it alike come from one recording, and are "
            "judged without one another"
        ),
    ] = None,
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Add an example: a span of the last two hours of a running lvm-edge, or of videos."""
    if not videos:
        server = resolve_server(url or EXAMPLE, token, ca, state=state, config=config, key=key, bundle=bundle)
        assert server is not None
        if start is None or end is None:
            raise QueryError("an example needs --from and --to, of what a camera watched, or videos")
        body = {"name": name, "from": start, "to": end, "shows": shows}
        result = server.call("POST", ROUTE, body | ({"camera": camera} if camera else {}))
        _print_added(result["example"], as_json)
        _print_class(result["class"], as_json)
        return
    if url is not None:
        raise LvmError("name --url or videos, not both: a running lvm-edge teaches from what it watched")
    with _open_local(state, camera, config, key, bundle) as local:
        for path in videos:
            samplings = local.sample(path)
            first, last = _read_span(samplings, start, end)
            video = local.identify(path, group_by)
            example = local.teacher.add_example(samplings, name, first, last, shows=shows, video=video)
            _print_added(example.as_json(), as_json)
        _print_class(local.teacher.describe(name), as_json)


@app.command("list")
def list_(
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show what a camera was taught, and how sure it is."""
    found = _open_store(camera, state, bundle, config, key, url, token, ca).as_json()
    if as_json:
        print(json.dumps(found))
        return
    table = Table.grid(padding=(0, 3))
    for one in found["classes"]:
        table.add_row(printable(one["name"]), _describe_class(one))
    print_table(table)
    if found["waiting"]:
        print(printable(f"taught with another bundle: {', '.join(found['waiting'])}"))
    if found["alone"]:
        print(
            printable(
                f"nothing to tell it from: {', '.join(found['alone'])}; teach another activity, or what it "
                "is not with --shows-not"
            )
        )
    if not any(found.values()):
        print("nothing was taught yet")


@app.command("show")
def show(
    name: Name,
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show the examples of a taught activity, with their numbers."""
    found = _open_store(camera, state, bundle, config, key, url, token, ca).describe(name)
    if as_json:
        print(json.dumps(found))
        return
    print(f"{printable(found['name'])}: {_describe_class(found)}")
    for one in found["marked"]:
        span = one.get("clock_from") and f"{one['clock_from']} to {one['clock_to']}"
        where = f"of {one['source']}" if one["source"] else ""
        says = "" if one["shows"] else "does not show it"
        words = [f"{one['id']:>4}", span or f"{one['from']:.1f} to {one['to']:.1f} s", where, says]
        print(printable("  ".join(word for word in words if word)))


@app.command("remove")
def remove(
    name: Name,
    example: Annotated[int | None, typer.Option(help="number of one example; default: all of them")] = None,
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Remove a taught activity, or one of its examples."""
    count = _open_store(camera, state, bundle, config, key, url, token, ca).remove(name, example)
    print(json.dumps({"name": name, "removed": count}) if as_json else printable(f"{name}: {count} removed"))


@app.command("score")
def score(
    videos: Annotated[
        list[str] | None, typer.Argument(help="video files; without any the examples are judged")
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="judge the examples also as if there were fewer of them")
    ] = False,
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="judgements as JSON lines; videos are always")
    ] = False,
) -> None:
    """Say how sure each taught activity is shown in each video, a line of JSON for each; without videos, how
    right each is about its own examples when it was taught without their video."""
    if not videos:
        _print_judgements(_open_teacher(state, camera, config, key, bundle).judge(curve=curve), as_json)
        return
    if curve:
        raise QueryError("--curve judges the examples: leave the videos out")
    with _open_local(state, camera, config, key, bundle) as local:
        classes = local.teacher.classes()
        if not classes.names:
            raise QueryError("nothing was taught yet; lvm-edge teach add NAME VIDEO does it")
        for video in videos:
            scores = classes.score(local.sample(video))
            rounded = {name: round(value, 4) for name, value in scores.items()}
            print(json.dumps({"video": Path(video).name, "confidence": rounded}))


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="CSV file to write")],
    camera: OneCamera = None,
    state: State = None,
    bundle: BundleFolder = None,
    config: Configuration = None,
    key: KeyFile = None,
) -> None:
    """Write the examples as a list of events for a training (python -m export.data own). Those of the
    camera's own stream have clock times: cut them out of the shop's recordings."""
    examples = _open_teacher(state, camera, config, key, bundle).file.read()
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["video", "activity", "product", "start", "end", "clock_from", "clock_to"])
        for example in (one.as_json() for one in examples if one.shows):
            clock = (example.get("clock_from", ""), example.get("clock_to", ""))
            writer.writerow(
                [example["source"] or "", example["name"], "", example["from"], example["to"], *clock]
            )
    print(f"{sum(one.shows for one in examples)} examples in {printable(str(file))}")


class _RemoteTeacher:
    """What a running lvm-edge was taught, as `Teacher` has it."""

    def __init__(self, server: Server, camera: str | None) -> None:
        self._server, self._camera = server, camera

    def as_json(self) -> dict[str, Any]:
        return dict(self._call("GET"))

    def describe(self, name: str) -> dict[str, Any]:
        return dict(self._call("GET", name))

    def remove(self, name: str, number: int | None = None) -> int:
        return int(self._call("DELETE", name, example=number)["removed"])

    def _call(self, method: str, name: str | None = None, **more: object) -> Any:
        path = ROUTE if name is None else f"{ROUTE}/{quote(name, safe='')}"
        given = {key: value for key, value in {"camera": self._camera, **more}.items() if value is not None}
        return self._server.call(method, f"{path}?{urlencode(given)}" if given else path)


def _open_store(
    camera: str | None,
    state: Path | None,
    bundle: Path | None,
    config: Path | None,
    key: Path | None,
    url: str | None,
    token: str | None,
    ca: Path | None,
) -> Teacher | _RemoteTeacher:
    server = resolve_server(url, token, ca, state=state, config=config, key=key, bundle=bundle)
    if server is not None:
        return _RemoteTeacher(server, camera)
    return _open_teacher(state, camera, config, key, bundle)


@dataclass(frozen=True)
class _Local:
    """The teacher of a state folder, and what describes videos for it."""

    teacher: Teacher
    sample: Callable[[str], list[Frames]]
    source: Path | None
    """The recording that the camera watches, where it is one."""

    def identify(self, path: str, group_by: str | None) -> Video | None:
        """Return what identifies a video, None for the camera's own recording. Raises LvmError."""
        if self.source is not None and Path(path).resolve() == self.source.resolve():
            return None
        return identify_video(Path(path), name_recording(group_by, path))


@contextmanager
def _open_local(
    state: Path | None, camera: str | None, config: Path | None, key: Path | None, bundle: Path | None
) -> Iterator[_Local]:
    """Yield the teacher of a state folder, and a function that describes a video for it."""
    folder, secret, opened, header = _resolve(state, camera, config, key, bundle)
    sample_fps = opened.manifest.network.sample_fps if header is None else header.sample_fps
    mask = load_zones(folder).mask_frame
    with load_engine(opened, "backbone", choose("auto", opened.manifest).backend) as backbone:

        def sample(video: str) -> list[Frames]:
            return sample_video(video, opened.manifest.network, backbone, sample_fps=sample_fps, mask=mask)

        own = Path(header.source) if header is not None and header.clock is None else None
        yield _Local(_make_teacher(folder, secret, opened), sample, own)


def _open_teacher(
    state: Path | None, camera: str | None, config: Path | None, key: Path | None, bundle: Path | None
) -> Teacher:
    folder, secret, opened, _ = _resolve(state, camera, config, key, bundle)
    return _make_teacher(folder, secret, opened)


def _make_teacher(folder: Path, key: Key | None, bundle: Bundle) -> Teacher:
    names = [activity.name for activity in bundle.manifest.classes]
    return Teacher(folder, key, model_digest(bundle), names)


def _resolve(
    state: Path | None, camera: str | None, config: Path | None, key: Path | None, bundle: Path | None
) -> tuple[Path, Key | None, Bundle, Header | None]:
    """Return a camera's state folder, the key, its bundle, and its header where it has watched before."""
    folder, secret = resolve_state(state, camera, config), resolve_key(config, key)
    header = load_header(folder, secret)
    opened = Bundle.open(bundle or (Path(header.bundle) if header is not None else default_bundle()))
    if header is not None and header.model != model_digest(opened):
        raise LvmError(f"state {folder} was made by another bundle than {opened.path}; name it with --bundle")
    return folder, secret, opened, header


def _read_span(samplings: list[Frames], start: str | None, end: str | None) -> tuple[float, float]:
    """Return the span of a video that is meant: all of it without --from and --to."""
    times = [t for frames in samplings for t in (frames.times[:1].tolist() + frames.times[-1:].tolist())]
    if not times:
        raise QueryError("the video has no frame")
    first, last = min(times), max(times) + 1e-3
    try:
        return (first if start is None else float(start)), (last if end is None else float(end))
    except ValueError:
        raise QueryError(f"--from and --to of a video are seconds, got {start!r} and {end!r}") from None


def _print_added(example: dict[str, Any], as_json: bool) -> None:
    where = f" of {example['source']}" if example["source"] else ""
    text = f"{example['name']}: example {example['id']}{where}"
    print(json.dumps({"example": example}) if as_json else printable(text))


def _print_class(facts: dict[str, Any], as_json: bool) -> None:
    print(
        json.dumps({"class": facts}) if as_json else printable(f"{facts['name']}: {_describe_class(facts)}")
    )


def _print_judgements(judgements: list[Judgement], as_json: bool) -> None:
    if not judgements:
        raise QueryError(
            "too little was taught to judge it: an activity needs examples of two videos or times, and "
            "something to tell it from"
        )
    if as_json:
        for judgement in judgements:
            print(json.dumps(judgement.as_json()))
        return
    table = Table.grid(padding=(0, 3))
    table.add_row("activity", "examples", "AUC", "right with", "wrong with", "judged by")
    for judgement in judgements:
        auc, low, high = judgement.auc
        table.add_row(
            printable(judgement.name),
            str(judgement.examples),
            f"{auc:.2f} ({low:.2f} to {high:.2f})",
            _format_share(judgement.recall),
            _format_share(judgement.false_rate),
            f"{judgement.groups} videos or times",
        )
    print_table(table)


def _format_share(interval: Interval) -> str:
    share, low, high = interval
    return f"{format_percent(share)} ({100 * low:.0f} to {format_percent(high)})"


def _describe_class(facts: dict[str, Any]) -> str:
    """Say in words what is known of a class."""
    examples = "1 example" if facts["examples"] == 1 else f"{facts['examples']} examples"
    if facts["length_s"] is None and facts["examples"]:
        return f"{examples}, nothing to tell it from yet: teach another activity, or --shows-not"
    if facts["recall"] is None:
        return f"{examples}, too few to say how sure; {facts['missing']} more"
    sure = f"right with {format_percent(facts['recall'])} of them when left out"
    wrong = f"wrong with {format_percent(facts['false_rate'])} of what is not it"
    more = f"; {facts['missing']} more would make it sure" if facts["missing"] else ""
    confused = "; mark what it takes for it with --shows-not" if facts["confused"] else ""
    return f"{examples}, {sure}, {wrong}{more}{confused}"
