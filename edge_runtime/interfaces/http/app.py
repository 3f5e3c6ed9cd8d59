"""Build the HTTP application from all routes."""

from __future__ import annotations

from fastapi import FastAPI

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import catalogue_root
from edge_runtime.interfaces.http.auth import AccessControl, AccessMiddleware, AllowedHosts
from edge_runtime.interfaces.http.errors import add_error_handlers
from edge_runtime.interfaces.http.openapi import ERROR_RESPONSES, ReadRoute, add_openapi
from edge_runtime.interfaces.http.proxies import ProxyMiddleware, TrustedProxies
from edge_runtime.interfaces.http.request_bodies import BodyReader
from edge_runtime.interfaces.http.routes.activities import add_activity_routes
from edge_runtime.interfaces.http.routes.cameras import add_camera_route, add_camera_routes
from edge_runtime.interfaces.http.routes.catalogue import add_catalogue_routes
from edge_runtime.interfaces.http.routes.configuration import add_config_routes
from edge_runtime.interfaces.http.routes.events import Listeners, add_event_routes
from edge_runtime.interfaces.http.routes.history import History, add_history_routes
from edge_runtime.interfaces.http.routes.info import add_health_routes, add_info_routes
from edge_runtime.interfaces.http.routes.memory import add_memory_routes
from edge_runtime.interfaces.http.routes.metrics import add_metrics_route
from edge_runtime.interfaces.http.routes.page import add_page_files
from edge_runtime.interfaces.http.routes.pictures import add_picture_routes
from edge_runtime.interfaces.http.routes.privacy import add_privacy_routes
from edge_runtime.interfaces.http.routes.query import add_query_routes
from edge_runtime.interfaces.http.routes.session import add_session_routes
from edge_runtime.interfaces.http.routes.teaching import add_teaching_routes
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service


def make_app(service: Service, run: Run | None = None, hosts: AllowedHosts | None = None) -> FastAPI:
    """Return the application over a service; routes of a run's other components work where `run` has them.

    Without `hosts` a client may use any host name.
    """
    run = run or Run(service)
    settings = run.settings.http
    access = AccessControl(settings, hosts)
    counts, listeners = AccessMiddleware.Counts(), Listeners()
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, responses=ERROR_RESPONSES)
    app.router.route_class = ReadRoute
    app.add_middleware(AccessMiddleware, access, counts)
    app.add_middleware(ProxyMiddleware, TrustedProxies(settings.proxy_networks()), settings.root_path)
    add_error_handlers(app)
    bodies = BodyReader()

    def products() -> Catalogue:
        return Catalogue(run.settings.objects.catalogue or catalogue_root(), service.key)

    add_health_routes(app, service)
    add_session_routes(app, access, bodies, settings.allowed_frames)
    add_camera_routes(app, service, bodies)
    add_query_routes(app, service, bodies)
    add_info_routes(app, service)
    add_config_routes(app, run, bodies)
    add_event_routes(app, service, listeners)
    add_metrics_route(app, service, listeners, counts)
    add_privacy_routes(app, service.camera, bodies)
    # These come before the route `/api/v1/cameras/{name:path}`, which would match them too.
    add_picture_routes(app, service)
    add_memory_routes(app, service)
    add_history_routes(app, History(service))
    add_page_files(app, settings.allowed_frames)
    add_catalogue_routes(app, service, bodies, products)
    add_activity_routes(app, run)
    add_teaching_routes(app, service, bodies)
    add_camera_route(app, service)  # last: names may hold slashes
    add_openapi(app)
    return app
