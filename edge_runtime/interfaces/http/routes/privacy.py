"""The routes of privacy: what is on, a pause, forgetting. Imported with the HTTP door only.

Both that change something want `Content-Type: application/json`: a page in a browser on the same machine
cannot send that to another origin without being asked first, and we answer no such question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.interfaces.http.openapi import json_of, takes, told
from edge_runtime.interfaces.http.request_bodies import Held, parse_body
from edge_runtime.interfaces.http.schemas import ForgottenFacts, PrivacyState
from edge_runtime.memory.version import Version
from edge_runtime.persistence import Header
from edge_runtime.query.timestamps import moment
from edge_runtime.service.privacy_controller import PrivacyController
from edge_runtime.service.wall_clock import find_known_start
from edge_runtime.system.logs import forget_lines, log_file
from engines.errors import LvmError

B = TypeVar("B", bound=BaseModel)


class Kept(Protocol):
    """A run as these routes see it."""

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


def add_privacy_routes(app: FastAPI, run_of: Callable[[str | None], Kept], held: Held) -> None:
    """`run_of` gives the run of a camera's name, the only one for None; LvmError where there is none."""
    from starlette.concurrency import run_in_threadpool

    @app.get("/api/v1/privacy", **told(PrivacyState))
    def privacy(camera: str | None = None) -> dict[str, Any]:
        return run_of(camera).privacy.as_json()

    @app.post("/api/v1/privacy", **told(PrivacyState), **takes(json_of(PauseBody)))
    async def pause(request: Request) -> dict[str, Any]:
        body = await _body(request, PauseBody, held)
        guard = run_of(body.camera).privacy
        await run_in_threadpool(guard.pause, body.paused)
        return guard.as_json()

    @app.post("/api/v1/forget", **told(ForgottenFacts), **takes(json_of(ForgetBody)))
    async def forget(request: Request) -> dict[str, Any]:
        body = await _body(request, ForgetBody, held)
        return await run_in_threadpool(forget_in, run_of(body.camera), body)


def forget_in(run: Kept, body: ForgetBody) -> dict[str, Any]:
    """Forget in a run under way, and in the log of this process."""
    epoch = run.header.epoch if run.live else None
    since = find_known_start(run.version.coverage)
    start = moment(str(body.start), name="from", epoch=epoch, since=since)
    end = moment(str(body.end), name="to", epoch=epoch, since=since)
    told = run.privacy.forget(start, end, reset_background=body.reset_background).as_json()
    file = log_file()
    if file is not None and epoch is not None:
        told["log_lines"] = forget_lines(file, epoch + start, epoch + end)
    return told


async def _body(request: Request, model: type[B], held: Held) -> B:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise LvmError("this must be sent with Content-Type: application/json")
    async with held.body(request) as data:
        return parse_body(model, data)
