"""Routes of the catalogue: list products, show their photos, add, rename and remove them.

A product is added from photos (base64) or from what a camera shows:

    PUT /api/v1/catalogue/NAME  {"photos": ["…"]}                    also {"replace": true}
    PUT /api/v1/catalogue/NAME  a form with files photos, and fields box and replace
    PUT /api/v1/catalogue/NAME  {"camera": "lane1", "box": [0.2, 0.3, 0.4, 0.6], "t": 95}
    PUT /api/v1/catalogue/NAME/name  "new name"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator
from starlette.concurrency import run_in_threadpool

from edge_runtime.catalogue.photos import MAX_PHOTOS, crop_image, encode_photo
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.imaging.decode import read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.interfaces.http.errors import NotFound
from edge_runtime.interfaces.http.openapi import accepts, documented, form_body, json_body
from edge_runtime.interfaces.http.request_bodies import (
    MAX_BODY_BYTES,
    BodyReader,
    is_form,
    open_form,
    parse_body,
    read_photos,
    validated,
)
from edge_runtime.interfaces.http.routes.cameras import find_camera
from edge_runtime.interfaces.http.schemas import (
    CatalogueFacts,
    ProductAdded,
    ProductRemoved,
    ProductRenamed,
    ProductShown,
)
from edge_runtime.query.schema import BoxInFrame, Photos
from edge_runtime.query.timestamps import EXPECTED
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable

WHOLE = (0.0, 0.0, 1.0, 1.0)
Products = Callable[[], Catalogue]
FORM = form_body(
    {
        "box": {
            "type": "string",
            "description": "x1,y1,x2,y2 in 0..1, the part of each photo",
            "examples": ["0.2,0.1,0.5,0.9"],
        },
        "replace": {"type": "string", "enum": ["true", "false"], "description": "instead of what is there"},
    },
    ["photos"],
)
_NAME = TypeAdapter(str)


class AddBody(BaseModel):
    """Photos, or what a camera shows. `box` is the part that is used; without `t` the newest picture."""

    model_config = ConfigDict(extra="forbid")

    photos: Annotated[
        list[str] | list[bytes] | None,
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PHOTOS,
                "items": {"type": "string", "contentEncoding": "base64"},
            }
        ),
    ] = None
    camera: str | None = None
    box: tuple[float, float, float, float] = WHOLE
    t: float | str | None = Field(default=None, description=EXPECTED)
    replace: bool = False

    @model_validator(mode="after")
    def _check_origin(self) -> AddBody:
        if self.photos is not None and (self.camera is not None or self.t is not None):
            raise ValueError("name photos, or a camera's box and t, not both")
        if self.photos is None and "box" not in self.model_fields_set:
            raise ValueError('name {"photos": [base64]} or {"camera", "box": [x1,y1,x2,y2], "t": s}')
        return self


def add_catalogue_routes(app: FastAPI, service: Service, bodies: BodyReader, products: Products) -> None:
    """Add the routes; `products()` opens the catalogue that is configured now."""
    _add_reading(app, products)

    @app.put(
        "/api/v1/catalogue/{name}/name",
        **documented(ProductRenamed),
        **accepts({"application/json": {"schema": {"type": "string"}, "example": "Oat milk, 1 l"}}),
    )
    async def rename(name: str, request: Request) -> dict[str, Any]:
        """Rename a product to the name in the body."""
        async with bodies.read(request) as body:
            new_name = validated(lambda: _NAME.validate_json(body))
        return await run_in_threadpool(_rename, products(), name, new_name)

    @app.put("/api/v1/catalogue/{name}", **documented(ProductAdded), **accepts(json_body(AddBody) | FORM))
    async def add(name: str, request: Request) -> dict[str, Any]:
        async with bodies.read(request, MAX_BODY_BYTES) as data:
            body = await _read_form(request, data) if is_form(request) else parse_body(AddBody, data)
            return await run_in_threadpool(_add, service, products(), name, body)

    @app.delete("/api/v1/catalogue/{name}", **documented(ProductRemoved))
    def remove(name: str) -> dict[str, Any]:
        return {"name": name, "removed": _require_product(products(), name).remove(name)}


def _add_reading(app: FastAPI, products: Products) -> None:
    @app.get("/api/v1/catalogue", **documented(CatalogueFacts))
    def catalogue() -> dict[str, Any]:
        return products().as_json()

    @app.get("/api/v1/catalogue/{name}", **documented(ProductShown))
    def product(name: str) -> dict[str, Any]:
        """The photos of a product, in their order."""
        return {"name": name, "photos": _require_product(products(), name).describe_photos(name)}

    @app.get("/api/v1/catalogue/{name}/photo.jpg", response_class=Response)
    def photo(name: str, number: Annotated[int, Query(ge=1, le=MAX_PHOTOS)] = 1) -> Response:
        """One of a product's photos, by default the first, encoded as the catalogue stores it."""
        catalogue = _require_product(products(), name)
        photos = catalogue.list_photos(name)
        if number > len(photos):
            raise NotFound(printable(f"product {name[:100]!r} has {len(photos)} photos, not {number}"))
        return Response(encode_photo(catalogue.load_image(photos[number - 1])), media_type="image/jpeg")


def _rename(catalogue: Catalogue, name: str, new_name: str) -> dict[str, Any]:
    return {"before": name, "name": _require_product(catalogue, name).rename(name, new_name)}


def _require_product(catalogue: Catalogue, name: str) -> Catalogue:
    """Return the catalogue. Raises NotFound where it lacks the product."""
    try:
        catalogue.check_known(name)
    except QueryError as error:
        raise NotFound(str(error)) from None
    return catalogue


def _add(service: Service, catalogue: Catalogue, name: str, body: AddBody) -> dict[str, Any]:
    if body.photos is None:
        images = [_camera_image(service, body)]
    else:
        part = _valid_box(body.box, 0.0)
        # Validate photos: base64 from JSON, bytes from a form.
        photos = validated(lambda: Photos.model_validate({"photos": body.photos}))
        images = [crop_image(read_image(photo), part.box) for photo in photos.photos]
    return dict(vars(catalogue.add(name, images, replace=body.replace)))


def _camera_image(service: Service, body: AddBody) -> Image:
    """Cut the part out of what the camera showed at `t`, privacy zones masked."""
    camera = service.camera() if body.camera is None else find_camera(service, body.camera)
    t = camera.time_reader().read_moment(body.t, "t") if isinstance(body.t, str) else body.t
    part = _valid_box(body.box, t or 0.0)
    if t is not None:
        return crop_image(camera.pictures.read_at(t).image, part.box)
    newest = camera.pictures.newest()
    if newest is None:
        raise NotFound(f"camera {camera.name} has no picture now")
    return crop_image(newest.frame.image, part.box)


def _valid_box(box: tuple[float, float, float, float], t: float) -> BoxInFrame:
    return validated(lambda: BoxInFrame(box=box, t=t))


async def _read_form(request: Request, data: bytes) -> AddBody:
    """Read a form: files `photos`, fields `box` (x1,y1,x2,y2) and `replace` (true or false)."""
    async with open_form(request, data) as form:
        if set(form) - {"photos", "box", "replace"}:
            raise QueryError("a form has files photos and fields box and replace, and nothing else")
        fields: dict[str, Any] = {"photos": await read_photos(form)}
        if "box" in form:
            fields["box"] = str(form["box"]).split(",")
        if "replace" in form:
            fields["replace"] = str(form["replace"])
        return validated(lambda: AddBody.model_validate(fields))
