"""Access a catalogue of products: a folder on this machine, or that of a running lvm-edge."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from edge_runtime.catalogue.photos import crop_image
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.imaging.decode import read_file, read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.interfaces.cli.query_text import parse_box
from edge_runtime.interfaces.cli.remote import Server
from edge_runtime.query.schema import BoxInFrame
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from engines.errors import LvmError

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
            body |= _parse_box(box, with_time=True).model_dump()
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


def _parse_box(text: str, *, with_time: bool = False) -> BoxInFrame:
    """Parse a box in a photo or, `with_time`, in the frame of a camera. Raises QueryError."""
    if not with_time and (text.count(",") != 3 or "@" in text):
        raise QueryError(f"--box of a photo is X1,Y1,X2,Y2 in 0..1, without @T, got {printable(text[:50])!r}")
    try:
        return BoxInFrame.model_validate(parse_box(text if with_time else f"{text}@0"))
    except ValidationError as error:
        raise QueryError(f"--box: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
