"""Where products are kept: in a folder of this machine, or by a running lvm-edge."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from edge_runtime.catalogue.photos import cut_out
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.imaging.decode import contents, read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.interfaces.cli.query_text import typed_box
from edge_runtime.interfaces.cli.remote import Server
from edge_runtime.query.schema import BoxInFrame
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from engines.errors import LvmError

ROUTE = "/api/v1/catalogue"


class Products(Protocol):
    """What can be done with the products that questions may name. What is told is JSON."""

    def products(self) -> list[dict[str, Any]]:
        """`name` and number of `photos` of each."""
        ...

    def photos(self, name: str) -> list[dict[str, Any]]:
        """`file`, `width`, `height` and `bytes` of each photo."""
        ...

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """`name`, `photos` that there are now, and `new` ones of them."""
        ...

    def remove(self, name: str) -> dict[str, Any]:
        """`name`, and how many photos were `removed`."""
        ...

    def rename(self, before: str, after: str) -> dict[str, Any]:
        """`before` and `name`."""
        ...


@dataclass(frozen=True)
class Here:
    """A folder of this machine."""

    catalogue: Catalogue

    def products(self) -> list[dict[str, Any]]:
        """As `Products`."""
        return list(self.catalogue.as_json()["products"])

    def photos(self, name: str) -> list[dict[str, Any]]:
        """As `Products`; files with their folders."""
        folder = self.catalogue.folder / name
        return [row | {"file": str(folder / row["file"])} for row in self.catalogue.sizes(name)]

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """As `Products`, of photos alone."""
        if camera is not None:
            raise LvmError("--camera is a running lvm-edge's: name its address with --url")
        if not paths:
            raise LvmError("name photos, or --url and --box X1,Y1,X2,Y2@T for what a camera shows there")
        images = [_part(read_image(path), box) for path in paths]
        return dict(vars(self.catalogue.add(name, images, replace=replace)))

    def remove(self, name: str) -> dict[str, Any]:
        """As `Products`."""
        return {"name": name, "removed": self.catalogue.remove(name)}

    def rename(self, before: str, after: str) -> dict[str, Any]:
        """As `Products`."""
        return {"before": before, "name": self.catalogue.rename(before, after)}


@dataclass(frozen=True)
class There:
    """The catalogue of a running lvm-edge."""

    server: Server

    def products(self) -> list[dict[str, Any]]:
        """As `Products`."""
        return self._rows(self.server.call("GET", ROUTE), "products")

    def photos(self, name: str) -> list[dict[str, Any]]:
        """As `Products`."""
        return self._rows(self.server.call("GET", _of(name)), "photos")

    def add(
        self, name: str, paths: Sequence[Path], box: str | None, camera: str | None, replace: bool
    ) -> dict[str, Any]:
        """As `Products`, also of what a camera shows in a box."""
        body: dict[str, Any] = {"replace": replace}
        if paths:
            body["photos"] = [base64.b64encode(contents(path)).decode() for path in paths]
            body |= {} if box is None else {"box": _box(box).box}
        elif box is not None:
            body |= _box(box, of_camera=True).model_dump()
            body |= {} if camera is None else {"camera": camera}
        else:
            raise LvmError("name photos, or --box X1,Y1,X2,Y2@T for what a camera shows there")
        return dict(self.server.call("PUT", _of(name), body))

    def remove(self, name: str) -> dict[str, Any]:
        """As `Products`."""
        return dict(self.server.call("DELETE", _of(name)))

    def rename(self, before: str, after: str) -> dict[str, Any]:
        """As `Products`."""
        return dict(self.server.call("PUT", f"{_of(before)}/name", after))

    def _rows(self, told: Any, name: str) -> list[dict[str, Any]]:
        try:
            return [dict(row) for row in told[name]]
        except (KeyError, TypeError, ValueError):
            raise self.server.not_understood() from None


def _of(name: str) -> str:
    return f"{ROUTE}/{quote(name, safe='')}"


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
