"""Hold a run: its service, its settings, and how settings change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.config.schema import Config
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.runtime import Service
from engines.errors import LvmError


@dataclass
class Run:
    """One run of a service with its components.

    `config_file` is the file of its settings, None where there is none. `reload` reads it again, from any
    thread, and returns a sentence for each problem; None where there is nothing to read.
    """

    service: Service
    settings: Config = field(default_factory=Config)
    config_file: Path | None = None
    reload: Callable[[], list[str]] | None = None
    listen: str | None = None
    """The address from the command line; None is that of the settings."""
    no_http: bool = False

    reload_handlers: dict[str, Callable[[Config], None]] = field(default_factory=dict)
    """Functions that apply new settings to a running component, by configuration section. They raise LvmError
    and leave the component as it was where that is impossible."""
    address: str | None = None
    """Where HTTP listens."""
    activities: ActivityRecorder | None = None
    """Writes the activity logs; None where that is off."""

    messages: list[str] = field(default_factory=list)
    """Sentences of components for a person: where they listen, or why they could not start."""

    def apply_settings(self, new: Config) -> list[str]:
        """Take over new settings, whose cameras are watched already.

        Returns a sentence for each section that cannot be changed during a run.
        """
        changed = {"cameras": new.cameras, "defaults": new.defaults}
        problems = []
        for section in Config.model_fields:
            if section in changed or getattr(new, section) == getattr(self.settings, section):
                continue
            if section not in self.reload_handlers:
                problems.append(f"{section} is read at the start only; restart to change it")
                continue
            try:
                self.reload_handlers[section](new)
                changed[section] = getattr(new, section)
            except LvmError as error:
                problems.append(f"{section}: {error}")
        self.settings = self.settings.model_copy(update=changed)
        return problems
