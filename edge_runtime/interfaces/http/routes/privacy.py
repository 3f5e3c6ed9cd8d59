"""Routes of privacy: its state, pausing, forgetting.

The two that change something require `Content-Type: application/json`: a browser sends that to another origin
only after a preflight request, which we do not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.interfaces.http.openapi import accepts, documented, json_body
from edge_runtime.interfaces.http.request_bodies import BodyReader, parse_body
from edge_runtime.interfaces.http.schemas import ForgottenFacts, PrivacyState
from edge_runtime.memory.version import Version
from edge_runtime.persistence import Header
from edge_runtime.service.forget_folder import complete_forget_result
from edge_runtime.service.privacy_controller import PrivacyController
from edge_runtime.service.wall_clock import make_forget_reader
from edge_runtime.system.logs import log_file
from engines.errors import LvmError

B = TypeVar("B", bound=BaseModel)


class PrivateRun(Protocol):
    """What these routes need of a camera's run."""

    privacy: PrivacyController
    header: Header

    @property
    def version(self) -> Version: ...

    @property
    def live(self) -> bool: ...


class PauseBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    paused: bool
    camera: str | None = None


class ForgetBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start: float | str = Field(alias="from")
    end: float | str = Field(alias="to")
    reset_background: bool = False
    camera: str | None = None


def add_privacy_routes(
    app: FastAPI, find_run: Callable[[str | None], PrivateRun], bodies: BodyReader
) -> None:
    """Add the routes; `find_run` returns a camera's run, the only one for None, or raises LvmError."""
    from starlette.concurrency import run_in_threadpool

    @app.get("/api/v1/privacy", **documented(PrivacyState))
    def privacy(camera: str | None = None) -> dict[str, Any]:
        return find_run(camera).privacy.as_json()

    @app.post("/api/v1/privacy", **documented(PrivacyState), **accepts(json_body(PauseBody)))
    async def pause(request: Request) -> dict[str, Any]:
        body = await _body(request, PauseBody, bodies)
        guard = find_run(body.camera).privacy
        await run_in_threadpool(guard.pause, body.paused)
        return guard.as_json()

    @app.post("/api/v1/forget", **documented(ForgottenFacts), **accepts(json_body(ForgetBody)))
    async def forget(request: Request) -> dict[str, Any]:
        body = await _body(request, ForgetBody, bodies)
        return await run_in_threadpool(forget_span, find_run(body.camera), body)


def forget_span(run: PrivateRun, body: ForgetBody) -> dict[str, Any]:
    """Forget a span of time in a run and in the log of this process."""
    reader = make_forget_reader(run.header, run.version.coverage)
    start, end = reader.read_window(str(body.start), str(body.end))
    result = run.privacy.forget(start, end, reset_background=body.reset_background)
    return complete_forget_result(result, log_file(), run.header).as_json()


async def _body(request: Request, model: type[B], bodies: BodyReader) -> B:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise LvmError("this must be sent with Content-Type: application/json")
    async with bodies.read(request) as data:
        return parse_body(model, data)
