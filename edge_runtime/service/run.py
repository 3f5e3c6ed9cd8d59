"""A run: its service, its settings and what of both may change while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.config.schema import Config
from edge_runtime.service.activity_recorder import Recorder
from edge_runtime.service.runtime import Service
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
