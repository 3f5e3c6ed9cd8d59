"""Serve the files of the page, which need no token since it is typed there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
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
    "img-src 'self' blob:; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors ",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
INDEX = "index.html"
BASE = b"<!-- base -->"
"""In the page, where its base is put if it is shown at a sub-path."""


@cache
def page_files() -> dict[str, bytes]:
    """Return all files of the page by name: other names never reach the disk."""
    folder = resources.files("edge_runtime.interfaces.web").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if _suffix(file.name) in TYPES}


def add_page_files(app: FastAPI, allowed_frames: Sequence[str] = ()) -> None:
    """Add the page; `allowed_frames` are the origins whose pages may show it in a frame."""
    policy = HEADERS["Content-Security-Policy"] + (" ".join(allowed_frames) or "'none'")
    headers = HEADERS | {"Content-Security-Policy": policy}
    if not allowed_frames:  # X-Frame-Options, for older browsers, cannot name an origin
        headers["X-Frame-Options"] = "DENY"

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        # Addresses in the page are relative: the base makes them right also where the last slash is missing.
        prefix = request.scope.get("root_path", "")
        base = f'<base href="{escape(prefix)}/">'.encode() if prefix else b""
        return _respond(page_files()[INDEX].replace(BASE, base, 1), INDEX, request, headers)

    @app.get("/page/{name}", include_in_schema=False)
    def file(name: str, request: Request) -> Response:
        data = page_files().get(name)
        if data is None:
            return error_response(404, "the page has no such file")
        return _respond(data, name, request, headers)


def _respond(data: bytes, name: str, request: Request, headers: dict[str, str]) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    headers = headers | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[_suffix(name)])


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
