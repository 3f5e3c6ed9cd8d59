"""`lvm-edge catalogue`: the products that questions may name, each with its photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.interfaces.cli.locate import catalogue_of, key_of
from edge_runtime.interfaces.cli.options import Ca, Token, Url
from edge_runtime.interfaces.cli.product_store import Here, Products, There
from edge_runtime.interfaces.cli.remote import server_of
from edge_runtime.system.text import printable
from engines.errors import LvmError

app = typer.Typer(no_args_is_help=True, help="Keep the products that questions may name, with their photos.")

Name = Annotated[str, typer.Argument(help="the product's name")]
Folder = Annotated[
    Path | None, typer.Option("--catalogue", help="its folder; default: catalogue under $LVM_EDGE_STATE")
]
Configuration = Annotated[Path | None, typer.Option("--config", help="YAML configuration that names it")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="file of the key, where photos are sealed")]
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
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Add photos to a product, or what a camera of a running lvm-edge shows in a box. Photos are turned
    upright, cropped, made smaller and freed of everything but their pixels."""
    paths = photos or []
    if len(paths) > MAX_PHOTOS:
        raise LvmError(f"a product has at most {MAX_PHOTOS} photos, got {len(paths)}")
    kept = _kept(catalogue, config, key, url, token, ca)
    told = kept.add(name, paths, box, camera, replace)
    _say(told, as_json, f"{told['name']}: {told['new']} new, {told['photos']} photos")


@app.command("list")
def list_(
    catalogue: Folder = None,
    config: Configuration = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show the products and how many photos each has."""
    products = _kept(catalogue, config, None, url, token, ca).products()
    if as_json:
        print(json.dumps({"products": products}))
        return
    table = Table.grid(padding=(0, 3))
    for one in products:
        table.add_row(printable(one["name"]), f"{one['photos']} photos")
    Console(highlight=False, soft_wrap=True).print(table if products else "no products yet", markup=False)


@app.command("show")
def show(
    name: Name,
    catalogue: Folder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show the photos that stand for a product."""
    rows = _kept(catalogue, config, key, url, token, ca).photos(name)
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
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Remove a product with its photos."""
    told = _kept(catalogue, config, None, url, token, ca).remove(name)
    _say(told, as_json, f"{told['name']}: removed with {told['removed']} photos")


@app.command("rename")
def rename(
    before: Annotated[str, typer.Argument(help="its name now")],
    after: Annotated[str, typer.Argument(help="its new name")],
    catalogue: Folder = None,
    config: Configuration = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Give a product another name."""
    told = _kept(catalogue, config, None, url, token, ca).rename(before, after)
    _say(told, as_json, f"{before} is {told['name']} now")


@app.command("seal")
def seal(
    catalogue: Folder = None, config: Configuration = None, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """Encrypt the photos that are not encrypted yet, also those that were put there by hand."""
    told = {"sealed": _folder(catalogue, config, key).seal()}
    _say(told, as_json, f"{told['sealed']} photos were sealed")


def _kept(
    catalogue: Path | None,
    config: Path | None,
    key: Path | None,
    url: str | None,
    token: str | None,
    ca: Path | None,
) -> Products:
    server = server_of(url, token, ca, catalogue=catalogue, config=config, key=key)
    return Here(_folder(catalogue, config, key)) if server is None else There(server)


def _folder(catalogue: Path | None, config: Path | None, key: Path | None) -> Catalogue:
    return Catalogue(catalogue_of(config, catalogue), key_of(config, key))


def _say(told: dict[str, Any], as_json: bool, sentence: str) -> None:
    print(json.dumps(told) if as_json else printable(sentence))
