"""`lvm-edge run`: watch a source or several cameras, remember, and answer questions."""

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
from edge_runtime.interfaces.cli.run_console import RunConsole
from edge_runtime.interfaces.cli.signals import defer_signals
from edge_runtime.interfaces.startup import component_lifespan
from edge_runtime.persistence.encryption import find_key
from edge_runtime.service.camera_settings import CameraSettings, make_camera_settings, make_source_settings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.system.logs import set_up_logging
from edge_runtime.system.malloc import freeze_loaded_objects
from engines.bundle import Bundle
from engines.errors import LvmError

log = logging.getLogger(__name__)


def run(
    context: typer.Context,
    camera: Annotated[int | None, typer.Option(help="camera index")] = None,
    source: Annotated[
        str | None, typer.Option(help="path, folder, pattern, URL, gst:PIPELINE, csi://N or demo")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration")] = None,
    bundle: BundleFolder = None,
    state: Annotated[Path | None, typer.Option(help="folder of the memory")] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="auto, tensorrt, onnxruntime-cuda, openvino or onnxruntime",
            autocompletion=completion.complete_backend,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="neural, svd-novelty, random or fifo", autocompletion=completion.complete_sampler),
    ] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT to listen on")] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="do not listen")] = False,
    for_: Annotated[
        float | None, typer.Option("--for", help="end after this many seconds of the stream")
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="go on answering when the source has ended")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answers and the summary as JSON lines")] = False,
) -> None:
    """Watch a source, or all cameras of a configuration, remember it in a fixed number of tokens and answer
    questions. SIGHUP reads the cameras and the broker from the configuration again."""
    if for_ is not None and not 0 < for_ < float("inf"):
        raise LvmError(f"--for must be a number of seconds above 0, got {for_}")
    if camera is not None and source is not None:
        raise LvmError("name --camera or --source, not both")
    settings = load_config(config) if config else Config()
    set_up_logging(settings.logs.model_copy(update=context.obj or {}))
    single = str(camera) if camera is not None else source
    cameras = (
        [make_source_settings(settings, single, state, sampler)]
        if single
        else _configured_cameras(settings, state, sampler)
    )
    model = settings.model
    with defer_signals():
        opened = Bundle.open(bundle or model.bundle or default_bundle())
        engines = Engines.load(opened, backend or model.backend, model.threads)
        with Service(engines, key=find_key(settings.state.encryption.key_file)) as service:
            _add_all(service, cameras)
            file = config if config is not None and config.exists() else None
            started = Run(service, settings, file, listen=http, no_http=no_http)
            if config is not None and not single:
                started.reload = _Reloader(
                    started, config, lambda read: _configured_cameras(read, state, sampler)
                )
            with component_lifespan(started):
                freeze_loaded_objects()
                RunConsole(started, as_json=as_json).run(for_, stay)
            for error in service.pending.errors.values():
                raise error


class _Reloader:
    """Applies the cameras and the broker of the configuration file as it is now. Returns the problems.

    An invalid file changes nothing. A problem with one camera does not affect the others.
    """

    def __init__(
        self, started: Run, config: Path, cameras_of: Callable[[Config], list[CameraSettings]]
    ) -> None:
        self._started, self._config, self._cameras_of = started, config, cameras_of
        self._lock = threading.Lock()

    def __call__(self) -> list[str]:
        try:
            with self._lock:  # SIGHUP and PUT /api/v1/config use different threads
                read = load_config(self._config)
                problems = self._started.service.apply(self._cameras_of(read))
                problems += self._started.apply_settings(read)
        except LvmError as error:
            log.warning("not reloaded: %s", error)
            return [str(error)]
        for problem in problems:
            log.warning("%s", problem)
        return problems


def _configured_cameras(settings: Config, state: Path | None, sampler: str | None) -> list[CameraSettings]:
    cameras = list(make_camera_settings(settings, state, sampler).values())
    if not cameras:
        raise LvmError(
            "nothing to watch: name --camera N, --source PATH|URL|demo, or cameras in --config FILE"
        )
    return cameras


def _add_all(service: Service, cameras: list[CameraSettings]) -> None:
    """Add all cameras; those that fail are tried again later. Raises the first error if all fail."""
    for settings in cameras:
        error = service.pending.try_add(settings)
        if error is not None and len(cameras) > 1:
            log.warning("%s is not watched: %s", settings.display_name, error)
    if not service.cameras:
        raise next(iter(service.pending.errors.values()))
