"""Serve the files of the page. They need no token, since the page is where it is typed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import FastAPI, Request, Response

from edge_runtime.interfaces.http.errors import error_response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # Only this machine's own files, and pictures that the page made.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
INDEX = "index.html"


@cache
def page_files() -> dict[str, bytes]:
    """Return all files of the page by name: other names never reach the disk."""
    folder = resources.files("edge_runtime.interfaces.web").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if _suffix(file.name) in TYPES}


def add_page_files(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return _file(INDEX, request)

    @app.get("/page/{name}", include_in_schema=False)
    def file(name: str, request: Request) -> Response:
        return _file(name, request)


def _file(name: str, request: Request) -> Response:
    data = page_files().get(name)
    if data is None:
        return error_response(404, "the page has no such file")
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    headers = HEADERS | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[_suffix(name)])


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
