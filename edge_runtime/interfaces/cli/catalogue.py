"""`lvm-edge catalogue`: the products that questions may name, in a folder or of a running lvm-edge."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import typer
from pydantic import ValidationError
from rich.table import Table

from edge_runtime.catalogue.photos import MAX_PHOTOS, crop_image
from edge_runtime.catalogue.store import Catalogue, describe_unread, read_folder_name
from edge_runtime.imaging.decode import read_file, read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.interfaces.cli.locate import resolve_catalogue, resolve_key
from edge_runtime.interfaces.cli.options import Ca, Token, Url
from edge_runtime.interfaces.cli.query_text import parse_box
from edge_runtime.interfaces.cli.remote import Server, resolve_server
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.query.schema import BoxInFrame
from edge_runtime.system.errors import QueryError
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
    _print(result, as_json, f"{result['name']}: {result['new']} new, {_count_photos(result['photos'])}")


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
    if not products:
        print("no products yet")
        return
    table = Table.grid(padding=(0, 3))
    for product in products:
        why = f"; {product['error']}" if product.get("error") else describe_unread(product.get("unread", {}))
        table.add_row(printable(product["name"]), f"{_count_photos(product['photos'])}{why}")
    print_table(table)


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
    _print(result, as_json, f"{result['name']}: removed with {_count_photos(result['removed'])}")


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


def _count_photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else printable(text))


ROUTE = "/api/v1/catalogue"


class ProductStore(Protocol):
    """Operations on the products. Results are JSON data."""

    def list_products(self) -> list[dict[str, Any]]:
        """Return `name` and number of `photos` of each product."""
        ...

    def list_photos(self, name: str) -> list[dict[str, Any]]:
        """Return `file`, `width`, `height` and `bytes` of each photo."""
        ...

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """Return `name`, the number of `photos` now, and how many of them are `new`."""
        ...

    def remove(self, name: str) -> dict[str, Any]:
        """Return `name`, and how many photos were `removed`."""
        ...

    def rename(self, before: str, after: str) -> dict[str, Any]:
        """Return `before` and `name`, the old name and the new name."""
        ...


@dataclass(frozen=True)
class LocalCatalogue:
    """A catalogue folder on this machine."""

    catalogue: Catalogue

    def list_products(self) -> list[dict[str, Any]]:
        return list(self.catalogue.as_json()["products"])

    def list_photos(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of the photos, with the whole path of each file."""
        paths = [photo.path for photo in self.catalogue.list_photos(name)]
        rows = self.catalogue.describe_photos(name)
        return [
            row | {"file": str(path.with_name(row["file"]))} for row, path in zip(rows, paths, strict=True)
        ]

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """Add photos only, since this process has no camera. Raises LvmError if there are none."""
        if camera is not None:
            raise LvmError("--camera needs a running lvm-edge: name its address with --url")
        if not paths:
            raise LvmError("name photos, or --url and --box X1,Y1,X2,Y2@T to take a photo from a camera")
        images = [_crop(read_image(path), box) for path in paths]
        return dict(vars(self.catalogue.add(name, images, replace=replace)))

    def remove(self, name: str) -> dict[str, Any]:
        return {"name": name, "removed": self.catalogue.remove(name)}

    def rename(self, before: str, after: str) -> dict[str, Any]:
        return {"before": before, "name": self.catalogue.rename(before, after)}


@dataclass(frozen=True)
class RemoteCatalogue:
    """The catalogue of a running lvm-edge."""

    server: Server

    def list_products(self) -> list[dict[str, Any]]:
        return self._rows(self.server.call("GET", ROUTE), "products")

    def list_photos(self, name: str) -> list[dict[str, Any]]:
        return self._rows(self.server.call("GET", _route(name)), "photos")

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """Add photos, or the part of a camera's frame that is in `box`."""
        body: dict[str, Any] = {"replace": replace}
        if paths:
            body["photos"] = [base64.b64encode(read_file(path)).decode() for path in paths]
            body |= {} if box is None else {"box": _parse_box(box).box}
        elif box is not None:
            placed = parse_box(box)
            body |= {"box": _valid_box(placed).box, "t": placed["t"]}
            body |= {} if camera is None else {"camera": camera}
        else:
            raise LvmError("name photos, or --box X1,Y1,X2,Y2@T to take a photo from a camera")
        return dict(self.server.call("PUT", _route(name), body))

    def remove(self, name: str) -> dict[str, Any]:
        return dict(self.server.call("DELETE", _route(name)))

    def rename(self, before: str, after: str) -> dict[str, Any]:
        return dict(self.server.call("PUT", f"{_route(before)}/name", after))

    def _rows(self, response: Any, name: str) -> list[dict[str, Any]]:
        try:
            return [dict(row) for row in response[name]]
        except (KeyError, TypeError, ValueError):
            raise self.server.bad_response() from None


def _route(name: str) -> str:
    return f"{ROUTE}/{quote(name, safe='')}"


def _crop(image: Image, box: str | None) -> Image:
    return image if box is None else crop_image(image, _parse_box(box).box)


def _parse_box(text: str) -> BoxInFrame:
    """Parse a box in a photo. Raises QueryError."""
    if text.count(",") != 3 or "@" in text:
        raise QueryError(f"--box of a photo is X1,Y1,X2,Y2 in 0..1, without @T, got {printable(text[:50])!r}")
    return _valid_box(parse_box(f"{text}@0"))


def _valid_box(placed: Mapping[str, Any]) -> BoxInFrame:
    """Check a box; the time of its picture is read where the camera is."""
    try:
        return BoxInFrame.model_validate({"box": placed["box"], "t": 0.0})
    except ValidationError as error:
        raise QueryError(f"--box: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
