"""`lvm-edge ask`: one question to a saved memory or to a running process."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from edge_runtime.answers import Answer
from edge_runtime.ask import AnyQuery, Asker
from edge_runtime.cli.question import Words
from edge_runtime.found import catalogue_of, found_state, key_of
from edge_runtime.objects import ObjectEncoder
from edge_runtime.privacy.memo import zones_of
from edge_runtime.privacy.sealing import Key
from edge_runtime.sources import frame_at
from edge_runtime.state import StateError, load_snapshot, model_digest
from engines.bundle import Bundle
from engines.errors import LvmError, Missing
from engines.select import choose, load_engine

_URL_TIMEOUT_S = 30.0


def ask(
    type: Annotated[str, typer.Argument(help="activity, object or time")],
    object: Annotated[
        list[Path] | None, typer.Option("--object", help="photo of the object; may be repeated")
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="X1,Y1,X2,Y2@T: what lies there in the picture at T")
    ] = None,
    product: Annotated[str | None, typer.Option(help="name in the catalogue")] = None,
    activity: Annotated[str | None, typer.Option(help="name of the activity")] = None,
    start: Annotated[float | None, typer.Option("--from", help="seconds")] = None,
    end: Annotated[float | None, typer.Option("--to", help="seconds")] = None,
    camera: Annotated[str | None, typer.Option(help="name of the camera, where there are several")] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="folder of the memory, or of several cameras'; default: the one written last"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration that says where it lies")] = None,
    url: Annotated[str | None, typer.Option(help="address of a running lvm-edge")] = None,
    bundle: Annotated[Path | None, typer.Option(help="bundle, if it has moved since")] = None,
    backend: Annotated[str, typer.Option(help="auto, onnxruntime-cuda, openvino or onnxruntime")] = "auto",
    catalogue: Annotated[
        Path | None, typer.Option(help="folder of the products; default: beside the memories")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="file of the key, where the state is encrypted")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the whole answer as JSON")] = False,
) -> None:
    """Ask what was done with an object, where an object was, or when something was done."""
    words = Words(type, object or (), box, product, activity, start, end, camera)
    if url is not None and (state is not None or config is not None):
        raise LvmError(f"name --{'state' if state is not None else 'config'} or --url, not both")
    if url is not None:
        answer = _over_http(words, url)
    else:
        query = words.query()  # what is wrong with the question comes before what is wrong with the memory
        secret = key_of(config, key)
        products = catalogue_of(config, catalogue)
        answer = _from_state(query, found_state(state, camera, config), secret, bundle, backend, products)
    _print(answer, as_json)


def _from_state(
    query: AnyQuery, folder: Path, key: Key | None, bundle: Path | None, backend: str, catalogue: Path
) -> Answer:
    saved = load_snapshot(folder, key=key)
    if saved is None:
        raise StateError(f"no memory in {folder}; run lvm-edge run --state {folder} first")
    header, zones = saved.header, zones_of(folder)
    opened = Bundle.open(bundle or Path(header.bundle))
    if model_digest(opened) != header.model:
        raise StateError(
            f"state {folder} was made by another bundle than {opened.path}; name it with --bundle"
        )
    choice = choose(backend, opened.manifest)
    backbone, reader = (load_engine(opened, name, choice.backend) for name in ("backbone", "reader"))
    with backbone, reader:
        objects = ObjectEncoder(
            backbone,
            opened.manifest.network.image_size,
            frame_at=lambda t: zones.burn(frame_at(header.source, t)),
            catalogue=catalogue,
        )
        return Asker(opened.manifest, reader, objects).ask(query, saved.version)


def _over_http(words: Words, url: str) -> Answer:
    if not url.startswith(("http://", "https://")):
        raise LvmError(f"--url must be like http://127.0.0.1:8971, got {url!r}")
    body = json.dumps(words.body() | ({"camera": words.camera} if words.camera else {})).encode()
    try:
        request = urllib.request.Request(
            url.rstrip("/") + "/api/v1/query", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_URL_TIMEOUT_S) as reply:
            return Answer.model_validate_json(reply.read())
    except urllib.error.HTTPError as error:
        try:
            said = json.loads(error.read())["error"]
        except (ValueError, KeyError, TypeError):
            said = f"status {error.code}"
        raise LvmError(f"{url}: {said}") from None
    except (ValueError, http.client.InvalidURL) as error:
        if isinstance(error, ValidationError):
            raise LvmError(f"{url} gave no answer that this version understands") from None
        raise LvmError(f"--url must be like http://127.0.0.1:8971, got {url!r}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Missing(f"no lvm-edge answers at {url}: {getattr(error, 'reason', error)}") from None


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json())
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{answer.answer}  ({answer.confidence:.0%}, {answer.milliseconds:.1f} ms)", markup=False)
    for candidate in answer.activities[1:4]:
        console.print(f"  or {candidate.activity} ({candidate.confidence:.0%})", markup=False)
    for span in answer.spans[1:]:
        console.print(f"  or {span.start:.1f} to {span.end:.1f} s ({span.confidence:.0%})", markup=False)
    for box in answer.boxes[:8]:
        corners = ", ".join(f"{v:.2f}" for v in box.box)
        console.print(f"  {box.t:.1f} s: {corners}{' (between)' if box.interpolated else ''}", markup=False)
    if answer.evidence:
        seen = sorted({round(one.t, 1) for one in answer.evidence})
        console.print(f"  rests on {', '.join(f'{t:g}' for t in seen)} s", markup=False)
    covered = answer.coverage
    if covered.start is not None:
        console.print(
            f"  watched {covered.start:.1f} to {covered.end:.1f} s, {len(covered.gaps)} gaps", markup=False
        )
