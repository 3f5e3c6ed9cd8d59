"""Values that a shell completes: what this installation knows, without loading an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from edge_runtime.catalogue.folder import Catalogue
from edge_runtime.config import BackendName, SamplerName
from edge_runtime.paths import catalogue_root, default_bundle
from engines.bundle import Bundle
from engines.errors import LvmError

Completer = Callable[[str], list[str]]
"""Values that begin with what is typed so far."""


def among(*words: str) -> Completer:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def activity(incomplete: str) -> list[str]:
    """Names of activities that the bundle which ships knows; another one may know others."""
    classes = Bundle.open(default_bundle()).manifest.classes
    return among(*(one.name for one in classes))(incomplete)


def product(incomplete: str) -> list[str]:
    """Names in the catalogue that is asked where none is named; none where it cannot be read."""
    try:
        return among(*Catalogue(catalogue_root()).products())(incomplete)
    except LvmError:  # a shell that completes has nobody to tell
        return []


backend = among(*get_args(BackendName))
sampler = among(*get_args(SamplerName))
kind = among("activity", "object", "time")
