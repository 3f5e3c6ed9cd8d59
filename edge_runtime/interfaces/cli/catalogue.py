"""`lvm-edge catalogue`: the products that questions may name, each with its photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_runtime.catalogue.names import read_folder_name
from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.catalogue.store import Catalogue, describe_unread
from edge_runtime.interfaces.cli.locate import resolve_catalogue, resolve_key
from edge_runtime.interfaces.cli.options import Ca, Token, Url
from edge_runtime.interfaces.cli.product_store import LocalCatalogue, ProductStore, RemoteCatalogue
from edge_runtime.interfaces.cli.remote import resolve_server
from edge_runtime.system.text import printable
from engines.errors import LvmError

app = typer.Typer(no_args_is_help=True, help="Keep the products that questions may name, with their photos.")

Name = Annotated[str, typer.Argument(help="the product's name")]
Folder = Annotated[
    Path | None,
    typer.Option("--catalogue", help="folder of the catalogue; default: catalogue under $LVM_EDGE_STATE"),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", help="YAML configuration that names the catalogue")
]
KeyFile = Annotated[Path | None, typer.Option("--key", help="file of the key, if photos are encrypted")]
AsJson = Annotated[bool, typer.Option("--json", help="as one JSON object")]


@app.command("add")
def add(
    name: Name,
    photos: Annotated[list[Path] | None, typer.Argument(help="JPEG, PNG, WebP, BMP or TIFF pictures")] = None,
    box: Annotated[
        str | None,
        typer.Option(
            help="X1,Y1,X2,Y2 in 0..1: the part of each photo; with --url and @T, of a camera's picture"
        ),
    ] = None,
    camera: Annotated[str | None, typer.Option(help="name of the camera, with --url")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="remove the product's other photos")] = False,
    catalogue: Folder = None,
    config: Configuration = None,
    key: KeyFile = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Add photos to a product, or the part of a camera's picture that is in a box. Photos are turned upright,
    cropped, made smaller and stripped of metadata."""
    paths = photos or []
    if len(paths) > MAX_PHOTOS:
        raise LvmError(f"a product has at most {MAX_PHOTOS} photos, got {len(paths)}")
    result = _open_store(catalogue, config, key, url, token, ca).add(name, paths, box, camera, replace)
    _print(result, as_json, f"{result['name']}: {result['new']} new, {result['photos']} photos")


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
    products = _open_store(catalogue, config, None, url, token, ca).list_products()
    if as_json:
        print(json.dumps({"products": products}))
        return
    table = Table.grid(padding=(0, 3))
    for product in products:
        why = f"; {product['error']}" if product.get("error") else describe_unread(product.get("unread", {}))
        table.add_row(printable(product["name"]), f"{product['photos']} photos{why}")
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
    store = _open_store(catalogue, config, key, url, token, ca)
    rows = store.list_photos(name)
    if as_json:
        print(json.dumps({"name": name, "photos": rows}))
        return
    for row in rows:
        print(f"{printable(str(row['file']))}  {row['width']} x {row['height']}, {row['bytes']:,} bytes")
    if not rows:
        known = read_folder_name(name)
        unread = [product.get("unread", {}) for product in store.list_products() if product["name"] == known]
        why = "".join(map(describe_unread, unread)) or ": add one, questions cannot use it without"
        print(f"{printable(name)} has no photos{why}")


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
    result = _open_store(catalogue, config, None, url, token, ca).remove(name)
    _print(result, as_json, f"{result['name']}: removed with {result['removed']} photos")


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
    result = _open_store(catalogue, config, None, url, token, ca).rename(before, after)
    _print(result, as_json, f"{before} is {result['name']} now")


@app.command("seal")
def seal(
    catalogue: Folder = None, config: Configuration = None, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """Encrypt the photos that are not encrypted yet, also those added by hand."""
    count = _open_folder(catalogue, config, key).seal()
    _print({"sealed": count}, as_json, f"{count} photos were sealed")


def _open_store(
    catalogue: Path | None,
    config: Path | None,
    key: Path | None,
    url: str | None,
    token: str | None,
    ca: Path | None,
) -> ProductStore:
    server = resolve_server(url, token, ca, catalogue=catalogue, config=config, key=key)
    return LocalCatalogue(_open_folder(catalogue, config, key)) if server is None else RemoteCatalogue(server)


def _open_folder(catalogue: Path | None, config: Path | None, key: Path | None) -> Catalogue:
    return Catalogue(resolve_catalogue(config, catalogue), resolve_key(config, key))


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else printable(text))
