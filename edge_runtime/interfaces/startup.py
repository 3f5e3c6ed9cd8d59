"""What accompanies a run: started before it watches, told to whoever shows it, stopped after it.

A companion is a function `start(run)` that is a context manager: what it holds lives as long as its `with`.
It keeps in `run` what others need of it, and puts into `run.messages` what a person should read at the start.
They start in the order of `COMPANIONS` and stop in the opposite one, so the doors come last: who asks through
them finds everything else there, and nobody asks any more when the rest stops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edge_runtime.config.schema import Config
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.run import Run
from edge_runtime.system.malloc import trim_malloc_regularly
from engines.errors import LvmError

Companion = Callable[[Run], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def accompanied(run: Run) -> Iterator[Run]:
    """Around a run: its companions. Raises LvmError of one that was asked for and cannot start."""
    with contextlib.ExitStack() as stack:
        for start in COMPANIONS:
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
        # A second process on one machine must not fail for a door that nobody asked for.
        run.messages.append(f"not listening: {error}")
        yield
        return
    with server:
        run.address = server.address
        yield


@contextlib.contextmanager
def mqtt(run: Run) -> Iterator[None]:
    with contextlib.ExitStack() as held:

        def open_door(config: Config) -> None:
            """Instead of the one that is open. Raises LvmError, and leaves that open."""
            settings = config.mqtt
            if not settings.enabled:
                held.close()
                return
            from edge_runtime.interfaces.mqtt.client import MqttDoor

            door = MqttDoor(run.service, settings)
            held.close()  # with a goodbye, before somebody of the same name comes
            held.enter_context(door)
            run.messages.append(f"tells {door.address}, topics {settings.topic_prefix}/…")

        open_door(run.settings)
        run.reload_handlers["mqtt"] = open_door
        yield


def heaps(_: Run) -> contextlib.AbstractContextManager[None]:
    return trim_malloc_regularly()


COMPANIONS: tuple[Companion, ...] = (heaps, mqtt, activities, http)
"""In the order in which they start. MQTT comes early, so that it still tells what ends when others stop."""
