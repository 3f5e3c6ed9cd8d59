"""`lvm-edge run`: watch one source or several cameras, remember, answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.cli import completion
from edge_runtime.interfaces.cli.options import BundleFolder
from edge_runtime.interfaces.cli.run_console import Session
from edge_runtime.interfaces.cli.signals import kept
from edge_runtime.interfaces.startup import accompanied
from edge_runtime.persistence.encryption import find_key
from edge_runtime.service.camera_settings import CameraSettings, make_source_settings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.system.logs import set_up
from edge_runtime.system.malloc import leave_loaded_alone
from engines.bundle import Bundle
from engines.errors import LvmError

log = logging.getLogger(__name__)


def run(
    context: typer.Context,
    camera: Annotated[int | None, typer.Option(help="camera index")] = None,
    source: Annotated[
        str | None, typer.Option(help="path, folder, URL, gst:PIPELINE, csi://N or demo")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration")] = None,
    bundle: BundleFolder = None,
    state: Annotated[Path | None, typer.Option(help="folder in which the memory is kept")] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="auto, tensorrt, onnxruntime-cuda, openvino or onnxruntime",
            autocompletion=completion.backend,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="neural, svd-novelty, random or fifo", autocompletion=completion.sampler),
    ] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT to listen on")] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="do not listen")] = False,
    for_: Annotated[float | None, typer.Option("--for", help="end after so many seconds of stream")] = None,
    stay: Annotated[bool, typer.Option("--stay", help="keep answering when the source has ended")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answers and the summary as JSON lines")] = False,
) -> None:
    """Watch a source, or every camera of a configuration, remember it in a fixed number of tokens and answer
    questions meanwhile. SIGHUP reads the configuration's cameras and its broker again."""
    if for_ is not None and not 0 < for_ < float("inf"):
        raise LvmError(f"--for must be a number of seconds above 0, got {for_}")
    if camera is not None and source is not None:
        raise LvmError("name --camera or --source, not both")
    settings = load_config(config) if config else Config()
    set_up(settings.logs.model_copy(update=context.obj or {}))
    named = str(camera) if camera is not None else source
    cameras = (
        [make_source_settings(settings, named, state, sampler)]
        if named
        else _configured(settings, state, sampler)
    )
    model = settings.model
    with kept():
        opened = Bundle.open(bundle or model.bundle or default_bundle())
        engines = Engines.load(opened, backend or model.backend, model.threads)
        with Service(engines, key=find_key(settings.state.encryption.key_file)) as service:
            _add_all(service, cameras)
            file = config if config is not None and config.exists() else None
            started = Run(service, settings, file, listen=http, no_http=no_http)
            if config is not None and not named:
                started.reload = _Reload(started, config, lambda read: _configured(read, state, sampler))
            with accompanied(started):
                leave_loaded_alone()
                Session(started, as_json=as_json).run(for_, stay)
            for error in service.pending.errors.values():
                raise error


class _Reload:
    """Cameras and broker as the file has them now. A file that is wrong is said, and changes nothing. What
    cannot be done to one camera is said as well, and done to the others."""

    def __init__(
        self, started: Run, config: Path, cameras_of: Callable[[Config], list[CameraSettings]]
    ) -> None:
        self._started, self._config, self._cameras_of = started, config, cameras_of
        self._lock = threading.Lock()

    def __call__(self) -> list[str]:
        try:
            with self._lock:  # SIGHUP is one thread's, PUT /api/v1/config another's
                read = load_config(self._config)
                problems = self._started.service.apply(self._cameras_of(read))
                problems += self._started.apply_settings(read)
        except LvmError as error:
            log.warning("not reloaded: %s", error)
            return [str(error)]
        for problem in problems:
            log.warning("%s", problem)
        return problems


def _configured(settings: Config, state: Path | None, sampler: str | None) -> list[CameraSettings]:
    cameras = list(make_camera_settings(settings, state, sampler).values())
    if not cameras:
        raise LvmError(
            "nothing to watch: name --camera N, --source PATH|URL|demo, or cameras in --config FILE"
        )
    return cameras


def _add_all(service: Service, cameras: list[CameraSettings]) -> None:
    """Add every camera that can be; the others are awaited. Raises the first reason where none could."""
    for settings in cameras:
        error = service.pending.try_add(settings)
        if error is not None and len(cameras) > 1:
            log.warning("%s is not watched: %s", settings.display_name, error)
    if not service.cameras:
        raise next(iter(service.pending.errors.values()))
