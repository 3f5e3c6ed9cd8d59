"""Start the components of a run before it watches, and stop them after it.

A component is a function `start(run)` that returns a context manager: it runs within its `with`. It stores in
`run` what others need of it, and adds to `run.messages` what a person should read at the start. Components
start in the order of `COMPONENTS` and stop in reverse, so the HTTP interface is last: everything else is
there when it answers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from edge_runtime.config.mqtt import MqttSettings, make_broker_settings
from edge_runtime.config.paths import state_root
from edge_runtime.config.schema import Config
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.run import Run
from edge_runtime.system.malloc import trim_malloc_regularly
from engines.errors import LvmError

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.client import MqttClient
    from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics

log = logging.getLogger(__name__)

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
    from edge_runtime.interfaces.mqtt.published_topics import FILE, PublishedTopics

    folder = run.settings.state.directory or state_root()
    with contextlib.ExitStack() as whole, contextlib.ExitStack() as resources:
        published: PublishedTopics | None = None
        if run.settings.mqtt.enabled or (folder / FILE).is_file():
            published = whole.enter_context(contextlib.closing(PublishedTopics(folder)))

        def connect(config: Config) -> None:
            """Replace the client. Raises LvmError, and then keeps the present one."""
            nonlocal published
            settings, before = config.mqtt, run.settings.mqtt
            client = None
            if settings.enabled:
                from edge_runtime.interfaces.mqtt.client import MqttClient

                published = published or whole.enter_context(contextlib.closing(PublishedTopics(folder)))
                client = MqttClient(run.service, settings, published=published)
            resources.close()  # disconnects before a client of the same name connects
            if published is not None:
                _withdraw(resources, published, before if before.enabled else settings, client)
            if client is not None:
                resources.enter_context(client)
                run.messages.append(f"tells {client.address}, topics {settings.topic_prefix}/…")

        connect(run.settings)
        run.reload_handlers["mqtt"] = connect
        yield


def _withdraw(
    resources: contextlib.ExitStack,
    published: PublishedTopics,
    settings: MqttSettings,
    client: MqttClient | None,
) -> None:
    """Take back what a broker retains of ours that `client` does not talk to any more; None for no client."""
    others = [broker for broker in published.brokers if client is None or broker != client.address]
    for broker in others:
        known = broker == settings.address
        from edge_runtime.interfaces.mqtt.withdrawal import Withdrawal

        try:
            # Of a broker that is in no configuration any more only the address is known: some need no user.
            left = settings if known else make_broker_settings(broker)
            tell = None if known else partial(_say_what_to_do, broker)
            resources.enter_context(Withdrawal(left, published, tell))
        except ImportError:
            log.warning("MQTT: the package aiomqtt is missing, so topics at %s are not taken back", broker)
        except LvmError as error:  # the file was written by hand
            log.warning("MQTT: topics at %s are not taken back: %s", broker, error)


def _say_what_to_do(broker: str, reason: str) -> None:
    log.warning(
        "%s; topics of this device stay there: stop it and call lvm-edge mqtt-withdraw %s --username NAME, "
        "with the password in LVM_MQTT_PASSWORD and --config as here",
        reason,
        broker,
    )


def malloc_trimming(_: Run) -> contextlib.AbstractContextManager[None]:
    return trim_malloc_regularly()


COMPONENTS: tuple[Component, ...] = (malloc_trimming, mqtt, activities, http)
"""In the order of starting. MQTT comes early, so that it still publishes how the others end."""
