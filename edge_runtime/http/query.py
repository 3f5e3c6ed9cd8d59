"""The route of questions."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from edge_runtime.addressed import parse_addressed
from edge_runtime.http import bodies
from edge_runtime.service import Service


def add_query_routes(app: FastAPI, service: Service, held: bodies.Held) -> None:
    @app.post("/api/v1/query")
    async def query(request: Request) -> JSONResponse:
        async with held.body(request, bodies.MAX_BODY_BYTES) as body:
            asked = parse_addressed(body)
            # The reader runs in a thread, so that health checks are answered meanwhile.
            answer = await run_in_threadpool(service.ask, asked.query, asked.camera)
        return JSONResponse(answer.model_dump(mode="json"))
