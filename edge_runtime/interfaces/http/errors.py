"""What the HTTP door refuses, one sentence each, and the status that goes with it."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edge_runtime.system.secrets import mask_secrets
from edge_runtime.system.text import printable
from engines.errors import LvmError

log = logging.getLogger(__name__)


class Refusal(LvmError):
    """A refusal with a status of its own; any other LvmError is a 422: it was not understood."""

    status = 422

    @property
    def headers(self) -> dict[str, str]:
        return {}


class Unknown(Refusal):
    """There is no such camera, picture, product, …"""

    status = 404


class TooLarge(Refusal):
    """The body is longer than this route takes."""

    status = 413


class Busy(Refusal):
    """There is no room for this now; the same may be asked again."""

    status = 503


def refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """`{"error": sentence}`, without any secret."""
    return JSONResponse({"error": mask_secrets(sentence)}, status, headers)


def add_refusals(app: FastAPI) -> None:
    """Every error leaves as `{"error": sentence}`."""

    @app.exception_handler(LvmError)
    async def _ours(request: Request, error: LvmError) -> JSONResponse:
        if not isinstance(error, Refusal):
            return refused(422, str(error))
        return refused(error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def _of_routing(request: Request, error: HTTPException) -> JSONResponse:
        said = {404: "there is nothing here", 405: f"{request.method} is not what can be done here"}
        sentence = said.get(error.status_code, str(error.detail))
        return refused(error.status_code, printable(sentence), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _of_parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"][1:])[:100]
        return refused(422, printable(f"{place}: {problem['msg']}")[:400])

    @app.exception_handler(Exception)
    async def _of_ours(request: Request, error: Exception) -> JSONResponse:
        # Starlette logs nothing of it by itself: uvicorn does, with the traceback.
        return refused(500, "an error of lvm-edge itself; its log says more")
