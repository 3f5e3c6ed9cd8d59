"""The routes of all rooms together."""

from __future__ import annotations

from fastapi import FastAPI

from edge_runtime.catalogue.doors import add_catalogue_routes
from edge_runtime.catalogue.folder import Catalogue
from edge_runtime.companions import Run
from edge_runtime.http.about import add_about_routes
from edge_runtime.http.access import Access, Hosts
from edge_runtime.http.activities import add_activity_routes
from edge_runtime.http.bodies import Held
from edge_runtime.http.cameras import add_camera_route, add_camera_routes
from edge_runtime.http.configuration import add_config_routes
from edge_runtime.http.document import REFUSALS, add_document
from edge_runtime.http.events import Listeners, add_event_routes
from edge_runtime.http.gate import Gate
from edge_runtime.http.health import add_health_routes
from edge_runtime.http.metrics import add_metrics_route
from edge_runtime.http.query import add_query_routes
from edge_runtime.http.refusals import add_refusals
from edge_runtime.http.signing_in import add_session_routes
from edge_runtime.page.routes import add_page_routes
from edge_runtime.paths import catalogue_root
from edge_runtime.privacy.doors import add_privacy_routes
from edge_runtime.service import Service


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
    add_page_routes(app, service)
    add_catalogue_routes(app, service, held, products)
    add_activity_routes(app, run)
    add_camera_route(app, service)  # the last: names may hold slashes
    add_document(app)
    return app
