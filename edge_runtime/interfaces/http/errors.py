"""Errors over HTTP: one sentence each, and the status that goes with it."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edge_runtime.system.secrets import hide_secrets
from edge_runtime.system.text import printable
from engines.errors import LvmError

log = logging.getLogger(__name__)


class HttpError(LvmError):
    """An error with a status of its own; any other LvmError is a 422."""

    status = 422

    @property
    def headers(self) -> dict[str, str]:
        return {}


class NotFound(HttpError):
    """There is no such camera, picture or product."""

    status = 404


class BodyTooLarge(HttpError):
    """The body is longer than its route allows."""

    status = 413


class ServiceBusy(HttpError):
    """There is no room for this now; the same request may be sent again."""

    status = 503


def error_response(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return `{"error": sentence}`, with secrets masked."""
    return JSONResponse({"error": hide_secrets(sentence)}, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with `{"error": sentence}`."""

    @app.exception_handler(LvmError)
    async def _known(request: Request, error: LvmError) -> JSONResponse:
        if not isinstance(error, HttpError):
            return error_response(422, str(error))
        return error_response(error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def _routing(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {404: "there is nothing here", 405: f"{request.method} is not what can be done here"}
        sentence = sentences.get(error.status_code, str(error.detail))
        return error_response(error.status_code, printable(sentence), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"][1:])[:100]
        return error_response(422, printable(f"{place}: {problem['msg']}")[:400])

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        # Not logged here: uvicorn logs it with the traceback.
        return error_response(500, "an error of lvm-edge itself; its log says more")
