"""What accompanies a run: started before it watches, told to whoever shows it, stopped after it.

A companion is a function `start(run)` that is a context manager: what it holds lives as long as its `with`.
It keeps in `run` what others need of it, and says in `run.said` what a person should read at the start. They
start in the order of `COMPANIONS` and stop in the opposite one, so the doors come last: who asks through them
finds everything else there, and nobody asks any more when the rest stops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.activity.recorder import Recorder
from edge_runtime.config import Config
from edge_runtime.heaps import heaps_trimmed
from edge_runtime.service import Service
from engines.errors import LvmError


@dataclass
class Run:
    """One run of a service, and what accompanies it.

    `config_file` is the file that its settings came from, None where there was none. `reload` reads its
    cameras again, from any thread, and gives a sentence for each that could not be; None where there is
    nothing to read.
    """

    service: Service
    settings: Config = field(default_factory=Config)
    config_file: Path | None = None
    reload: Callable[[], list[str]] | None = None
    listen: str | None = None
    """The address that was asked for on the command line; None is that of the settings."""
    no_http: bool = False

    followers: dict[str, Callable[[Config], None]] = field(default_factory=dict)
    """Of companions that can change while they run, by their section: told other settings. They raise
    LvmError, and go on as they were, where that cannot be."""
    address: str | None = None
    """Where the HTTP door is open."""
    activities: Recorder | None = None
    """Who keeps the activity logs; None where that is off."""

    said: list[str] = field(default_factory=list)
    """Sentences for a person, of companions that could not start or that tell where they are."""

    def follow(self, wanted: Config) -> list[str]:
        """Other settings, whose cameras are watched already: a sentence for each section that cannot be
        changed while it runs."""
        taken = {"cameras": wanted.cameras, "defaults": wanted.defaults}
        problems = []
        for section in Config.model_fields:
            if section in taken or getattr(wanted, section) == getattr(self.settings, section):
                continue
            if section not in self.followers:
                problems.append(f"{section} is read at the start only; restart to change it")
                continue
            try:
                self.followers[section](wanted)
                taken[section] = getattr(wanted, section)
            except LvmError as error:
                problems.append(f"{section}: {error}")
        self.settings = self.settings.model_copy(update=taken)
        return problems


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
    with Recorder(run.service, settings) as run.activities:
        yield


@contextlib.contextmanager
def http(run: Run) -> Iterator[None]:
    settings = run.settings.http
    if run.no_http or (run.listen is None and not settings.enabled):
        yield
        return
    from edge_runtime.http.serving import HttpServer

    try:
        server = HttpServer(run.service, run.listen or settings.listen, run)
    except LvmError as error:
        if run.listen is not None or settings.model_fields_set:
            raise
        # A second process on one machine must not fail for a door that nobody asked for.
        run.said.append(f"not listening: {error}")
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
            from edge_runtime.mqtt.door import MqttDoor

            door = MqttDoor(run.service, settings)
            held.close()  # with a goodbye, before somebody of the same name comes
            held.enter_context(door)
            run.said.append(f"tells {door.address}, topics {settings.topic_prefix}/…")

        open_door(run.settings)
        run.followers["mqtt"] = open_door
        yield


def heaps(_: Run) -> contextlib.AbstractContextManager[None]:
    return heaps_trimmed()


COMPANIONS: tuple[Companion, ...] = (heaps, mqtt, activities, http)
"""In the order in which they start. MQTT comes early, so that it still tells what ends when others stop."""
