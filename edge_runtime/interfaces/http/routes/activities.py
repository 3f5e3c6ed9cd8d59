"""Route of the activity log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Response

from edge_runtime.activity.row import Row, format_csv
from edge_runtime.activity.sqlite_store import LogFilter
from edge_runtime.interfaces.http.errors import NotFound
from edge_runtime.interfaces.http.openapi import documented
from edge_runtime.interfaces.http.schemas import LoggedActivities
from edge_runtime.service.run import Run
from edge_runtime.system.errors import QueryError

MAX_ROWS = 10_000
"""Most rows of one response."""
MAX_TEXT = 200


def add_activity_routes(app: FastAPI, run: Run) -> None:
    @app.get("/api/v1/activities", **documented(LoggedActivities))
    def activities(
        camera: str | None = None,
        start: Annotated[str | None, Query(alias="from", max_length=64)] = None,
        end: Annotated[str | None, Query(alias="to", max_length=64)] = None,
        text: Annotated[str, Query(max_length=MAX_TEXT)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
        format: Literal["json", "csv"] = "json",
    ) -> dict[str, Any] | Response:
        """Rows of the activity log, newest first."""
        rows, more, asked = _find_rows(run, camera, start, end, text, limit)
        entries = [row.as_json() for row in rows]
        if format == "csv":
            name = {"Content-Disposition": 'attachment; filename="activities.csv"'}
            return Response(format_csv(entries), media_type="text/csv; charset=utf-8", headers=name)
        return {"activities": entries, "more": more} | ({"asked": asked} if start or end else {})


def _find_rows(
    run: Run, camera: str | None, start: str | None, end: str | None, text: str, limit: int
) -> tuple[list[Row], bool, dict[str, Any]]:
    if run.activities is None:
        raise NotFound(
            "activities are not recognised here: they are switched off, or the bundle is untrained"
        )
    cameras = run.service.cameras
    if camera is not None:
        try:
            cameras = {camera: run.service.camera(camera)}
        except QueryError as error:
            raise NotFound(str(error)) from None
    rows: list[Row] = []
    more = False
    asked = {}
    for name, watched in cameras.items():
        # Each camera's clock is its own.
        reader = watched.time_reader()
        span = reader.read_span(start, end)
        asked[name] = reader.describe_span(*span)
        found = LogFilter(*span, text, limit)
        camera_rows, has_more = run.activities.find(name, found)
        rows += camera_rows
        more = more or has_more
    rows.sort(key=lambda row: (row.written_at, row.id), reverse=True)
    return rows[:limit], more or len(rows) > limit, asked
