"""All routes of the page in one call, in the order in which they must be known."""

from __future__ import annotations

from fastapi import FastAPI

from edge_runtime.page.files import add_page_files
from edge_runtime.page.history import History, add_history_routes
from edge_runtime.page.live import add_picture_routes
from edge_runtime.page.memory import add_memory_routes
from edge_runtime.service import Service


def add_page_routes(app: FastAPI, service: Service) -> None:
    """Before any route that takes `/api/v1/cameras/{name:path}` for itself."""
    add_picture_routes(app, service)
    add_memory_routes(app, service)
    add_history_routes(app, History(service))
    add_page_files(app)
