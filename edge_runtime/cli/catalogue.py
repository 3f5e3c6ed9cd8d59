"""`lvm-edge catalogue`: the products that questions may name, each with its photos."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from edge_runtime.catalogue.folder import Catalogue
from edge_runtime.catalogue.photos import Image, cut_out
from edge_runtime.cli.calls import call
from edge_runtime.cli.question import typed_box
from edge_runtime.found import catalogue_of, key_of
from edge_runtime.images import contents, read_image
from edge_runtime.queries import MAX_PHOTOS, BoxInFrame, QueryError, printable
from engines.errors import LvmError

app = typer.Typer(no_args_is_help=True, help="Keep the products that questions may name, with their photos.")

ROUTE = "/api/v1/catalogue"

Name = Annotated[str, typer.Argument(help="the product's name")]
Folder = Annotated[
    Path | None, typer.Option("--catalogue", help="its folder; default: catalogue, beside the memories")
]
Configuration = Annotated[Path | None, typer.Option("--config", help="YAML configuration that names it")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="file of the key, where photos are sealed")]
Url = Annotated[str | None, typer.Option("--url", help="address of a running lvm-edge, whose it is")]
AsJson = Annotated[bool, typer.Option("--json", help="as one JSON object")]


@app.command("add")
def add(
    name: Name,
    photos: Annotated[list[Path] | None, typer.Argument(help="JPEG, PNG, WebP, BMP or TIFF pictures")] = None,
    box: Annotated[
        str | None,
        typer.Option(help="X1,Y1,X2,Y2 in 0..1: the part of each photo; with --url and @T, of the camera's"),
    ] = None,
    camera: Annotated[str | None, typer.Option(help="name of the camera, with --url")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="instead of the photos that are there")] = False,
    catalogue: Folder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Add photos to a product, or what a camera of a running lvm-edge shows in a box. Photos are turned
    upright, cropped, made smaller and freed of everything but their pixels."""
    paths = photos or []
    if url is None and camera is not None:
        raise LvmError("--camera is a running lvm-edge's: name its address with --url")
    if not paths and not (url and box):
        raise LvmError("name photos, or --url and --box X1,Y1,X2,Y2@T for what a camera shows there")
    if len(paths) > MAX_PHOTOS:
        raise LvmError(f"a product has at most {MAX_PHOTOS} photos, got {len(paths)}")
    if url is not None:
        told = _added_there(url, name, paths, box, camera, replace, catalogue or config)
    else:
        images = [_part(read_image(path), box) for path in paths]
        told = vars(_catalogue(catalogue, config, key).add(name, images, replace=replace))
    _say(told, as_json, f"{told['name']}: {told['new']} new, {told['photos']} photos")


@app.command("list")
def list_(
    catalogue: Folder = None, config: Configuration = None, url: Url = None, as_json: AsJson = False
) -> None:
    """Show the products and how many photos each has."""
    if url is not None:
        _check_alone(catalogue or config)
        told = call("GET", url, ROUTE)
    else:
        told = _catalogue(catalogue, config).as_json()
    if as_json:
        print(json.dumps(told))
        return
    table = Table.grid(padding=(0, 3))
    for one in told["products"]:
        table.add_row(printable(one["name"]), f"{one['photos']} photos")
    Console(highlight=False, soft_wrap=True).print(
        table if told["products"] else "no products yet", markup=False
    )


@app.command("show")
def show(
    name: Name,
    catalogue: Folder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the photos that stand for a product."""
    if url is not None:
        _check_alone(catalogue or config)
        rows = call("GET", url, f"{ROUTE}/{quote(name, safe='')}")["photos"]
    else:
        here = _catalogue(catalogue, config, key)
        rows = [row | {"file": str(here.folder / name / row["file"])} for row in here.sizes(name)]
    if as_json:
        print(json.dumps({"name": name, "photos": rows}))
        return
    for row in rows:
        print(f"{printable(str(row['file']))}  {row['width']} x {row['height']}, {row['bytes']:,} bytes")
    if not rows:
        print(f"{printable(name)} has no photos: add one, a question cannot be asked with it")


@app.command("remove")
def remove(
    name: Name,
    catalogue: Folder = None,
    config: Configuration = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remove a product with its photos."""
    if url is not None:
        _check_alone(catalogue or config)
        told = call("DELETE", url, f"{ROUTE}/{quote(name, safe='')}")
    else:
        told = {"name": name, "removed": _catalogue(catalogue, config).remove(name)}
    _say(told, as_json, f"{told['name']}: removed with {told['removed']} photos")


@app.command("rename")
def rename(
    before: Annotated[str, typer.Argument(help="its name now")],
    after: Annotated[str, typer.Argument(help="its new name")],
    catalogue: Folder = None,
    config: Configuration = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a product another name."""
    if url is not None:
        _check_alone(catalogue or config)
        told = call("PUT", url, f"{ROUTE}/{quote(before, safe='')}/name", after)
    else:
        told = {"before": before, "name": _catalogue(catalogue, config).rename(before, after)}
    _say(told, as_json, f"{before} is {told['name']} now")


@app.command("seal")
def seal(
    catalogue: Folder = None, config: Configuration = None, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """Encrypt the photos that are not encrypted yet, also those that were put there by hand."""
    told = {"sealed": _catalogue(catalogue, config, key).seal()}
    _say(told, as_json, f"{told['sealed']} photos were sealed")


def _catalogue(catalogue: Path | None, config: Path | None, key: Path | None = None) -> Catalogue:
    return Catalogue(catalogue_of(config, catalogue), key_of(config, key))


def _added_there(
    url: str,
    name: str,
    paths: Sequence[Path],
    box: str | None,
    camera: str | None,
    replace: bool,
    here: Path | None,
) -> dict[str, Any]:
    _check_alone(here)
    body: dict[str, Any] = {"replace": replace}
    if paths:
        body["photos"] = [base64.b64encode(contents(path)).decode() for path in paths]
        if box is not None:
            body["box"] = _box(box).box
    else:
        assert box is not None
        body |= _box(box, of_camera=True).model_dump()
        if camera is not None:
            body["camera"] = camera
    told: dict[str, Any] = call("PUT", url, f"{ROUTE}/{quote(name, safe='')}", body)
    return told


def _check_alone(here: Path | None) -> None:
    if here is not None:
        raise LvmError("name a folder or --url, not both: a running lvm-edge has its own catalogue")


def _part(image: Image, box: str | None) -> Image:
    return image if box is None else cut_out(image, _box(box).box)


def _box(text: str, *, of_camera: bool = False) -> BoxInFrame:
    """Of a photo without a time, of a camera with the time of its picture."""
    if not of_camera and (text.count(",") != 3 or "@" in text):
        raise QueryError(f"--box of a photo is X1,Y1,X2,Y2 in 0..1, without @T, got {printable(text[:50])!r}")
    try:
        return BoxInFrame.model_validate(typed_box(text if of_camera else f"{text}@0"))
    except ValidationError as error:
        raise QueryError(f"--box: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _say(told: dict[str, Any], as_json: bool, sentence: str) -> None:
    print(json.dumps(told) if as_json else printable(sentence))
