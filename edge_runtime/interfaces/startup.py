"""Start the components of a run before it watches, and stop them after it.

A component is a function `start(run)` that returns a context manager: it runs within its `with`. It stores in
`run` what others need of it, and adds to `run.messages` what a person should read at the start. Components
start in the order of `COMPONENTS` and stop in reverse, so the HTTP interface is last: everything else is
there when it answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edge_runtime.config.schema import Config
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.run import Run
from edge_runtime.system.malloc import trim_malloc_regularly
from engines.errors import LvmError

Component = Callable[[Run], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def component_lifespan(run: Run) -> Iterator[Run]:
    """Run the components within `with`. Raises LvmError where one that was asked for cannot start."""
    with contextlib.ExitStack() as stack:
        for start in COMPONENTS:
            stack.enter_context(start(run))
        yield run


@contextlib.contextmanager
def activities(run: Run) -> Iterator[None]:
    settings = run.settings.activities
    if not settings.enabled or not run.service.engines.bundle.manifest.training.trained:
        yield
        return
    with ActivityRecorder(run.service, settings) as run.activities:
        yield


@contextlib.contextmanager
def http(run: Run) -> Iterator[None]:
    settings = run.settings.http
    if run.no_http or (run.listen is None and not settings.enabled):
        yield
        return
    from edge_runtime.interfaces.http.server import HttpServer

    try:
        server = HttpServer(run.service, run.listen or settings.listen, run)
    except LvmError as error:
        if run.listen is not None or settings.model_fields_set:
            raise
        # A second process on one machine must not fail for an interface that was not asked for.
        run.messages.append(f"not listening: {error}")
        yield
        return
    with server:
        run.address = server.address
        yield


@contextlib.contextmanager
def mqtt(run: Run) -> Iterator[None]:
    with contextlib.ExitStack() as resources:

        def connect(config: Config) -> None:
            """Replace the client. Raises LvmError, and then keeps the present one."""
            settings = config.mqtt
            if not settings.enabled:
                resources.close()
                return
            from edge_runtime.interfaces.mqtt.client import MqttClient

            client = MqttClient(run.service, settings)
            resources.close()  # disconnects before a client of the same name connects
            resources.enter_context(client)
            run.messages.append(f"tells {client.address}, topics {settings.topic_prefix}/…")

        connect(run.settings)
        run.reload_handlers["mqtt"] = connect
        yield


def malloc_trimming(_: Run) -> contextlib.AbstractContextManager[None]:
    return trim_malloc_regularly()


COMPONENTS: tuple[Component, ...] = (malloc_trimming, mqtt, activities, http)
"""In the order of starting. MQTT comes early, so that it still publishes how the others end."""
