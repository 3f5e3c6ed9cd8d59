"""`lvm-edge ask`: ask a saved memory or a running lvm-edge a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.activity.log import MAX_TIMES, choose_times
from edge_runtime.activity.sqlite_store import LogFilter, read_rows
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.http import HttpSettings
from edge_runtime.interfaces.cli import completion
from edge_runtime.interfaces.cli.locate import resolve_catalogue, resolve_key, resolve_state
from edge_runtime.interfaces.cli.options import Ca, Configuration, KeyFile, OneCamera, State, Token, Url
from edge_runtime.interfaces.cli.query_text import QueryText
from edge_runtime.interfaces.cli.remote import Server, make_curl_command, resolve_server
from edge_runtime.persistence import StateError, load_snapshot, model_digest
from edge_runtime.persistence.encryption import Key
from edge_runtime.privacy.saved_settings import load_zones
from edge_runtime.query.answers import Answer
from edge_runtime.query.decode import Span
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import QueryRequest
from edge_runtime.query.timestamps import format_instant, format_moments
from edge_runtime.service.wall_clock import make_time_reader, on_clock
from edge_runtime.sources import read_frame_at
from edge_runtime.sources.live_source import Supervision
from edge_runtime.system.text import printable
from edge_runtime.teaching.examples import ExampleFile
from engines.bundle import Bundle
from engines.select import choose, load_engine

MAX_BOXES = 8
"""Boxes that are printed."""


def ask(
    type: Annotated[
        str, typer.Argument(help="activity, object or time", autocompletion=completion.complete_question_type)
    ],
    object: Annotated[
        list[Path] | None, typer.Option("--object", help="photo of the object; may be repeated")
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="X1,Y1,X2,Y2@T: the object in this box of the picture at T, as --from")
    ] = None,
    product: Annotated[
        str | None, typer.Option(help="name in the catalogue", autocompletion=completion.complete_product)
    ] = None,
    activity: Annotated[
        str | None, typer.Option(help="name of the activity", autocompletion=completion.complete_activity)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="seconds, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="as --from")] = None,
    camera: OneCamera = None,
    state: State = None,
    config: Configuration = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    print_curl_command: Annotated[
        bool, typer.Option("--print-curl-command", help="print a curl command instead of asking")
    ] = False,
    bundle: Annotated[Path | None, typer.Option(help="bundle, if it has been moved")] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="auto, tensorrt, onnxruntime-cuda, openvino or onnxruntime",
            autocompletion=completion.complete_backend,
        ),
    ] = "auto",
    catalogue: Annotated[
        Path | None, typer.Option(help="folder of the products; default: catalogue under $LVM_EDGE_STATE")
    ] = None,
    key: KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="the whole answer as JSON")] = False,
) -> None:
    """Ask what was done with an object, where an object was, or when something was done."""
    server = resolve_server(url, token, ca, state=state, config=config, key=key, catalogue=catalogue)
    question = QueryText(type, object or (), box, product, activity, start, end, camera)
    if print_curl_command:
        print(make_curl_command(question, server or Server(f"http://{HttpSettings().listen}", token, ca)))
        return
    if server is not None:
        answer = server.ask(question)
    else:
        request = question.request()  # an error of the question comes before one of the memory
        secret = resolve_key(config, key)
        products = resolve_catalogue(config, catalogue)
        answer = _ask_state(request, resolve_state(state, camera, config), secret, bundle, backend, products)
    print_answer(answer, as_json)


def _ask_state(
    request: QueryRequest, folder: Path, key: Key | None, bundle: Path | None, backend: str, catalogue: Path
) -> Answer:
    saved = load_snapshot(folder, key=key)
    if saved is None:
        raise StateError(f"no memory in {folder}; run lvm-edge run --state {folder} first")
    header, zones = saved.header, load_zones(folder)
    times = make_time_reader(header, saved.version.coverage)
    query = request.resolve(times, ("--from", "--to"), "--box")
    opened = Bundle.open(bundle or Path(header.bundle))
    if model_digest(opened) != header.model:
        raise StateError(
            f"state {folder} was made by another bundle than {opened.path}; name it with --bundle"
        )
    opening = Supervision(kind=header.source_kind, epoch=header.recording_epoch)
    choice = choose(backend, opened.manifest)
    backbone, reader = (load_engine(opened, name, choice.backend) for name in ("backbone", "reader"))
    with backbone, reader:
        objects = ObjectEncoder(
            backbone,
            opened.manifest.network,
            frame_at=lambda t: zones.mask_frame(read_frame_at(header.source, t, settings=opening)),
            catalogue=Catalogue(catalogue, key),
        )
        asker = Asker(opened.manifest, reader, objects, _SavedLog(folder, key))
        return on_clock(asker.ask(query, saved.version), header)


class _SavedLog:
    """What was recognised, of a folder that no process need be watching."""

    def __init__(self, folder: Path, key: Key | None) -> None:
        self._folder, self._key = folder, key

    def list_taught(self) -> Sequence[str]:
        return sorted({example.name for example in ExampleFile(self._folder, self._key).read()})

    def find_times(self, activity: str, start: float, end: float) -> Sequence[Span] | None:
        return choose_times(
            read_rows(self._folder, self._key, LogFilter(start, end, limit=MAX_TIMES)), activity
        )


def print_answer(answer: Answer, as_json: bool) -> None:
    """Print an answer as text, or as one line of JSON."""
    if as_json:
        print(answer.model_dump_json())
        return
    facts = [fact for fact in (answer.format_confidence(), f"{answer.milliseconds:.1f} ms") if fact]
    lines = [f"{answer.answer}  ({', '.join(facts)})", *(f"  {one}" for one in answer.list_alternatives())]
    epoch, zone = answer.coverage.epoch, answer.zone
    for box in answer.boxes[:MAX_BOXES]:
        corners = ", ".join(f"{v:.2f}" for v in box.box)
        between = " (between)" if box.interpolated else ""
        lines.append(f"  {format_instant(box.t, epoch, zone)}: {corners}{between}")
    if len(answer.boxes) > MAX_BOXES:
        lines.append(f"  and {len(answer.boxes) - MAX_BOXES} more; --json shows all")
    if answer.evidence and not answer.abstained:
        lines.append(f"  rests on {format_moments([token.t for token in answer.evidence], epoch, zone)}")
    if answer.asked is not None and answer.asked.clock_from is not None:
        lines.append(f"  asked for {answer.asked.clock_from} to {answer.asked.clock_to}")
    if watched := answer.coverage.format(zone):
        lines.append(f"  {watched}")
    print("\n".join(map(printable, lines)))
