"""The routes of all rooms together."""

from __future__ import annotations

from fastapi import FastAPI

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import catalogue_root
from edge_runtime.interfaces.http.auth import Access, Gate, Hosts
from edge_runtime.interfaces.http.errors import add_refusals
from edge_runtime.interfaces.http.openapi import REFUSALS, add_document
from edge_runtime.interfaces.http.request_bodies import Held
from edge_runtime.interfaces.http.routes.activities import add_activity_routes
from edge_runtime.interfaces.http.routes.cameras import add_camera_route, add_camera_routes
from edge_runtime.interfaces.http.routes.catalogue import add_catalogue_routes
from edge_runtime.interfaces.http.routes.configuration import add_config_routes
from edge_runtime.interfaces.http.routes.events import Listeners, add_event_routes
from edge_runtime.interfaces.http.routes.health import add_health_routes
from edge_runtime.interfaces.http.routes.history import History, add_history_routes
from edge_runtime.interfaces.http.routes.info import add_about_routes
from edge_runtime.interfaces.http.routes.login import add_session_routes
from edge_runtime.interfaces.http.routes.memory import add_memory_routes
from edge_runtime.interfaces.http.routes.metrics import add_metrics_route
from edge_runtime.interfaces.http.routes.page import add_page_files
from edge_runtime.interfaces.http.routes.pictures import add_picture_routes
from edge_runtime.interfaces.http.routes.privacy import add_privacy_routes
from edge_runtime.interfaces.http.routes.query import add_query_routes
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service


def make_app(service: Service, run: Run | None = None, hosts: Hosts | None = None) -> FastAPI:
    """Routes over one service and its cameras; those of a run's companions where `run` has them.

    Without `hosts` a client may call it by any name.
    """
    run = run or Run(service)
    access = Access(run.settings.http, hosts)
    counts, listeners = Gate.Counts(), Listeners()
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, responses=REFUSALS)
    app.add_middleware(Gate, access, counts)
    add_refusals(app)
    held = Held()

    def products() -> Catalogue:
        return Catalogue(run.settings.objects.catalogue or catalogue_root(), service.key)

    add_health_routes(app, service)
    add_session_routes(app, access, held)
    add_camera_routes(app, service, held)
    add_query_routes(app, service, held)
    add_about_routes(app, service)
    add_config_routes(app, run, held)
    add_event_routes(app, service, listeners)
    add_metrics_route(app, service, listeners, counts)
    add_privacy_routes(app, service.camera, held)
    # Routes of other rooms: here, one line each. What they read of a body goes through `held`.
    # The page's come before any route that takes `/api/v1/cameras/{name:path}` for itself.
    add_picture_routes(app, service)
    add_memory_routes(app, service)
    add_history_routes(app, History(service))
    add_page_files(app)
    add_catalogue_routes(app, service, held, products)
    add_activity_routes(app, run)
    add_camera_route(app, service)  # the last: names may hold slashes
    add_document(app)
    return app
